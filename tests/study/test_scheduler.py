"""A study at work, with workers that make up what they find: what is done, in which order, and what is left alone."""

import errno
import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from spot.errors import StorageError
from spot.storage import files
from spot.storage.files import lock
from spot.study import records
from spot.study.cells import Done, Gang, StudyPlan, finished
from spot.study.executors import GivenUp
from spot.study.scheduler import Queue
from spot.study.status import study_status


def read(made: StudyPlan) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in made.records.iterdir()}


def test_gangs_wait_for_what_they_need_and_for_nothing_else(planned):
    made = planned('strategies=["best"]')
    cells = {(cell.kind, cell.task, cell.sources, cell.seed): cell for cell in made.cells}

    def gang(*key) -> Gang:
        return Gang(tuple(cells[*key, seed] for seed in (0, 1)))

    source, plain, pair = (gang("source", "red", ()), gang("plain", "pink", ()), gang("pair", "pink", ("red",)))
    other = gang("pair", "pink", ("green",))
    queue = Queue([source, plain, pair, other])
    assert [queue.take(), queue.take(), queue.take()] == [source, plain, None]
    queue.settle(plain)
    # Nobody tunes the green source in this run, so only the red one is waited for.
    assert [queue.take(), queue.take()] == [other, None]
    queue.settle(source)
    assert [queue.take(), queue.take(), queue.waiting] == [pair, None, []]


def test_a_study_is_finished_once(planned, worker):
    made = planned()
    steps = []
    outcome = worker.run(made, progress=lambda *at: steps.append(at))
    assert worker.done == Counter(cell.kind for cell in made.cells) and worker.loaded == 1
    assert (outcome.cells, outcome.finished, outcome.new, outcome.failed) == (len(made.cells),) * 3 + ({},)
    assert steps == sorted(steps) and steps[-1] == (len(made.cells), len(made.cells))
    before = read(made)
    assert {Path(name).stem for name in before} == {cell.digest for cell in made.cells}
    again = worker.run(made)
    assert worker.items == [] and worker.loaded == 1 and again.new == 0 and read(made) == before


def test_an_interrupted_study_loses_the_gang_in_flight_alone(planned, worker):
    made = planned()
    worker.broken["pair", "pink"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        worker.run(made)
    kept = read(made)
    assert kept and len(kept) == sum(worker.done.values()) - len(worker.items[-1].gang.cells)
    worker.broken = {}
    outcome = worker.run(made)
    assert outcome.finished == len(made.cells) and outcome.new == len(made.cells) - len(kept)
    assert sum(worker.done.values()) == outcome.new and kept.items() <= read(made).items()


def test_a_kill_between_two_records_of_a_gang_leaves_none_behind(planned, worker, monkeypatch):
    made = planned()
    moved = []

    def killed(path: Path, to: Path) -> None:
        if len(moved) == 1:
            raise KeyboardInterrupt
        moved.append(os.replace(path, to))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            worker.run(made)
    assert len(read(made)) == 1
    first = worker.items[0].gang
    outcome = worker.run(made)
    assert outcome.finished == len(made.cells)
    assert not {cell for cell in first.cells} & {cell for item in worker.items for cell in item.gang.cells}


def test_a_full_disk_leaves_what_is_finished(planned, worker, monkeypatch):
    made = planned()
    real, written = os.write, []

    def full(descriptor: int, data: bytes) -> int:
        written.append(data)
        if len(written) < 12:
            return real(descriptor, data)
        real(descriptor, bytes(data)[:40])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", full)
        with pytest.raises(StorageError, match="No space left on device"):
            worker.run(made)
    before = read(made)
    assert before and len(before) == len(finished(made))
    outcome = worker.run(made)
    assert outcome.finished == len(made.cells) and before.items() <= read(made).items()


def test_prompts_that_are_missing_are_tuned_again_where_they_are_needed(planned, worker, own_cache, caplog):
    made = planned('strategies=["none"]')
    worker.run(made)
    kept = read(made)
    for path in own_cache.glob("studies/prompts/*"):
        path.unlink()
    worker.run(made)
    assert worker.items == [], "nothing needs the prompts"
    with caplog.at_level(logging.WARNING, "spot"):
        outcome = worker.run(planned('strategies=["best"]'))
    assert worker.done == {"source": 6, "plain": 4, "pair": 10} and outcome.new == 10
    assert "10 finished cells are tuned again" in caplog.text
    assert kept.items() <= read(made).items(), "their records stay as they were"


def test_a_diverged_source_has_a_record_and_so_have_its_pairs(planned, worker):
    made = planned('strategies=["best"]')
    worker.diverged.add(("source", "red", 1))
    outcome = worker.run(made)
    assert outcome.finished == len(made.cells) and not outcome.failed
    assert set(outcome.diverged) == {
        "source vocabulary -> red, seed 1",
        "pair red -> blue, seed 1",
        "pair red -> pink, seed 1",
    }
    assert "it starts from source vocabulary -> red, seed 1" in outcome.diverged["pair red -> pink, seed 1"]
    assert worker.run(made).new == 0 and worker.items == []


@pytest.mark.parametrize("trouble", [Done(reason="no rows here"), GivenUp("3 workers died of it")])
def test_what_is_given_up_is_said_and_tried_again(planned, worker, trouble):
    made = planned('strategies=["best"]')
    worker.broken["source", "red"] = trouble
    outcome = worker.run(made)
    assert outcome.finished == len(made.cells) - 2 - 4
    assert outcome.failed["source vocabulary -> red, seeds 0, 1"] == trouble.reason
    assert "could not be tuned" in outcome.failed["pair red -> pink, seeds 0, 1"] and len(outcome.failed) == 3
    worker.broken = {}
    assert worker.run(made).finished == len(made.cells) and worker.done == {"source": 2, "pair": 4}


def test_arms_on_other_rows_are_refused(planned, worker):
    worker.run(planned('strategies=["none"]'))
    made = planned('strategies=["best"]')
    stranger = planned('strategies=["none"]').cells
    found = {cell.digest: cell for cell in stranger}
    for path in made.records.glob("*.json"):
        if found[path.stem].kind == "plain" and found[path.stem].task == "pink":
            records.write_record(replace(records.read_record(path), data="others"), made.records)
    outcome = worker.run(made)
    assert {title.split(" -> ")[1] for title in outcome.failed} == {"pink, seeds 0, 1"} and len(outcome.failed) == 3
    for reason in outcome.failed.values():
        assert "its report rows are not those of 2 finished cells of pink" in reason and str(made.records) in reason


def test_a_damaged_record_is_named_counts_as_none_and_is_made_again(planned, worker, caplog):
    made = planned()
    worker.run(made)
    path = next(made.records.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    [reason] = study_status(made).wrong.values()
    assert f"{path.name} is no record" in reason and "Delete it" in reason
    assert worker.run(made).new == 1 and reason in caplog.text
    assert path.read_bytes() == whole and study_status(made).wrong == {}


def test_two_runs_of_one_study_are_refused(planned, worker):
    made = planned()
    with lock(made.folder / "study"), pytest.raises(StorageError, match="in use by another writer"):
        worker.run(made)
    assert worker.items == []


def test_cells_that_left_the_study_are_not_its_own(planned, worker):
    worker.run(planned())
    made = planned('strategies=["none"]')
    assert set(finished(made)) == {cell.digest for cell in made.cells} < {p.stem for p in made.records.iterdir()}
