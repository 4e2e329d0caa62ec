"""The pictures of a study: what they show, that they can be read, and that they are the same each time."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from spot.rendering.drawings import COLOURS
from spot.study.analysis.findings import Findings, analyse
from spot.study.analysis.pairs import task_map
from spot.study.report.figures import FAMILIES, MARKERS, Picture, cost_quality, draw, heat_map, task_tree
from tests.support.study_records import embedding, paper_like, study

SVG = "{http://www.w3.org/2000/svg}"
PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = "</text><script>alert('$x^2$')</script>&"


@pytest.fixture(scope="module")
def found() -> Findings:
    return analyse(paper_like(5, 4, 2), ("best", "race"), (1, 3), "mean")


@pytest.fixture(scope="module")
def pictures(found: Findings) -> dict[str, Picture]:
    return {picture.name: picture for picture in draw(found)}


def texts(picture: Picture) -> list[str]:
    """Every text that a reader sees, in the order of the file."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")]


def fills(picture: Picture) -> list[str]:
    """The colours of the cells, in the order of the file: rows of sources, columns of targets."""
    root = ElementTree.fromstring(picture.svg)
    mesh = next(node for node in root.iter(f"{SVG}g") if "QuadMesh" in (node.get("id") or ""))
    return [re.search(r"fill: (#\w+)", node.get("style")).group(1) for node in mesh.iter(f"{SVG}path")]


def test_all_pictures_are_there_and_are_images(pictures: dict[str, Picture]):
    assert list(pictures) == ["heat-map", "similarity-map", "similarity-gain", "cost-quality"]
    for picture in pictures.values():
        assert picture.png.startswith(PNG)
        assert picture.svg.startswith("<svg") and "<script" not in picture.svg and "<image" not in picture.svg
        links = [link for link in re.findall(r"https?://[^\"'\s<]+", picture.svg)]
        assert all(link.startswith("http://www.w3.org/") for link in links)


def test_the_heat_map_has_every_reduction_and_the_most_helpful_source_on_top(
    found: Findings, pictures: dict[str, Picture]
):
    shown = texts(pictures["heat-map"])
    sources = sorted({one.source for one in found.transfers})
    means = {s: np.mean([one.rer for one in found.transfers if one.source == s]) for s in sources}
    order = sorted(sources, key=lambda source: -means[source])
    assert [text for text in shown if text.startswith("source/")] == order
    targets = sorted({one.target for one in found.transfers})
    assert [text for text in shown if text.startswith("target/")] == targets
    rer = {(one.source, one.target): one.rer for one in found.transfers}
    numbers = [f"{round(rer[s, t]) + 0:.0f}" for s in order for t in targets]
    cells = [text for text in shown if re.fullmatch(r"-?\d+", text)]
    assert cells[: len(numbers)] == numbers or cells[-len(numbers) :] == numbers
    assert "-0" not in shown


