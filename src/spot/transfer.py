"""Transfer: rank the library's prompts for a task, start from the right one, and say whether it helped.

Strategies (SPoT section 3.3): `best` tunes once from each of the top k sources and keeps the best by selection score;
`average` tunes once from their similarity-weighted mean; `none` is plain prompt tuning alone. Selection rows choose,
report rows report, and a report row that any source was trained on is left out.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spot import initialisers
from spot.backbone import Backbone
from spot.batching import collator_for
from spot.config import TransferConfig, TuneConfig, digest
from spot.errors import ConfigError, LibraryError, TaskError
from spot.evaluation import Evaluation, Prediction, evaluate, interval
from spot.library import Entry, Library
from spot.prompt import KeyRecipe, Parent, SoftPrompt
from spot.retrieval import Ranked, check_k, retrieve
from spot.runs import RunDir
from spot.sketch import seen
from spot.storage import cache_dir, write_whole
from spot.tasks.base import Example, Roles, Task, data_digest
from spot.tuning import Progress, Run, prepare, tune, tune_prompt

log = logging.getLogger(__name__)


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
class TransferReport:
    """What a transfer found.

    Attributes:
        target: task name.
        arms: measured on the same report rows.
        chosen: the arm that the selection rows prefer.
        ranking: sources by similarity, best first; empty for `none`.
        gain: score of `spot` less that of the better plain arm, points; None for `none`.
        gain_interval: 95 % paired bootstrap interval of the gain, points.
        left_out: report rows that a source had seen.
        rows: number of train, selection and report rows.
        run: folder with everything.
        prompt: file of the chosen arm's prompt; None where a frozen arm is chosen.
    """

    target: str
    arms: tuple[Arm, ...]
    chosen: str
    ranking: tuple[Ranked, ...]
    gain: float | None
    gain_interval: tuple[float, float] | None
    left_out: int
    rows: Mapping[str, int]
    run: Path
    prompt: Path | None

    @property
    def verdict(self) -> str:
        """Whether the transfer helped, in a sentence that follows the interval."""
        if self.gain is None or self.gain_interval is None:
            return "No source was used: this is plain prompt tuning."
        spot = next(arm for arm in self.arms if arm.arm == "spot")
        low, high = self.gain_interval
        change = f"{self.gain:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}) against plain prompt tuning"
        if low > 0:
            return f"Starting from {spot.source} helped: {change}."
        if high < 0:
            return f"Starting from {spot.source} HURT: {change}. Use plain prompt tuning."
        return f"SPoT did not win clearly: starting from {spot.source} gives {change}; the interval includes zero."

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        arms = []
        for arm in self.arms:
            values = asdict(replace(arm, evaluations=()))
            del values["evaluations"]
            arms.append({key: None if value != value else value for key, value in values.items()})
        return {
            "target": self.target, "arms": arms, "chosen": self.chosen, "run": str(self.run),
            "prompt": None if self.prompt is None else str(self.prompt), "verdict": self.verdict,
            "gain": self.gain, "gain_interval": self.gain_interval, "left_out": self.left_out, "rows": dict(self.rows),
            "ranking": [{"prompt": r.prompt, "task": r.task, "similarity": r.similarity} for r in self.ranking],
        }  # fmt: skip


def embed_target(
    task: Task, roles: Roles, backbone: Backbone, recipe: KeyRecipe, *,
    out: Path | None = None, progress: Progress | None = None,
) -> SoftPrompt:  # fmt: skip
    """Train a task up to a library's key step, and no further: its `key` and `start` are the task embedding.

    Args:
        task: the target.
        roles: its rows.
        backbone: the library's backbone.
        recipe: the library's key recipe.
        out: the run's folder; in the user's cache when left out.
        progress: called after every step.
    """
    config = recipe_config(task, recipe, steps=recipe.step, eval_every=recipe.step)
    unseen = Roles(roles.train, roles.select, ())
    return tune_prompt(config, task, backbone, unseen, out=out, progress=progress)


def recipe_config(task: Task, recipe: KeyRecipe, **settings: Any) -> TuneConfig:
    """The configuration of a run whose key can be compared with keys of `recipe`."""
    settings = {**asdict(recipe), "key_step": recipe.step, "task": task.name, **settings}
    settings.pop("step")
    if settings["steps"] < recipe.step:
        raise ConfigError(
            f"steps = {settings['steps']} ends before the library's key step {recipe.step}, where the task embedding "
            f"is read; expected at least {recipe.step}"
        )
    return TuneConfig(**settings)


def transfer(
    task: Task, roles: Roles, backbone: Backbone, library: Library, config: TransferConfig, *,
    out: Path | None = None, progress: Progress | None = None,
) -> TransferReport:  # fmt: skip
    """Tune a target from scratch and from the library at equal steps, and compare on report rows.

    Args:
        task: the target.
        roles: its rows; none of the report rows chooses anything.
        backbone: the library's backbone.
        library: source prompts with one key recipe, which the plain runs follow too.
        config: strategy, similarity, steps and seeds.
        out: folder of all runs; in the user's cache when left out.
        progress: called after every step of every gang.

    Raises:
        ConfigError: steps end before the key step, or k is beyond the library.
        LibraryError: no prompt of the library can start this task.
        TaskError: every selection or report row is in a source's training rows.
    """
    entries = _sources(library, backbone, task)
    if config.strategy != "none":
        check_k(config.k, len(entries), str(library.path))
    recipe = entries[0].key_recipe
    roles, left_out = _without_overlap(task, roles, library, entries)
    tuning = recipe_config(task, recipe, steps=config.steps, eval_every=config.eval_every)
    mark = digest(tuning, data_digest(roles.train), data_digest(roles.select), backbone.id.fingerprint)
    out = out or cache_dir() / "transfers" / f"{task.name.replace('/', '-')}-{mark}"
    bench = _Bench(task, roles, backbone, tuning, config.seeds, out, progress)

    arms = [bench.measure("frozen", None, [torch.zeros(0, backbone.id.width)])]
    plain: list[Arm] = []
    for start in config.starts:
        runs = bench.runs(prepare(tuning.model_copy(update={"init": start}), task, backbone, roles))
        prompts = bench.tune(f"plain-{start}", runs)
        arm = bench.measure(f"plain:{start}", None, vectors(prompts), bench.curves(f"plain-{start}"))
        plain.append(replace(arm, folder=f"plain-{start}"))
        if start == config.starts[0]:
            target = prompts[0]
    ranking: tuple[Ranked, ...] = ()
    if config.strategy != "none":
        ranking = tuple(retrieve(target, library, config.metric, len(entries), without={task.name}))
        used = ranking[: config.k]
        arms += bench.from_sources(config.strategy, [library.get(found.prompt) for found in used], used)
    arms[1:1] = plain
    return _report(task, roles, arms, ranking, left_out, out)


def _sources(library: Library, backbone: Backbone, task: Task) -> list[Entry]:
    """The prompts that may start the target: of this backbone, with a key, and not of the target itself."""
    entries = [entry for entry in library.entries(backbone.id) if entry.task != task.name]
    if not entries:
        raise LibraryError(
            f"the library {library.path} holds no source for {task.name}: its backbone is {library.backbone}, the one "
            f"here is {backbone.id}; add a prompt of this backbone and another task with `spot library add`"
        )
    return entries


def _without_overlap(
    task: Task, roles: Roles, library: Library, entries: Sequence[Entry]
) -> tuple[Roles, int]:
    """Leave out selection and report rows that any source was trained on; how many report rows went is said."""
    sketches = [prompt.sketch for prompt in (library.get(entry.digest) for entry in entries) if prompt.sketch]

    def clean(rows: tuple[Example, ...]) -> tuple[Example, ...]:
        known = np.zeros(len(rows), dtype=bool)
        for sketch in sketches:
            known |= seen(sketch, [row.texts for row in rows])
        return tuple(row for row, is_known in zip(rows, known, strict=True) if not is_known)

    kept = Roles(roles.train, clean(roles.select), clean(roles.report))
    left_out = len(roles.report) - len(kept.report)
    if left_out:
        log.warning("%s: %d of %d report rows are in a source's training rows and are left out",
                    task.name, left_out, len(roles.report))  # fmt: skip
    if not kept.select or not kept.report:
        raise TaskError(
            f"all selection or report rows of {task.name} are in the training rows of the library's sources: no honest "
            "figure is possible; give other rows"
        )
    return kept, left_out


def vectors(prompts: Sequence[SoftPrompt]) -> list[Tensor]:
    """The prompts' values, each [P, D]."""
    return [torch.tensor(prompt.value) for prompt in prompts]


