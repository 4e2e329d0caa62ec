"""A study at work, with workers that make up what they find: what is done, in which order, and what is left alone."""

import errno
import json
import logging
import os
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from spot.errors import StorageError, StudyError
from spot.prompts.overlap import contains
from spot.prompts.prompt import from_bytes, save, to_bytes
from spot.storage import files
from spot.storage.files import lock
from spot.study import records, scheduler
from spot.study.cells import Cell, Done, StudyPlan, Work, finished, read_plan, record_of
from spot.study.executors import GivenUp, serial
from spot.study.records import prompt_file
from spot.study.status import KindStatus, study_status
from tests.support.prompts import library_prompt

STUDY = """
name = "toy"
sources = ["red.toml", "green.toml", "blue.toml"]
targets = ["blue.toml", "pink.toml"]
seeds = 2
starts = ["vocabulary"]
strategies = ["best", "average", "mixture"]
k = [2]
[source]
key_step = 4
steps = 6
[target]
steps = 8
eval_every = 2
"""
WORDS = ("red", "green", "blue", "pink")


@pytest.fixture
def planned(tmp_path):
    for word in WORDS:
        rows = "".join(f"a {word} row with the number {number:04d},{number % 2}\n" for number in range(30))
        (tmp_path / f"{word}.csv").write_text(f"text,label\n{rows}")
        (tmp_path / f"{word}.toml").write_text(f'name = "{word}"\nrows = "{word}.csv"\n')

    def make(*overrides: str) -> StudyPlan:
        path = tmp_path / "study.toml"
        path.write_text(STUDY)
        return read_plan(path, overrides)

    return make


class Worker:
    """Makes up results that depend on the cell alone, and remembers what it was given."""

    def __init__(self) -> None:
        self.items: list[Work] = []
        self.loaded = 0
        self.broken: dict[tuple[str, str], Exception | Done] = {}
        self.diverged: set[tuple[str, str, int]] = set()

    def load(self) -> str:
        self.loaded += 1
        return "held"

    def work(self, held: str, item: Work) -> Done:
        assert held == "held"
        self.items.append(item)
        first = item.gang.cells[0]
        trouble = self.broken.get((first.kind, first.task))
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            return trouble
        found = [self.found(cell) for cell in item.gang.cells]
        return Done(tuple(record for record, _ in found), tuple(content for _, content in found))

    def found(self, cell: Cell) -> tuple[records.Record, bytes]:
        if (cell.kind, cell.task, cell.seed) in self.diverged:
            return record_of(cell, reason="it diverged"), b""
        number = int(sha256(cell.digest.encode()).hexdigest()[:8], 16)
        made = library_prompt(cell.task, seed=number % 1000)
        if cell.config.key_step is None:
            made = replace(made, key=None, key_recipe=None)
        return record_of(cell, score=float(number % 100), data=f"rows of {cell.task}"), to_bytes(made)

    def run(self, made: StudyPlan, **options) -> scheduler.StudyOutcome:
        self.items = []
        return scheduler.run(made, serial, self.load, self.work, **options)

    @property
    def done(self) -> Counter:
        return Counter(cell.kind for item in self.items for cell in item.gang.cells)


@pytest.fixture
def worker() -> Worker:
    return Worker()


def read(made: StudyPlan) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in made.records.iterdir()}


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


def test_transfers_start_from_the_prompts_of_their_seed(planned, worker):
    made = planned()
    worker.run(made)
    prompts = {cell.digest: prompt_file(cell.digest).read_bytes() for cell in made.cells}
    pairs = [item for item in worker.items if item.gang.cells[0].kind == "pair"]
    assert len(pairs) == 2 + 3
    for item in pairs:
        assert list(item.starts) == [(prompts[cell.needs[0]],) for cell in item.gang.cells]
        assert item.sources == (item.gang.cells[0].sources,) * 2


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_pairs_have_their_similarities(planned, worker):
    made = planned()
    worker.run(made)
    for cell in made.cells:
        if cell.kind == "pair":
            record = records.read(made.records / f"{cell.digest}.json")
            source, target = (from_bytes(prompt_file(need).read_bytes()) for need in cell.needs)
            ours, theirs = target.key - target.start, source.key - source.start
            table = np.array([[cosine(one, other) for other in theirs] for one in ours])
            assert record.similarity["mean"] == pytest.approx(cosine(ours.mean(axis=0), theirs.mean(axis=0)), 1e-5)
            assert record.similarity["token"] == pytest.approx(table.mean(), abs=1e-6)
            assert record.similarity["max"] == pytest.approx(table.max(axis=1).mean(), abs=1e-6)


