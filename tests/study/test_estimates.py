"""What a study will take: counted where rows and backbone are here, and why not where they are not."""

import pytest

from spot.study import estimates
from spot.study.estimates import PROBE_STEPS, Estimate, estimate, in_words, overview


def test_what_is_known_is_said_and_what_is_not():
    assert in_words(Estimate()) == "text tokens unknown, time unknown, disk unknown"
    known = Estimate(tokens=12_345, seconds=5_400.0, disk=2_500_000)
    assert in_words(known) == "about 12,345 text tokens, 1.5 hours on one device, 2.5 MB of disk"


def test_a_backbone_that_is_not_here_is_not_fetched(planned):
    guess = estimate(planned("backbone=owner/name"), {}, None, None)
    assert guess.tokens is None and guess.unknown == (
        "owner/name is no folder here: --probe fetches it to count and to time",
    )


def test_nothing_is_left_of_a_finished_study(planned, worker):
    plan = planned()
    records = {cell.digest: worker.result_of(cell)[0] for cell in plan.cells}
    assert estimate(plan, records, None, None) == Estimate(tokens=0, seconds=0.0, disk=0)


def test_tokens_are_those_of_the_rows_and_steps(planned, worker, tiny_folder):
    plan = planned(f"backbone={tiny_folder('llama')}")
    guess = estimate(plan, {}, None, False)
    assert guess.seconds is None and guess.unknown == ("not timed: --probe does",)
    source = next(cell for cell in plan.cells if (cell.kind, cell.task) == ("source", "red"))
    rest = estimate(plan, {source.digest: worker.result_of(source)[0]}, None, False)
    row = "sentence: a red row with the number 0000\nAnswer:"  # one token a byte
    assert guess.tokens - rest.tokens == source.config.steps * source.config.batch_size * len(row)


def test_what_was_timed_once_is_kept(planned, tiny_folder, monkeypatch):
    calls = []
    monkeypatch.setattr(estimates, "seconds_of", lambda runs, backbone, steps: calls.append(steps) or 60.0)
    plan = planned(f"backbone={tiny_folder('llama')}")
    first, second = estimate(plan, {}, None, None), estimate(plan, {}, None, None)
    assert first == second and first.seconds > 60 and calls == [PROBE_STEPS]


def test_rows_that_are_not_here_are_said(planned, tiny_folder, tmp_path):
    plan = planned(f"backbone={tiny_folder('llama')}")
    (tmp_path / "red.csv").unlink()
    guess = estimate(plan, {}, None, False)
    assert guess.tokens is None and guess.disk > 0 and guess.unknown[0].startswith("the rows are not here: ")


@pytest.mark.parametrize("finished", [False, True])
def test_the_overview_counts_cells_gangs_and_steps(planned, worker, finished):
    plan = planned()
    records = {cell.digest: worker.result_of(cell)[0] for cell in plan.cells if finished and cell.kind == "source"}
    value = overview(plan, records, Estimate(tokens=1))
    sources = value["kinds"]["source"]
    assert (sources["cells"], sources["finished"]) == (6, 6 if finished else 0)
    assert sources["steps"] == (0 if finished else 6 * 6) and sources["gangs"] == (0 if finished else 3)
    assert value["tokens"] == 1 and len(value["cells"]) == len(plan.cells)
