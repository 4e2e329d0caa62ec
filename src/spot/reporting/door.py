"""Report on a prompt, a run, a transfer or a tuned model: `report`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spot.errors import SpotError, did_you_mean
from spot.evaluation.answers import measured_calibration
from spot.evaluation.door import MixtureScores, TaskScores, evaluate
from spot.evaluation.predictions import Progress
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt
from spot.rendering.html import render
from spot.reporting.page import report_page
from spot.reporting.subject import Subject, read_subject
from spot.storage.files import write_whole
from spot.storage.values import plain
from spot.tasks import mixtures, registry
from spot.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class PromptReport:
    """What is known of a prompt, a run, a transfer or a tuned model.

    Attributes:
        subject: what it is about: prompt, curves, settings.
        scored: scores, classes and predictions; None where no rows were at hand.
        missing: what could not be shown, and how to get it, in sentences.
    """

    subject: Subject
    scored: TaskScores | MixtureScores | None = None
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        subject, scored = self.subject, self.scored
        members = () if scored is None else scored.members if isinstance(scored, MixtureScores) else (scored,)
        calibrations = {
            member.task: measured.to_json()
            for member in members
            if (measured := measured_calibration(member.examples, member.predictions)) is not None
        }
        prompt = subject.prompt
        return {
            "kind": subject.kind,
            "task": subject.task,
            "place": subject.place,
            "prompt": subject.prompt_file or None,
            "model": None if subject.model is None else str(subject.model),
            "digest": None if prompt is None else prompt.digest,
            "scores": None if scored is None else scored.to_json(),
            "tuned_scores": {} if prompt is None else dict(prompt.scores),
            "frozen_scores": {} if prompt is None else dict(prompt.frozen_scores),
            "calibration": calibrations,
            "curves": {gang.name: plain(gang.curves) for gang in subject.gangs},
            "settings": plain(dict(subject.settings)),
            "missing": list(self.missing),
        }

    def save(self, path: Path | str, command: str = "") -> Path:
        """Write the report as one HTML file that needs nothing else.

        Args:
            path: the file.
            command: that makes the report again, to stand at its end.

        Returns:
            The path.

        Raises:
            StorageError: it cannot be written.
        """
        write_whole(path, render(report_page(self.subject, self.scored, self.missing, command)).encode())
        return Path(path)


def report(
    subject: SoftPrompt | Path | str,
    backbone: Backbone | str | None = None,
    *,
    task: Task | str | None = None,
    split: str | None = None,
    rows: int | None = None,
    data: Path | None = None,
    decode: str | None = None,
    progress: Progress | None = None,
) -> PromptReport:
    """Gather what is known of a prompt or a run, and ask it the rows of its task where they are at hand.

    Args:
        subject: a prompt, its file, `packaged:TASK`, or the folder of a run, of a transfer or of model tuning.
        backbone: the frozen model, or its name; left out: the one that the prompt names, or the tuned model.
        task: whose rows it is asked; left out: its own, where that is a known task. Rows that are asked for and not to
            be had are an error; rows that nobody asked for are named in `missing`.
        split: as for `evaluate`, and so are the next three.
        rows: only the first so many; left out: all.
        data: where the rows of known data sets are.
        decode: `rank` the labels, or `generate`.
        progress: called after every batch.

    Returns:
        The report: `scored`, `missing`, `save`.

    Raises:
        PromptError, LibraryError: there is no such prompt, or it is damaged, or belongs to another backbone.
        RunError: the folder holds no run that left something to report on.
        TaskError, BackboneError: the rows that are asked for, or the model to answer them, cannot be had.
    """
    read = read_subject(subject)
    if task is None and read.task not in _known():
        hint = did_you_mean(read.task, _known())
        hint = f" ({hint})" if hint.startswith("did") else ""
        why = (
            f"Its task {read.task!r} is not known here{hint}, so it was asked no rows, and confusion matrix, scores of "
            "the classes, calibration and examples are not here. Name its task file: `--task FILE`, in Python `task=`."
        )
        return PromptReport(subject=read, missing=(*read.problems, why))
    model = backbone or (str(read.model) if read.prompt is None else read.prompt.backbone)
    try:
        scored = evaluate(
            read.prompt,
            model,
            task if task is not None else read.task,
            split=split,
            rows=rows,
            data=data,
            decode=decode,
            progress=progress,
        )
    except SpotError as error:
        if task is not None or backbone is not None:
            raise
        why = (
            f"It was asked no rows of its task, so confusion matrix, scores of the classes, calibration and examples "
            f"are not here: {error} Then make the report again, or give the rows: `--task FILE`, `--data DIR`."
        )
        return PromptReport(subject=read, missing=(*read.problems, why))
    return PromptReport(subject=read, scored=scored, missing=read.problems)


def _known() -> list[str]:
    """The names of known tasks and mixtures."""
    return [*registry.names(), *(mixture.title for mixture in mixtures.MIXTURES.values())]