def selection(results: Sequence[Mapping[str, Any]]) -> float:
    """The best selection score of each seed's curve, averaged over the seeds, percent."""
    return float(np.mean([max(point["score"] for point in result["curve"]) for result in results]))


@dataclass(frozen=True)
class _Bench:
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
        unseen = Roles(run.roles.train, run.roles.select, ())
        configs = [run.config.model_copy(update={"seed": seed}) for seed in range(self.seeds)]
        return [replace(run, config=config, roles=unseen) for config in configs]

    def tune(self, name: str, runs: Sequence[Run]) -> list[SoftPrompt]:
        return tune(runs, self.backbone, self.out / name, self.progress)

    def curves(self, name: str) -> list[dict[str, Any]]:
        """The finished gang's results, one a seed."""
        return (RunDir(self.out / name).result() or {"runs": []})["runs"]

    def from_sources(self, strategy: str, sources: Sequence[SoftPrompt], ranked: Sequence[Ranked]) -> list[Arm]:
        """The arms `source` (used as it is) and `spot` (tuned from it)."""
        if strategy == "average":
            values = [initialisers.resized(torch.tensor(source.value), self.config.length) for source in sources]
            weights = [found.similarity for found in ranked]
            start = initialisers.weighted(values, weights)
            kept = np.clip(weights, 0, None) / np.clip(weights, 0, None).sum()
            parents = tuple(Parent(s.digest, float(w)) for s, w in zip(sources, kept, strict=True))
            starts = [(" + ".join(source.task for source in sources), Run(
                self.config, self.task, self.roles, start, parents))]  # fmt: skip
        else:
            starts = [(s.task, prepare(self.config, self.task, self.backbone, self.roles, s)) for s in sources]
        tried = []
        for number, (names, run) in enumerate(starts):
            run = replace(run, config=run.config.model_copy(update={"key_step": None}))
            folder = f"spot-{number}-{digest(run.config, *[parent.digest for parent in run.parents])[:8]}"
            prompts = self.tune(folder, self.runs(run))
            results = self.curves(folder)
            tried.append((selection(results), -number, names, run, prompts, results, folder))
        _, _, names, run, prompts, results, folder = max(tried, key=lambda trial: trial[:2])
        as_is = self.measure("source", names, [run.start])
        spot = self.measure("spot", names, vectors(prompts), results)
        cost = sum(result["seconds"] for trial in tried for result in trial[5]) / self.seeds
        return [as_is, replace(spot, seconds=cost, folder=folder)]

    def measure(
        self, name: str, source: str | None, prompts: Sequence[Tensor],
        results: Sequence[Mapping[str, Any]] = (),
    ) -> Arm:  # fmt: skip
        """Score prompts on the report rows, and summarise the runs that made them."""
        found = [self._evaluated(prompt) for prompt in prompts]
        scores = tuple(evaluation.primary for evaluation in found)
        bounds = interval(found, self.task, self.roles.report)
        arm = Arm(name, source, float(np.mean(scores)), bounds, scores=scores, evaluations=tuple(found),
                  parameters=prompts[0].numel())  # fmt: skip
        if not results:
            return arm
        points = list(zip(*[result["curve"] for result in results], strict=True))
        curve = tuple(
            {"step": at[0]["step"], "score": float(np.mean([p["score"] for p in at])),
             "scores": [p["score"] for p in at], "seconds": float(np.mean([p["seconds"] for p in at]))}
            for at in points
        )  # fmt: skip
        return replace(
            arm, steps=self.config.steps, seconds=float(np.mean([result["seconds"] for result in results])),
            selection=selection(results), curve=curve,
        )  # fmt: skip


    def _evaluated(self, prompt: Tensor) -> Evaluation:
        """Evaluate a prompt on the report rows once; its predictions are kept in the transfer's folder."""
        content = prompt.numpy().tobytes() + data_digest(self.roles.report).encode()
        path = self.out / "report-rows" / f"{sha256(content).hexdigest()[:16]}.json"
        if path.exists():
            kept = json.loads(path.read_bytes())
            predictions = tuple(Prediction(text) for text in kept["predictions"])
            return Evaluation(kept["scores"], tuple(kept["correct"]), predictions, kept["nats"])
        collator = collator_for(
            self.backbone, self.task, length=self.config.length, max_input_tokens=self.config.max_input_tokens,
            truncate=self.config.truncate,
        )  # fmt: skip
        found = evaluate(self.backbone, prompt, self.task, collator, self.roles.report)
        texts = [prediction.text for prediction in found.predictions]
        kept = {"scores": found.scores, "correct": found.correct, "predictions": texts, "nats": found.nats}
        write_whole(path, json.dumps(kept).encode())
        return found


