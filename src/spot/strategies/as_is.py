"""Try the prompts of a library on a target as they are, before anything is tuned.

That costs reading alone, and is the first that can be known of a target: which known prompts already answer it. As a
ranking of sources it needs no task embedding: the better a prompt predicts the right answers of the selection rows, the
nearer its task (zero-shot transfer of prompts: Su et al. 2022).
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spot.evaluation.scoring import Evaluation, NoAnswers, interval
from spot.library.library import Entry, Library
from spot.retrieval.ranking import Ranking
from spot.retrieval.search import Ranked
from spot.strategies.news import Scored
from spot.strategies.report_rows import evaluate_selection
from spot.strategies.target import TargetRuns
from spot.tasks.splits import sample_rows

log = logging.getLogger(__name__)

AS_IS = "as_is"  # the name of the ranking
MOST_PROMPTS = 75  # of a library whose prompts are all tried where the ranking does not ask for it
MOST_RANKED = 1600  # rows that are answered by ranking labels, over all prompts
MOST_WRITTEN = 200  # rows whose answers are written, likewise
FEWEST_ROWS = 10  # that each prompt answers in any case
SAID = 3  # prompts that are named
MOST_BEHIND = 2  # prompts that a probe is tried behind: the rows are read once more for each


@dataclass(frozen=True)
class Tried:
    """What one prompt of a library says of a target's selection rows as it is.

    Attributes:
        prompt: its digest.
        task: that it was trained on.
        evaluation: on the rows; None where the model's numbers were not finite.
        fit: geometric mean of the probability that it gives the right label among the labels, 0 to 1; of open answers
            the score as a share.
    """

    prompt: str
    task: str
    evaluation: Evaluation | None
    fit: float


def try_sources(target: TargetRuns, library: Library, entries: Sequence[Entry]) -> tuple[Tried, ...]:
    """What every prompt says of the target's selection rows, or of a sample of them; the best fit first.

    Args:
        target: its report rows are not looked at.
        library: that the entries are of.
        entries: the prompts to try.
    """
    most = MOST_RANKED if target.task.labels else MOST_WRITTEN
    rows = sample_rows(target.splits.selection, max(FEWEST_ROWS, most // max(1, len(entries))))
    tried = []
    for entry in entries:
        try:
            evaluation = evaluate_selection(target, torch.tensor(library.get(entry.digest).value), rows)
        except NoAnswers as error:
            log.warning("the prompt of %s is not tried as it is: %s", entry.task, error)
            tried.append(Tried(entry.digest, entry.task, None, 0.0))
            continue
        tried.append(Tried(entry.digest, entry.task, evaluation, _fit(evaluation)))
    order = tuple(sorted(tried, key=lambda prompt: (-prompt.fit, prompt.prompt)))
    for prompt in order[:SAID]:
        if prompt.evaluation is not None:
            between = interval([prompt.evaluation], target.task, rows)
            log.info(
                Scored(
                    arm=f"the prompt of {prompt.task} as it is",
                    score=prompt.evaluation.primary,
                    interval=between,
                    rows=len(rows),
                    role="selection",
                    is_as_is=True,
                )
            )
    return order


def ranking_as_is(tried: Sequence[Tried]) -> Ranking:
    """The prompts as a ranking; what stands for a similarity is their fit."""
    return Ranking(tuple(Ranked(prompt.prompt, prompt.task, prompt.fit) for prompt in tried), AS_IS)


def nearest_prompts(tried: Sequence[Tried], library: Library) -> dict[str, Tensor]:
    """The few that fit best as they are, task -> prompt [P, D]; of two of one task the better."""
    answered = [prompt for prompt in tried if prompt.evaluation is not None][:MOST_BEHIND]
    return {prompt.task: torch.tensor(library.get(prompt.prompt).value) for prompt in reversed(answered)}


def _fit(evaluation: Evaluation) -> float:
    """As `Tried.fit`."""
    if math.isfinite(evaluation.nats):
        return math.exp(-max(0.0, evaluation.nats))
    return max(0.0, evaluation.primary / 100)
