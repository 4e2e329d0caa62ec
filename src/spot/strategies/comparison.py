"""The arms of a comparison: runs of a target with several seeds, measured on the same report rows, and the report."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spot.collator import collator_for
from spot.config import TuneConfig
from spot.evaluation.classes import class_report
from spot.evaluation.evaluation import Evaluation, Prediction, Progress, evaluate, interval
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt
from spot.storage.files import write_whole
from spot.strategies.plans import Amount
from spot.strategies.report import Arm, TransferReport
from spot.tasks.splits import Splits
from spot.tasks.task import Task, data_digest
from spot.training.loop import Rule
from spot.training.model_tuning import tune_model_run
from spot.training.result import RunResult
from spot.training.run import Member, Run, prepare_run
from spot.training.tuning import TunedPrompt, tune_runs


@dataclass(frozen=True)
class Trial:
    """An arm that is ready to be measured; no report row has been read so far.

    Attributes:
        arm, source, folder, files: as in `Arm`.
        prompts: [P, D], one a seed.
        results: of the runs that made them, one a seed; empty where nothing was tuned.
        models: folders of tuned models that take the backbone's place, one a seed.
        tokens: as in `Arm`.
    """

    arm: str
    source: str | None
    prompts: tuple[Tensor, ...]
    results: tuple[RunResult, ...] = ()
    folder: str | None = None
    models: tuple[Path, ...] = ()
    tokens: float = 0.0
    files: tuple[Path, ...] = ()


def vectors(prompts: Sequence[SoftPrompt]) -> tuple[Tensor, ...]:
    """The prompts' values, each [P, D]."""
    return tuple(torch.tensor(prompt.value) for prompt in prompts)


def selection(results: Sequence[RunResult]) -> float:
    """The best selection score of each seed's curve, averaged over the seeds, percent."""
    return float(np.mean([result.best_score for result in results]))


def mean_of(results: Sequence[RunResult], name: Amount) -> float:
    """The mean of one number, such as `tokens` or `seconds`, over the results of runs."""
    return float(np.mean([getattr(result, name) for result in results]))


