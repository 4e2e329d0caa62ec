"""A study of four tasks of a few rows, and a worker that makes up what it finds."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from spot.prompts.prompt import to_bytes
from spot.retrieval.embeddings import recorded_summaries
from spot.study import scheduler
from spot.study.cells import Cell, Done, StudyPlan, Work, read_plan, record_of
from spot.study.executors import GivenUp, serial
from spot.study.records import Record
from spot.training.result import CurvePoint
from tests.support.prompts import library_prompt

STUDY = """
name = "toy"
sources = ["red.toml", "green.toml", "blue.toml"]
targets = ["blue.toml", "pink.toml"]
seeds = 2
rows = "fixed"
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


def write_tasks(folder: Path) -> None:
    """The files of the study's tasks, 30 rows each."""
    for word in WORDS:
        rows = "".join(f"a {word} row with the number {number:04d},{number % 2}\n" for number in range(30))
        (folder / f"{word}.csv").write_text(f"text,label\n{rows}")
        (folder / f"{word}.toml").write_text(f'name = "{word}"\nrows = "{word}.csv"\n')


def plan_small_study(folder: Path, *overrides: str) -> StudyPlan:
    """The study in a folder with its tasks, with some of its settings changed."""
    path = folder / "study.toml"
    path.write_text(STUDY)
    return read_plan(path, overrides)


class MadeUpWorker:
    """Makes up results that depend on the cell alone, and remembers what it was given."""

    def __init__(self) -> None:
        self.items: list[Work] = []
        self.loaded = 0
        self.broken: dict[tuple[str, str], BaseException | Done | GivenUp] = {}
        self.diverged: set[tuple[str, str, int]] = set()

    def load(self) -> str:
        self.loaded += 1
        return "held"

    def work(self, held: str, item: Work) -> Done | GivenUp:
        assert held == "held"
        self.items.append(item)
        first = item.gang.cells[0]
        trouble = self.broken.get((first.kind, first.task))
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            return trouble
        results = [self.result_of(cell) for cell in item.gang.cells]
        return Done(tuple(record for record, _ in results), tuple(content for _, content in results))

    def result_of(self, cell: Cell) -> tuple[Record, bytes]:
        if (cell.kind, cell.task, cell.seed) in self.diverged:
            return record_of(cell, reason="it diverged"), b""
        number = int(sha256(cell.digest.encode()).hexdigest()[:8], 16)
        prompt = library_prompt(cell.task, seed=number % 1000)
        if cell.config.key_step is None:
            prompt = replace(prompt, key=None, key_recipe=None)
        score = float(number % 100)
        record = record_of(
            cell,
            sources=cell.sources or self.chosen(cell),
            scores={"accuracy": score},
            score=score,
            curve=(CurvePoint(0, score),),
            rows={"train": 20, "select": 5, "report": 5, "overlap": 0},
            data=f"rows of {cell.task}",
            embedding={} if prompt.key is None else recorded_summaries(prompt),
        )
        return record, to_bytes(prompt)

    @staticmethod
    def chosen(cell: Cell) -> tuple[str, ...]:
        """The tasks of the nearest sources, of a cell that chooses."""
        return tuple(task for task in WORDS[:3] if task != cell.task)[: cell.k]

    def run(self, plan: StudyPlan, **options) -> scheduler.StudyOutcome:
        self.items = []
        return scheduler.run(plan, serial, self.load, self.work, **options)

    @property
    def done(self) -> Counter:
        return Counter(cell.kind for item in self.items for cell in item.gang.cells)
