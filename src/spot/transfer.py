"""Transfer: rank the library's prompts for a task, start from the right one, and say whether it helped.

Strategies (SPoT section 3.3): `best` tunes once from each of the top k sources and keeps the best by selection score;
`average` tunes once from their similarity-weighted mean; `none` is plain prompt tuning alone. Selection rows choose,
report rows report, and a report row that any source was trained on is left out.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spot import initialisers
from spot.arms import Arm, Bench, Trial, reached, selection, vectors
from spot.backbone import Backbone
from spot.config import TransferConfig, TuneConfig, digest
from spot.errors import ConfigError, LibraryError, TaskError
from spot.evaluation import Progress, interval
from spot.library import Entry, Library
from spot.prompt import KeyRecipe, Parent, SoftPrompt
from spot.retrieval import Ranked, check_k, retrieve
from spot.sketch import seen
from spot.state import Member, Run
from spot.storage import cache_dir
from spot.tasks.base import Example, LateRows, Roles, Task, data_digest
from spot.tuning import prepare, tune_prompt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferReport:
    """What a transfer found.

    Attributes:
        target: task name.
        arms: measured on the same report rows.
        chosen: the tuned prompt's arm that the selection rows prefer; a tuned model is a baseline and never chosen.
        ranking: sources by similarity, best first; empty for `none`.
        gain: score of `spot` less that of the better plain arm, points; None for `none`.
        gain_interval: 95 % paired bootstrap interval of the gain, points.
        left_out: report rows that a source had seen.
        rows: number of train, selection and report rows.
        run: folder with everything.
        prompt: file of the chosen arm's prompt, that of the seed with the best selection score.
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
    prompt: Path

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
            "prompt": str(self.prompt), "verdict": self.verdict,
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
    asked, roles = roles, _without_overlap(task, roles, library, entries)
    tuning = recipe_config(task, recipe, steps=config.steps, eval_every=config.eval_every)
    mark = digest(tuning, data_digest(roles.train), data_digest(roles.select), backbone.id.fingerprint)
    out = out or cache_dir() / "transfers" / f"{task.name.replace('/', '-')}-{mark}"
    bench = Bench(task, roles, backbone, tuning, config.seeds, out, progress)

    trials = [Trial("frozen", None, (torch.zeros(0, backbone.id.width),))]
    for start in config.starts:
        runs = bench.runs(prepare(tuning.model_copy(update={"init": start}), task, backbone, roles))
        folder = f"plain-{start}"
        prompts = bench.tune(folder, runs)
        trials.append(Trial(f"plain:{start}", None, vectors(prompts), bench.curves(folder), folder))
        if start == config.starts[0]:
            target = prompts[0]
    ranking: tuple[Ranked, ...] = ()
    if config.strategy != "none":
        ranking = tuple(retrieve(target, library, config.metric, len(entries), without={task.name}))
        used = ranking[: config.k]
        trials += _from_sources(bench, config.strategy, [library.get(found.prompt) for found in used], used)
    if config.model_learning_rate is not None:
        trials.append(bench.tune_models(config.model_learning_rate))
    if left_out := len(asked.report) - len(roles.report):
        log.warning("%s: %d of %d report rows are in a source's training rows and are left out",
                    task.name, left_out, len(asked.report))  # fmt: skip
    if not roles.report:
        raise TaskError(_all_seen(task, "report"))
    return _report(bench, [bench.measure(trial) for trial in trials], ranking, left_out)


def _sources(library: Library, backbone: Backbone, task: Task) -> list[Entry]:
    """The prompts that may start the target: of this backbone, with a key, and not of the target itself."""
    entries = [entry for entry in library.entries(backbone.id) if entry.task != task.name]
    if not entries:
        raise LibraryError(
            f"the library {library.path} holds no source for {task.name}: its backbone is {library.backbone}, the one "
            f"here is {backbone.id}; add a prompt of this backbone and another task with `spot library add`"
        )
    return entries