@dataclass(frozen=True)
class Bench:
    """What every arm of one transfer shares."""

    task: Task
    splits: Splits
    backbone: Backbone
    config: TuneConfig
    seeds: int
    out: Path
    progress: Progress | None

    def runs(self, run: Run) -> list[Run]:
        """The same run with every seed, as a gang; the report rows are kept from it."""
        unseen = Member(self.task, Splits(self.splits.train, self.splits.selection, ()))
        configs = [run.config.model_copy(update={"seed": seed}) for seed in range(self.seeds)]
        return [replace(run, config=config, members=(unseen,)) for config in configs]

    def tune(self, name: str, runs: Sequence[Run], rule: Rule | None = None) -> list[TunedPrompt]:
        """Tune a gang in the transfer's folder."""
        return tune_runs(runs, self.backbone, self.out / name, self.progress, rule)

    def tune_models(self, learning_rate: float) -> Trial:
        """Full model tuning at equal steps, one copy of the model a seed (paper, appendix C)."""
        changes = {"method": "model", "learning_rate": learning_rate, "weight_decay": 0.0, "key_step": None}
        base = prepare_run(self.config.model_copy(update=changes), (Member(self.task, self.splits),), self.backbone)
        folders, results = [], []
        for seed, run in enumerate(self.runs(base)):
            tuned = tune_model_run(run, self.backbone, self.out / f"model-{seed}", self.progress)
            folders.append(tuned.path)
            results.append(tuned.result)
        return Trial(
            "model",
            None,
            (base.start,) * self.seeds,
            tuple(results),
            models=tuple(folders),
            tokens=mean_of(results, "tokens"),
        )

    def measure(self, trial: Trial) -> Arm:
        """Score a trial on the report rows, and summarise the runs that made it."""
        models = trial.models or (None,) * len(trial.prompts)
        found = [self._evaluated(prompt, model) for prompt, model in zip(trial.prompts, models, strict=True)]
        scores = tuple(evaluation.primary for evaluation in found)
        size = self.backbone.parameters if trial.models else trial.prompts[0].numel()
        arm = Arm(
            trial.arm,
            trial.source,
            float(np.mean(scores)),
            interval(found, self.task, self.splits.report),
            scores=scores,
            parameters=size,
            shipped=size,
            folder=trial.folder,
            tokens=round(trial.tokens),
            evaluations=tuple(found),
            files=trial.files,
        )
        if not trial.results:
            return arm
        points = list(zip(*[result.curve for result in trial.results], strict=True))
        curve = tuple(
            {
                "step": at[0].step,
                "score": float(np.mean([point.score for point in at])),
                "scores": [point.score for point in at],
                "seconds": float(np.mean([point.seconds for point in at])),
            }
            for at in points
        )
        return replace(
            arm,
            steps=self.config.steps,
            seconds=mean_of(trial.results, "seconds"),
            selection=selection(trial.results),
            curve=curve,
        )

    def _evaluated(self, prompt: Tensor, model: Path | None = None) -> Evaluation:
        """Evaluate on the report rows once; the predictions are kept in the transfer's folder.

        Args:
            prompt: [P, D].
            model: folder of a tuned model that takes the backbone's place.
        """
        tuned = model.parent.name if model else ""
        content = prompt.numpy().tobytes() + (tuned + data_digest(self.splits.report)).encode()
        path = self.out / "report-rows" / f"{sha256(content).hexdigest()[:16]}.json"
        if path.exists():
            kept = json.loads(path.read_bytes())
            predictions = tuple(Prediction(text) for text in kept["predictions"])
            return Evaluation(kept["scores"], tuple(kept["correct"]), predictions, kept["nats"])
        backbone = self.backbone if model is None else Backbone.load(str(model))
        reading = self.task.reading.with_limits(self.config)
        collator = collator_for(backbone, self.task, length=self.config.length, reading=reading)
        found = evaluate(backbone, prompt, self.task, collator, self.splits.report, progress=self.progress)
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


def compare(bench: Bench, arms: Sequence[Arm], plain_tokens: float, left_out: int, **found: Any) -> TransferReport:
    """Compare measured arms; every choice here rests on selection scores.

    Args:
        bench: what the arms share.
        arms: at least one of plain tuning.
        plain_tokens: text tokens of one plain run, which costs are multiples of.
        left_out: report rows that a source had seen.
        found: what else the report says of the strategy, as in `TransferReport`.
    """
    task, splits = bench.task, bench.splits
    plain = max((arm for arm in arms if arm.arm.startswith("plain")), key=lambda arm: arm.selection)
    goal = plain.curve[-1]["score"]
    arms = tuple(replace(reached(arm, goal), relative_cost=arm.tokens / max(1.0, plain_tokens)) for arm in arms)
    chosen = max((arm for arm in arms if arm.folder), key=lambda arm: arm.selection)
    spot = next((arm for arm in arms if arm.arm == "spot"), None)
    gain = bounds = None
    if spot is not None:
        gain = spot.score - plain.score
        bounds = interval(spot.evaluations, task, splits.report, plain.evaluations)
    rows = {"train": len(splits.train), "select": len(splits.selection), "report": len(splits.report)}
    best = [max(point["scores"][seed] for point in chosen.curve) for seed in range(len(chosen.files))]
    seed = best.index(max(best))
    answers = [row.answers for row in splits.report]
    texts = [prediction.text for prediction in chosen.evaluations[seed].predictions]
    return TransferReport(
        task.name,
        arms,
        chosen.arm,
        gain=gain,
        gain_interval=bounds,
        left_out=left_out,
        rows=rows,
        run=bench.out,
        prompt_file=chosen.files[seed],
        classes=class_report(task.labels, answers, texts) if task.labels else None,
        **found,
    )
