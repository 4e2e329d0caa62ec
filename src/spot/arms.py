"""The arms of a comparison: runs of a target with several seeds, measured on the same report rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spot.backbone import Backbone
from spot.batching import collator_for
from spot.config import TuneConfig
from spot.evaluation import Evaluation, Prediction, Progress, evaluate, interval
from spot.prompt import SoftPrompt
from spot.runs import RunDir
from spot.state import Member, Run
from spot.storage import write_whole
from spot.tasks.base import Roles, Task, data_digest
from spot.tuning import prepare, tune, tune_model


@dataclass(frozen=True)
class Arm:
    """One way to answer the target's rows, measured on the report rows.

    Attributes:
        arm: `frozen`, `source`, `plain:vocabulary`, `plain:classes` or `spot`.
        source: task names of the prompts that it starts from.
        score: percent, mean over seeds.
        interval: 95 % bootstrap interval of the score over rows and seeds, percent.
        steps: optimiser steps on the target.
        seconds: of training on the target, mean over seeds.
        scores: percent, one a seed.
        selection: mean score on the selection rows, percent; what choices rest on.
        curve: points with step, mean selection score, the score of every seed, and training seconds to get there.
        steps_to_plain: first evaluated step whose mean selection score reaches plain tuning's last; None if none does.
        seconds_to_plain: training seconds up to that step.
        parameters: trained and shipped, P x D.
        folder: of the arm's runs, below the transfer's; None where nothing was tuned.
    """

    arm: str
    source: str | None
    score: float
    interval: tuple[float, float]
    steps: int = 0
    seconds: float = 0.0
    scores: tuple[float, ...] = ()
    selection: float = float("nan")
    curve: tuple[dict[str, Any], ...] = ()
    steps_to_plain: int | None = None
    seconds_to_plain: float | None = None
    parameters: int = 0
    folder: str | None = None
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Trial:
    """An arm that is ready to be measured; no report row has been read so far.

    Attributes:
        arm, source, folder: as in `Arm`.
        prompts: [P, D], one a seed.
        results: of the runs that made them, one a seed; empty where nothing was tuned.
        models: folders of tuned models that take the backbone's place, one a seed.
    """

    arm: str
    source: str | None
    prompts: tuple[Tensor, ...]
    results: tuple[Mapping[str, Any], ...] = ()
    folder: str | None = None
    models: tuple[Path, ...] = ()


def vectors(prompts: Sequence[SoftPrompt]) -> tuple[Tensor, ...]:
    """The prompts' values, each [P, D]."""
    return tuple(torch.tensor(prompt.value) for prompt in prompts)


def selection(results: Sequence[Mapping[str, Any]]) -> float:
    """The best selection score of each seed's curve, averaged over the seeds, percent."""
    return float(np.mean([max(point["score"] for point in result["curve"]) for result in results]))


@dataclass(frozen=True)
class Bench:
    """What every arm of one transfer shares."""

    task: Task
    roles: Roles
    backbone: Backbone
    config: TuneConfig
    seeds: int
    out: Path
    progress: Progress | None

    def runs(self, run: Run) -> list[Run]:
        """The same run with every seed, as a gang; the report rows are kept from it."""
        unseen = Member(self.task, Roles(self.roles.train, self.roles.select, ()))
        configs = [run.config.model_copy(update={"seed": seed}) for seed in range(self.seeds)]
        return [replace(run, config=config, members=(unseen,)) for config in configs]

    def tune(self, name: str, runs: Sequence[Run]) -> list[SoftPrompt]:
        """Tune a gang in the transfer's folder."""
        return tune(runs, self.backbone, self.out / name, self.progress)

    def curves(self, name: str) -> tuple[dict[str, Any], ...]:
        """The finished gang's results, one a seed."""
        return tuple((RunDir(self.out / name).result() or {"runs": []})["runs"])

    def tune_models(self, learning_rate: float) -> Trial:
        """Full model tuning at equal steps, one copy of the model a seed (paper, appendix C)."""
        changes = {"method": "model", "learning_rate": learning_rate, "weight_decay": 0.0, "key_step": None}
        base = prepare(self.config.model_copy(update=changes), self.task, self.backbone, self.roles)
        folders, results = [], []
        for seed, run in enumerate(self.runs(base)):
            folders.append(tune_model(run, self.backbone, self.out / f"model-{seed}", self.progress))
            results += self.curves(f"model-{seed}")
        return Trial("model", None, (base.start,) * self.seeds, tuple(results), models=tuple(folders))

    def measure(self, trial: Trial) -> Arm:
        """Score a trial on the report rows, and summarise the runs that made it."""
        models = trial.models or (None,) * len(trial.prompts)
        found = [self._evaluated(prompt, model) for prompt, model in zip(trial.prompts, models, strict=True)]
        scores = tuple(evaluation.primary for evaluation in found)
        arm = Arm(
            trial.arm, trial.source, float(np.mean(scores)), interval(found, self.task, self.roles.report),
            scores=scores, parameters=self.backbone.parameters if trial.models else trial.prompts[0].numel(),
            folder=trial.folder, evaluations=tuple(found),
        )  # fmt: skip
        if not trial.results:
            return arm
        points = list(zip(*[result["curve"] for result in trial.results], strict=True))
        curve = tuple(
            {"step": at[0]["step"], "score": float(np.mean([p["score"] for p in at])),
             "scores": [p["score"] for p in at], "seconds": float(np.mean([p["seconds"] for p in at]))}
            for at in points
        )  # fmt: skip
        return replace(
            arm, steps=self.config.steps, seconds=float(np.mean([result["seconds"] for result in trial.results])),
            selection=selection(trial.results), curve=curve,
        )  # fmt: skip

    def _evaluated(self, prompt: Tensor, model: Path | None = None) -> Evaluation:
        """Evaluate on the report rows once; the predictions are kept in the transfer's folder.

        Args:
            prompt: [P, D].
            model: folder of a tuned model that takes the backbone's place.
        """
        tuned = model.parent.name if model else ""
        content = prompt.numpy().tobytes() + (tuned + data_digest(self.roles.report)).encode()
        path = self.out / "report-rows" / f"{sha256(content).hexdigest()[:16]}.json"
        if path.exists():
            kept = json.loads(path.read_bytes())
            predictions = tuple(Prediction(text) for text in kept["predictions"])
            return Evaluation(kept["scores"], tuple(kept["correct"]), predictions, kept["nats"])
        backbone = self.backbone if model is None else Backbone.load(str(model))
        collator = collator_for(
            backbone, self.task, length=self.config.length, max_input_tokens=self.config.max_input_tokens,
            truncate=self.config.truncate, max_target_tokens=self.config.max_target_tokens,
        )  # fmt: skip
        found = evaluate(
            backbone, prompt, self.task, collator, self.roles.report, progress=self.progress
        )
        texts = [prediction.text for prediction in found.predictions]
        kept = {"scores": found.scores, "correct": found.correct, "predictions": texts, "nats": found.nats}
        write_whole(path, json.dumps(kept).encode())
        return found


def reached(arm: Arm, goal: float) -> Arm:
    """When the arm's mean selection score first reached `goal`."""
    point = next((point for point in arm.curve if point["score"] >= goal), None)
    if point is None:
        return arm
    return replace(arm, steps_to_plain=int(point["step"]), seconds_to_plain=point["seconds"])
