"""Charts are figures as plotly knows them, of the numbers that they were given, with every name escaped."""

import json
import re
from html import unescape
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.page import charts
from spot.page.data import view_library
from spot.page.runs import CurveView, RunView, TransferView
from spot.storage.text import printable
from spot.study.analysis.findings import analyse
from spot.study.report.figures import FAMILIES
from tests.support.pages import HOSTILE, filled, prompts
from tests.support.study_records import paper_like

NAMES = ("reviews", HOSTILE, "a" * 300, "glue/sst2")


def drawn(chart: charts.Chart) -> Any:
    """The figure as plotly's own classes take it, which refuse what they do not know."""
    from plotly.graph_objects import Figure

    text = re.sub(r'"var\(--[a-z0-9-]+\)"', '"#123456"', json.dumps(chart["figure"], allow_nan=False))
    return Figure(json.loads(text))


def texts(value: Any) -> list[str]:
    """All texts of a figure."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for part in value for text in texts(part)] if isinstance(value, list) else []


def check(chart: charts.Chart) -> Any:
    """Check what holds for every chart."""
    figure = drawn(chart)
    assert chart["title"] and chart["text"]
    width = len(chart["table"]["columns"])
    assert chart["table"]["rows"] and all(len(row) == width for row in chart["table"]["rows"])
    for text in texts(chart["figure"]):
        assert not re.search(r"<(?!br>)", text), text
        assert printable(text) == text
    return figure


@pytest.fixture
def library(tmp_path):
    return view_library(filled(tmp_path, prompts(*NAMES)))


@pytest.fixture(scope="module")
def findings():
    records = paper_like(4, 3, 2)
    return analyse(records, ("best", "average", "none"), (1, 3), "mean")


@given(st.text())
def test_plotly_shows_a_name_letter_by_letter(text):
    spelled = charts.spelled(text)
    assert ("<" not in spelled and unescape(spelled) == printable(text)) or "&" in printable(text)


def test_a_long_name_keeps_its_end():
    assert charts.short("x" * 100 + "/sst2").endswith("/sst2") and len(charts.short("x" * 100)) == charts.MOST_LETTERS
    assert charts.short("glue/sst2") == "glue/sst2"


def test_the_map_has_every_task_once(library):
    [group] = library.groups
    known = {prompt.digest: prompt for prompt in library.prompts}
    figure = check(charts.task_map(group, known))
    assert sorted(digest for trace in figure.data for digest in trace.customdata) == sorted(group.digests)
    assert [trace.name for trace in figure.data] == ["GLUE", "own task"]
    for trace in figure.data:
        for x, y, digest in zip(trace.x, trace.y, trace.customdata, strict=True):
            assert (x, y) == pytest.approx(group.places[group.digests.index(digest)], abs=1e-3)


def test_the_cells_are_the_cosines_in_the_order_of_the_tree(library):
    [group] = library.groups
    known = {prompt.digest: prompt for prompt in library.prompts}
    figure = check(charts.similarity_cells(group, known))
    expected = group.cosines[np.ix_(group.order, group.order)]
    np.testing.assert_allclose(np.array(figure.data[0].z, float), expected, atol=1e-4)
    # The leaves of the tree that is drawn stand at 0, 1, 2, ...
    assert {round(x, 6) for x in figure.data[1].x if x is not None} >= set(range(len(group.order)))


def test_gains_that_are_not_known_stay_empty():
    gains = {("good", "t"): 3.0, ("bad", "t"): -1.0, ("good", "u"): 1.0}
    chart = charts.gain_cells(gains, "Gains", "Some.", "points")
    figure = check(chart)
    assert figure.data[0].z == ([3.0, 1.0], [-1.0, None])
    assert chart["table"]["rows"] == [["good", 3.0, 1.0], ["bad", -1.0, None]]


def test_every_arm_has_its_interval(findings):
    chart = charts.arm_scores(findings.arms)
    figure = check(chart)
    [trace] = figure.data
    for arm, gain, up, down in zip(
        sorted(findings.arms, key=lambda arm: arm.gain),
        trace.x,
        trace.error_x.array,
        trace.error_x.arrayminus,
        strict=True,
    ):
        assert gain == pytest.approx(arm.gain, abs=1e-3)
        assert (gain - down, gain + up) == pytest.approx(arm.gain_interval, abs=2e-3)
    assert len(chart["table"]["rows"]) == len(findings.arms)


def test_cost_and_quality_hold_every_arm_with_a_cost(findings):
    chart = charts.cost_quality(findings.arms, FAMILIES)
    figure = check(chart)
    costly = [arm for arm in findings.arms if arm.cost is not None]
    assert sorted(row[0] for row in chart["table"]["rows"]) == sorted(arm.arm for arm in costly)
    points = {(x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True)}
    named = [arm for arm in costly if arm.arm in chart["text"]]
    assert points == {(round(arm.cost, 3), round(arm.gain, 3)) for arm in costly if arm not in named}


def test_pairs_of_a_study(findings):
    figure = check(charts.study_gains(findings.transfers))
    assert sum(value is not None for row in figure.data[0].z for value in row) == len(findings.transfers)


def test_learning_curves_are_the_points_that_were_given():
    curves = [CurveView(f"{HOSTILE} {number}", ((0, 1.0), (5, 2.0 + number))) for number in range(20)]
    figure = check(charts.learning_curves(curves, "Curves"))
    assert [tuple(zip(trace.x, trace.y, strict=True)) for trace in figure.data] == [curve.points for curve in curves]
    looks = {(trace.line.dash, trace.marker.color) for trace in figure.data}
    assert len({trace.line.dash for trace in figure.data}) == 3 and looks


def test_runs_without_a_curve_are_not_drawn():
    run = RunView(
        name="spot-0", label="l", step=0, steps=0, state="running", seeds=0, best=None, report=None, seconds=0, curve=()
    )
    begun = RunView(**{**vars(run), "curve": ((0, 1.0),)})
    assert len(check(charts.transfer_curves(TransferView(name="x", target="t", runs=(run, begun)))).data) == 1


def test_more_tasks_than_can_be_drawn_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "MOST_CELLS", 2)
    view = view_library(filled(tmp_path, prompts("a", "b", "c")))
    chart = charts.similarity_cells(view.groups[0], {prompt.digest: prompt for prompt in view.prompts})
    assert len(check(chart).data) == 1 and "The first 2 of 3." in chart["text"]


def test_many_columns_have_no_names_below():
    gains = {("s", f"t{number}"): float(number) for number in range(charts.MANY + 1)}
    figure = check(charts.gain_cells(gains, "Gains", "Some.", "points"))
    assert figure.layout.xaxis.ticktext == () and len(figure.layout.yaxis.ticktext) == 1


def test_equal_tasks_are_drawn(tmp_path):
    [first] = prompts("a")
    twins = [first, *prompts("b")]
    view = view_library(filled(tmp_path, twins))  # of one seed, and so of one key
    known = {prompt.digest: prompt for prompt in view.prompts}
    check(charts.task_map(view.groups[0], known))
    check(charts.similarity_cells(view.groups[0], known))