def test_white_is_zero_and_both_ends_are_as_far_from_it():
    gains = {"a": -30.0, "b": -10.0, "c": 0.0, "d": 10.0, "e": 15.0}
    pairs = {(name, target): (50.0 + gain,) for name, gain in gains.items() for target in "tu"}
    found = analyse(study({"t": (50.0,), "u": (50.0,)}, pairs, dict.fromkeys(pairs, 0.1)), (), (), "mean")
    rows = fills(heat_map(found.transfers))[::2]  # e, d, c, b, a
    light = [[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in rows]
    assert min(light[2]) > 240  # 0 %
    assert light[1][2] > light[1][0] and light[3][0] > light[3][2]  # 20 % is blue, -20 % red
    assert abs(sum(light[1]) - sum(light[3])) < 60  # as strong as each other
    assert rows[4] != rows[3]


def test_few_extremes_do_not_wash_out_the_rest(found: Findings):
    far = [replace(one, rer=-5000.0) if at == 0 else one for at, one in enumerate(found.transfers)]
    assert len(set(fills(heat_map(far)))) > 10
    assert "-5000" in texts(heat_map(far))


def test_a_missing_pair_is_a_dash(found: Findings):
    assert texts(heat_map(found.transfers[1:])).count("-") == 1


def test_the_map_has_similar_tasks_beside_each_other(found: Findings, pictures: dict[str, Picture]):
    shown = texts(pictures["similarity-map"])
    names = [
        f"{found.tasks.names[at]} *" if found.tasks.targets[at] else found.tasks.names[at] for at in found.tasks.order
    ]
    assert [text for text in shown if re.match(r"(source|target)/", text)] == names * 2


def test_a_large_map_has_no_room_for_numbers():
    shown = texts(task_tree(task_map(paper_like(15, 2, 1))))
    assert not any(re.fullmatch(r"-?0\.\d\d", text) for text in shown)


def test_a_small_map_has_its_cosines(found: Findings, pictures: dict[str, Picture]):
    shown = texts(pictures["similarity-map"])
    for row in found.tasks.cosines:
        for cosine in row:
            assert f"{round(cosine, 2) + 0:.2f}" in shown


def test_each_target_has_its_points_and_its_r(found: Findings, pictures: dict[str, Picture]):
    picture = pictures["similarity-gain"]
    shown = texts(picture)
    for one in found.correlations:
        assert one.target in shown and f"r {one.pearson:+.2f}, p {one.p:.2g}" in shown
    root = ElementTree.fromstring(picture.svg)
    marks = [node for node in root.iter(f"{SVG}g") if "PathCollection" in (node.get("id") or "")]
    assert [len(list(group.iter(f"{SVG}use"))) for group in marks] == [5] * 4


def test_costs_have_names_numbers_and_units(pictures: dict[str, Picture]):
    shown = texts(pictures["cost-quality"])
    assert {"plain tuning", "best of k nearest", "race of k nearest", "oracle", "random source"} <= set(shown)
    assert "text tokens trained on the target (multiples of one plain run)" in shown
    assert any("below, not drawn: frozen model" in text for text in shown)
    assert {"1", "3"} <= set(shown)


@pytest.mark.parametrize("few", [paper_like(1, 1, 1), paper_like(2, 1, 2)])
def test_small_studies_are_drawn_without_a_warning(few):
    found = analyse(few, ("best", "race"), (1,), "mean")
    assert {picture.name for picture in draw(found)} >= {"heat-map", "cost-quality"}


def test_tasks_that_are_all_alike_have_a_map_without_a_tree():
    alike = [replace(one, embedding=embedding(1)) if one.embedding else one for one in paper_like(2, 1, 1)]
    assert {"source/00", "target/00 *", "1.00"} <= set(texts(task_tree(task_map(alike))))


def test_what_has_no_picture_is_not_drawn():
    sources = [one for one in paper_like(1, 1, 1) if one.kind == "source"]
    assert draw(analyse(sources, (), (), "mean")) == ()


def test_hostile_names_are_letters():
    records = [replace(one, sources=tuple(HOSTILE for _ in one.sources)) for one in paper_like(1, 1, 1)]
    picture = heat_map(analyse(records, (), (), "mean").transfers)
    assert "<script" not in picture.svg and HOSTILE in texts(picture)


def test_no_two_families_look_alike():
    looks = [(COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)]) for at in range(len(set(FAMILIES.values())))]
    assert len(looks) == len(set(looks))


def test_the_same_findings_give_the_same_bytes(found: Findings, pictures: dict[str, Picture]):
    assert cost_quality(found.arms) == pictures["cost-quality"]


def test_pictures_in_one_page_share_no_id(pictures: dict[str, Picture]):
    ids = [one for picture in pictures.values() for one in re.findall(r'\bid="([^"]+)"', picture.svg)]
    assert len(ids) == len(set(ids))
