"""Libraries, studies and transfers for the tests of the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt, save
from spot.reading import Reading
from spot.storage.run_dir import RunDir
from spot.study.records import CELLS, write_record
from spot.training.result import CurvePoint, RunResult, write_results
from tests.support.prompts import library_prompt
from tests.support.study_records import paper_like

# What a stranger may call a task: markup, an end of a script, a template, controls, a mark of direction, a link.
HOSTILE = (
    "</script><script>document.title = 'taken'</script>"
    "<img src=https://example.org/x onerror=\"document.title='taken'\">"
    "{{ 7 * 7 }}<!--&amp;\u202e\x1b[31m'\"<a href='javascript:document.title=1'>link</a>%{x}"
)
LABELS = (("0", "no"), ("1", "yes"))


def filled(folder: Path, prompts: Sequence[SoftPrompt]) -> Library:
    """A library whose folder holds prompts, whether or not they belong together."""
    library = Library.create(folder)
    for prompt in prompts:
        save(prompt, folder / "prompts" / f"{prompt.digest}.safetensors")
    return library


def prompts(*tasks: str, **changes: Any) -> list[SoftPrompt]:
    """A prompt for each task."""
    reading = Reading(template="{text}", labels=LABELS)
    return [library_prompt(task, seed=seed, **{"reading": reading, **changes}) for seed, task in enumerate(tasks)]


def write_study(folder: Path, **changes: Any) -> Path:
    """The folder of a study's records."""
    (folder / CELLS).mkdir(parents=True)
    for record in paper_like(4, 3, 2, **changes):
        write_record(record, folder / CELLS)
    return folder


def write_run(
    folder: Path, curves: Sequence[Sequence[tuple[int, float]]], task: str = "toy", is_finished: bool = True
) -> Path:
    """The folder of one gang of a transfer: a learning curve for each seed."""
    with RunDir(folder) as run:
        run.create('task = "toy"\n', "abc123")
        for seed, curve in enumerate(curves):
            for step, score in curve:
                run.log({"task": task, "seed": seed, "step": step, "score": score, "seconds": 0.5 * step})
        if is_finished:
            write_results(run, [result(curve, task) for curve in curves])
    return folder


def result(curve: Sequence[tuple[int, float]], task: str) -> RunResult:
    """What a run with this learning curve came to."""
    points = tuple(CurvePoint(step, score, seconds=0.5 * step) for step, score in curve)
    last, best = points[-1], max(points, key=lambda point: point.score)
    return RunResult(
        task=task,
        digest="abc123",
        scores={"accuracy": best.score - 1},
        selection={"accuracy": best.score},
        step=best.step,
        steps=last.step,
        tokens=0,
        seconds=last.seconds,
        curve=points,
        reported="rows",
    )