def _report(
    task: Task, roles: Roles, arms: list[Arm], ranking: tuple[Ranked, ...], left_out: int, out: Path
) -> TransferReport:
    """Compare the arms; every choice here rests on selection scores."""
    plain = max((arm for arm in arms if arm.arm.startswith("plain")), key=lambda arm: arm.selection)
    goal = plain.curve[-1]["score"]
    arms = [_reached(arm, goal) for arm in arms]
    tuned = [arm for arm in arms if arm.steps]
    chosen = max(tuned, key=lambda arm: arm.selection)
    spot = next((arm for arm in arms if arm.arm == "spot"), None)
    gain = bounds = None
    if spot is not None:
        gain = spot.score - plain.score
        bounds = interval(spot.evaluations, task, roles.report, plain.evaluations)
    rows = {"train": len(roles.train), "select": len(roles.select), "report": len(roles.report)}
    prompt = next(iter(sorted((out / str(chosen.folder)).glob("prompt*.safetensors"))), None)
    return TransferReport(task.name, tuple(arms), chosen.arm, ranking, gain, bounds, left_out, rows, out, prompt)


def _reached(arm: Arm, goal: float) -> Arm:
    """When the arm's mean selection score first reached `goal`."""
    point = next((point for point in arm.curve if point["score"] >= goal), None)
    if point is None:
        return arm
    return replace(arm, steps_to_plain=int(point["step"]), seconds_to_plain=point["seconds"])