def _without_overlap(task: Task, roles: Roles, library: Library, entries: Sequence[Entry]) -> Roles:
    """Leave out selection and report rows that any source was trained on; report rows are not read here."""
    sketches = [prompt.sketch for prompt in (library.get(entry.digest) for entry in entries) if prompt.sketch]

    def clean(rows: Sequence[Example]) -> tuple[Example, ...]:
        known = np.zeros(len(rows), dtype=bool)
        for sketch in sketches:
            known |= seen(sketch, [row.texts for row in rows])
        return tuple(row for row, is_known in zip(rows, known, strict=True) if not is_known)

    select = clean(roles.select)
    if not select:
        raise TaskError(_all_seen(task, "selection"))
    return Roles(roles.train, select, LateRows(lambda: clean(roles.report)))


def _all_seen(task: Task, role: str) -> str:
    """The message for a role whose rows are all known to the sources."""
    return (
        f"all {role} rows of {task.name} are in the training rows of the library's sources: no honest figure is "
        "possible; give other rows"
    )


def _report(bench: Bench, arms: list[Arm], ranking: tuple[Ranked, ...], left_out: int) -> TransferReport:
    """Compare the arms; every choice here rests on selection scores."""
    task, roles, out = bench.task, bench.roles, bench.out
    plain = max((arm for arm in arms if arm.arm.startswith("plain")), key=lambda arm: arm.selection)
    goal = plain.curve[-1]["score"]
    arms = [reached(arm, goal) for arm in arms]
    tuned = [arm for arm in arms if arm.folder]
    chosen = max(tuned, key=lambda arm: arm.selection)
    spot = next((arm for arm in arms if arm.arm == "spot"), None)
    gain = bounds = None
    if spot is not None:
        gain = spot.score - plain.score
        bounds = interval(spot.evaluations, task, roles.report, plain.evaluations)
    rows = {"train": len(roles.train), "select": len(roles.select), "report": len(roles.report)}
    files = sorted((out / str(chosen.folder)).glob("prompt*.safetensors"), key=lambda path: (len(path.name), path.name))
    best = [max(point["score"] for point in result["curve"]) for result in bench.curves(str(chosen.folder))]
    prompt = files[best.index(max(best))]
    return TransferReport(task.name, tuple(arms), chosen.arm, ranking, gain, bounds, left_out, rows, out, prompt)


def _from_sources(
    bench: Bench, strategy: str, sources: Sequence[SoftPrompt], ranked: Sequence[Ranked]
) -> tuple[Trial, Trial]:
    """The arms `source` (used as it is) and `spot` (tuned from it)."""
    if strategy == "average":
        values = [initialisers.resized(torch.tensor(source.value), bench.config.length) for source in sources]
        weights = [found.similarity for found in ranked]
        start = initialisers.weighted(values, weights)
        kept = np.clip(weights, 0, None) / np.clip(weights, 0, None).sum()
        parents = tuple(Parent(s.digest, float(w)) for s, w in zip(sources, kept, strict=True))
        starts = [(" + ".join(source.task for source in sources), Run(
            bench.config, (Member(bench.task, bench.roles),), start, parents))]  # fmt: skip
    else:
        starts = [(s.task, prepare(bench.config, bench.task, bench.backbone, bench.roles, s)) for s in sources]
    tried = []
    for number, (names, run) in enumerate(starts):
        run = replace(run, config=run.config.model_copy(update={"key_step": None}))
        folder = f"spot-{number}-{digest(run.config, *[parent.digest for parent in run.parents])[:8]}"
        prompts = bench.tune(folder, bench.runs(run))
        results = bench.curves(folder)
        tried.append((selection(results), -number, names, run, prompts, results, folder))
    _, _, names, run, prompts, results, folder = max(tried, key=lambda trial: trial[:2])
    others = sum(result["seconds"] for trial in tried if trial[6] != folder for result in trial[5]) / bench.seeds
    spent = tuple(_later(result, others) for result in results)
    return Trial("source", names, (run.start,)), Trial("spot", names, vectors(prompts), spent, folder)


def _later(result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """A run's result as it is after other trials have taken their time."""
    curve = [{**point, "seconds": point["seconds"] + seconds} for point in result["curve"]]
    return {**result, "seconds": result["seconds"] + seconds, "curve": curve}
