"""Finish runs: say what looks wrong with them, and score them on the rows that chose nothing."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spot.collator import Collator, Row
from spot.evaluation.predictions import Progress
from spot.evaluation.scoring import evaluate_rows
from spot.models.backbone import Backbone
from spot.tasks.task import data_digest
from spot.training.loop import named_scores
from spot.training.result import RunResult
from spot.training.run import UNKEYED, Member, Run
from spot.training.state import State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _ReportRows:
    """A member's report rows as token ids."""

    member: Member
    collator: Collator
    rows: Sequence[Row]


def diagnosed_results(states: Sequence[State]) -> list[RunResult]:
    """The results of runs that have ended, with what looks wrong with them, which is logged too."""
    results = []
    for state in states:
        diagnosis = [] if state.diverged or state.dropped else _diagnosis(state)
        for line in diagnosis:
            log.warning("%s: %s", state.run.title, line)
        results.append(state.result(diagnosis))
    return results


def report_runs(
    runs: Sequence[Run],
    results: Sequence[RunResult],
    prompts: Sequence[Tensor],
    backbone: Backbone,
    *,
    model: Path | None = None,
    progress: Progress | None = None,
) -> list[RunResult]:
    """Score runs that have ended on their report rows, which are opened here and not before.

    Args:
        runs: of one gang.
        results: of them; one that has been scored on the same rows before is returned as it is.
        prompts: [P, D], that the runs ended with.
        backbone: that the prompts belong to; gives the scores without a prompt too.
        model: folder of a tuned model that answers in the backbone's place.
        progress: called after every batch.

    Returns:
        The results with scores; unchanged of runs without report rows.
    """
    reported = []
    frozen_scores: dict[str, dict[str, float]] = {}
    for run, result, prompt in zip(runs, results, prompts, strict=True):
        members = [member for member in run.members if member.splits.report]
        rows = "-".join(data_digest(member.splits.report) for member in members)
        if result.reported == rows:
            reported.append(result)
            continue
        encoded = [_encoded(run, member, backbone) for member in members]
        if rows not in frozen_scores:
            frozen_scores[rows] = _scores(run, encoded, backbone, torch.zeros(0, backbone.id.width), progress)
        # A tuned model is scored as its user loads it.
        answering = backbone if model is None else Backbone.load(str(model))
        scores = _scores(run, encoded, answering, prompt.to(backbone.device), progress)
        reported.append(replace(result, scores=scores, frozen_scores=frozen_scores[rows], reported=rows))
    return reported


def _encoded(run: Run, member: Member, backbone: Backbone) -> _ReportRows:
    """A member's report rows as token ids."""
    collator = run.collator_of(member, backbone)
    return _ReportRows(member, collator, collator.encode(member.splits.report))


def _scores(
    run: Run, encoded: Sequence[_ReportRows], backbone: Backbone, prompt: Tensor, progress: Progress | None
) -> dict[str, float]:
    """Scores on the report rows of the members that have any."""
    evaluations = [
        evaluate_rows(
            backbone,
            prompt,
            part.member.task,
            part.collator,
            part.member.splits.report,
            rows=part.rows,
            progress=progress,
        )
        for part in encoded
    ]
    return named_scores([part.member.task for part in encoded], evaluations, len(run.members) > 1)


def _diagnosis(state: State) -> list[str]:
    """What looks wrong with a run that has ended, in words; empty where nothing does."""
    lines = []
    run, config = state.run, state.run.config
    if state.constant:
        lines.append(
            "every selection row gets the same answer: the prompt does not tell the classes apart; try more steps or "
            f"a higher learning_rate{', or init = ' + repr('classes') if config.init != 'classes' else ''}"
        )
    if config.steps and state.first_gradient < 1e-8:
        lines.append(f"the gradient of the first step is {state.first_gradient:.1e}: nothing reaches the prompt")
    moved = float((state.prompt.detach().cpu() - run.start).norm())
    if config.steps and config.method == "prompt" and moved < 1e-4 * float(run.start.norm()):
        lines.append(f"the prompt moved by {moved:.1e} in {config.steps} steps: give a higher learning_rate")
    if state.key is not None and run.key_recipe is None:
        names = ", ".join(UNKEYED)
        lines.append(f"the key has no recipe, so no library will take it: expected the defaults of {names}")
    if config.steps and state.best_step == 0:
        lines.append("no step scored better on the selection rows than the start; try another learning_rate")
    return lines