def test_averages_and_mixtures_use_the_nearest(planned, worker):
    made = planned()
    worker.run(made)
    found = {record.digest: record for record in records.read_all(made.records)}
    checked = 0
    for item in worker.items:
        if item.gang.cells[0].kind not in ("average", "mixture"):
            continue
        own = dict(zip(item.gang.cells, range(len(item.gang.cells)), strict=True))
        for cell, at in own.items():
            near = {
                one.sources[0]: found[one.digest].similarity["mean"]
                for one in made.cells
                if (one.kind, one.task, one.seed) == ("pair", cell.task, cell.seed)
            }
            best = sorted(near, key=near.get, reverse=True)[:2]
            assert list(item.sources[at]) == best
            kept = np.clip([near[task] for task in best], 0, None)
            if cell.kind == "average":
                assert item.weights[at] == pytest.approx(tuple(kept / kept.sum()))
            else:
                assert [Path(name).stem for name in item.mixed[at]] == best
            checked += 1
    refused = [record for record in found.values() if "no source has a similarity above 0" in record.reason]
    assert checked + len(refused) == 2 * 2 * 2 and checked


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
            records.write(replace(records.read(path), data="others"), made.records)
    outcome = worker.run(made)
    assert {title.split(" -> ")[1] for title in outcome.failed} == {"pink, seeds 0, 1"} and len(outcome.failed) == 3
    for reason in outcome.failed.values():
        assert "its report rows are not those of 2 finished cells of pink" in reason and str(made.records) in reason


def test_report_rows_are_compared_with_what_other_sources_train_on(planned, worker):
    made = planned('strategies=["best"]', "source={key_step=4, steps=6, train_rows=5}")
    worker.run(made)
    texts = {word: [f"a {word} row with the number {number:04d}" for number in range(30)] for word in WORDS}
    for item in worker.items:
        first = item.gang.cells[0]
        seen = {
            word: sum(any(contains(sketch, text) for sketch in item.sketches) for text in texts[word]) for word in WORDS
        }
        # A source's run asks nobody; a target's own rows are not in the way of its report.
        expected = dict.fromkeys({"red", "green", "blue"} - {first.task}, 5) if first.kind != "source" else {}
        assert seen == {word: expected.get(word, 0) for word in WORDS}


def test_existing_prompts_are_taken_as_they_are(planned, worker, tmp_path):
    save(library_prompt("old"), tmp_path / "old.safetensors")
    made = planned(
        'sources=["old.safetensors"]',
        "k=[1]",
        'strategies=["best"]',
        "target={length=3, key_step=40, steps=40, eval_every=20}",
    )
    outcome = worker.run(made)
    assert worker.done == {"plain": 4, "pair": 4} and outcome.finished == len(made.cells) == 9
    [source] = [record for record in records.read_all(made.records) if record.kind == "source"]
    assert source.score == 84.5 and set(source.embedding) == {"mean", "token"} and source.steps == 0
    for item in worker.items:
        assert all(from_bytes(content).task == "old" for starts in item.starts for content in starts)


def test_a_damaged_record_is_named(planned, worker):
    made = planned()
    worker.run(made)
    path = next(made.records.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    for ask in (lambda: worker.run(made), lambda: study_status(made)):
        with pytest.raises(StudyError, match=f"{path.name} is no record.*Delete it"):
            ask()
    path.unlink()
    assert worker.run(made).new == 1


def test_two_runs_of_one_study_are_refused(planned, worker):
    made = planned()
    with lock(made.folder / "study"), pytest.raises(StorageError, match="in use by another writer"):
        worker.run(made)
    assert worker.items == []


def test_the_status_counts_by_kind_and_shows_what_has_begun(planned, worker, own_cache):
    made = planned('strategies=["best"]')
    worker.diverged.add(("source", "red", 1))
    worker.broken["pair", "pink"] = Done(reason="no rows here")
    worker.run(made)
    begun = next(
        item.gang
        for item in worker.items
        if item.gang.cells[0].kind == "pair"
        and item.gang.cells[0].task == "pink"
        and item.gang.cells[0].sources == ("green",)
    )
    folder = own_cache / "studies" / "runs" / begun.digest
    folder.mkdir(parents=True)
    lines = [{"step": step, "score": 50.0} for step in (0, 2, 4)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status = study_status(made)
    assert status.kinds["source"] == KindStatus(6, 5, 1, 0, 0)
    assert status.kinds["plain"] == KindStatus(4, 4, 0, 0, 0)
    assert status.kinds["pair"] == KindStatus(10, 3, 2, 2, 3)
    [one] = status.running
    assert (one.title, one.step, one.steps) == ("pair green -> pink, seeds 0, 1", 4, 8) and 0 <= one.idle < 60


def test_cells_that_left_the_study_are_not_its_own(planned, worker):
    worker.run(planned())
    made = planned('strategies=["none"]')
    assert set(finished(made)) == {cell.digest for cell in made.cells} < {p.stem for p in made.records.iterdir()}
