"""Tune prompts from start to file: a run, or a gang of runs that walk together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from spot.config import TuneConfig, to_toml
from spot.errors import ConfigError, RunError, SpotError
from spot.evaluation.predictions import Progress
from spot.models.backbone import Backbone
from spot.prompts.overlap import build
from spot.prompts.prompt import SoftPrompt, load, save, write_card
from spot.storage.files import cache_dir
from spot.storage.run_dir import RunDir
from spot.tasks.splits import Splits
from spot.tasks.task import Task, data_digest
from spot.training.loop import Rule, check_gang, gang_digest, train
from spot.training.rates import at_each_rate, best_of, finished_as, with_amounts_of
from spot.training.reporting import diagnosed_results, report_runs
from spot.training.result import RunResult, read_results, write_results
from spot.training.run import Member, Run, prepare_run
from spot.training.state import State


@dataclass(frozen=True)
class TunedPrompt:
    """What a run of prompt tuning leaves behind.

    Attributes:
        prompt: the checkpoint that is kept, with key, start and sketch, scored on the run's report rows where it has
            any.
        result: of the run.
        path: of the prompt's file.
    """

    prompt: SoftPrompt
    result: RunResult
    path: Path


def tune_runs(
    runs: Sequence[Run], backbone: Backbone, out: Path, progress: Progress | None = None, rule: Rule | None = None
) -> list[TunedPrompt]:
    """Train prompts as one gang, or go on where a killed process left them; a finished gang is only read.

    Args:
        runs: of one backbone; steps, length, batch size, optimiser and evaluation steps must be equal.
        backbone: the frozen model.
        out: the run's folder; `prompt.safetensors` (of a gang `prompt-0.safetensors`, ...), a model card beside each
            (`prompt.md`), `result.json`.
        progress: called after every step, then with the report rows that are scored.
        rule: which runs stop before their end.

    Returns:
        One prompt a run: the best checkpoint by selection score, or the last one where the run keeps that. Of a run
        that diverged it is the best one before; its result says why.

    Raises:
        ConfigError: the runs cannot walk in step, or a learning rate is `auto` where it cannot be.
        RunError: the folder holds another run, or (`Diverged`) the losses of all runs are no number.
        SpotError: the report rows cannot be read; what was learned is kept, and the next call scores it.
    """
    check_gang(runs)
    entrants = [at_each_rate(run) for run in runs]
    is_race = any(len(each) > 1 for each in entrants)
    if is_race and rule is not None:
        raise ConfigError("learning_rate is 'auto' in a gang of which some stop early; expected numbers")
    paths = prompt_paths(out, len(runs))
    with RunDir(out) as folder:
        folder.create("\n".join(to_toml(run.config) for run in runs), gang_digest(runs, rule))
        results = read_results(folder, None if is_race else [run.digest for run in runs])
        if results is None:
            states = train([run for each in entrants for run in each], backbone, folder, progress, rule)
            kept, results_kept = _best_at_each(entrants, states)
            runs = [state.run for state in kept]
            prompts = [_prompt(state, backbone) for state in kept]
            ended = [TunedPrompt(*parts) for parts in zip(prompts, results_kept, paths, strict=True)]
        else:
            place = str(out / "result.json")
            runs = [finished_as(*parts, place) for parts in zip(entrants, results, strict=True)]
            ended = [_finished(*parts) for parts in zip(runs, paths, results, strict=True)]
        try:
            tuned = _reported(runs, ended, backbone, progress)
        except SpotError:
            if results is None:
                _finish(folder, ended)
            raise
        if results is None or tuned != ended:
            _finish(folder, tuned)
    return tuned


def prompt_paths(out: Path, count: int) -> list[Path]:
    """The prompt files in the folder of a gang of `count` runs, in the order of the runs."""
    names = ["prompt.safetensors"] if count == 1 else [f"prompt-{number}.safetensors" for number in range(count)]
    return [out / name for name in names]


def tune_prompt(
    config: TuneConfig,
    task: Task,
    backbone: Backbone,
    splits: Splits,
    *,
    source: SoftPrompt | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> SoftPrompt:
    """Train one prompt on one task, by default in the user's cache: `prepare_run` and `tune_runs` for a single run."""
    run = prepare_run(config, (Member(task, splits),), backbone, source)
    return tune_runs([run], backbone, out or cache_dir() / "runs" / run.digest, progress)[0].prompt


def _best_at_each(entrants: Sequence[Sequence[Run]], states: Sequence[State]) -> tuple[list[State], list[RunResult]]:
    """Of each run the state at its best learning rate, and its result with what all its rates took."""
    waiting = iter(states)
    raced = [[next(waiting) for _ in each] for each in entrants]
    kept = [best_of(each) for each in raced]
    results = diagnosed_results(kept)
    return kept, [with_amounts_of(*parts) for parts in zip(results, raced, strict=True)]


def _reported(
    runs: Sequence[Run], ended: Sequence[TunedPrompt], backbone: Backbone, progress: Progress | None
) -> list[TunedPrompt]:
    """Prompts with their scores on the report rows; one that has these is returned as it is."""
    values = [torch.tensor(entry.prompt.value) for entry in ended]
    results = report_runs(runs, [entry.result for entry in ended], values, backbone, progress=progress)
    return [
        entry
        if result is entry.result
        else replace(
            entry, prompt=replace(entry.prompt, scores=result.scores, frozen_scores=result.frozen_scores), result=result
        )
        for entry, result in zip(ended, results, strict=True)
    ]


def _finished(run: Run, path: Path, result: RunResult) -> TunedPrompt:
    """A finished run, read. Its result counts as not reported where the prompt has other scores, and is made again.

    That is so where a process was killed after it had written the prompt, and before the result.

    Raises:
        PromptError: the prompt is damaged.
        RunError: prompt and result are not of one run.
    """
    prompt = load(path)
    is_other = dict(prompt.scores) != dict(result.scores) or dict(prompt.frozen_scores) != dict(result.frozen_scores)
    is_reported = any(member.splits.report for member in run.members) if is_other else False
    if prompt.step != result.step or (is_other and not is_reported):
        raise RunError(
            f"{path.parent / 'result.json'} says step {result.step} and {dict(result.scores)}, and the prompt beside "
            f"it step {prompt.step} and {dict(prompt.scores)}: expected one run. Delete result.json to let it finish "
            "again."
        )
    return TunedPrompt(prompt, replace(result, reported="") if is_other else result, path)


def _finish(folder: RunDir, tuned: Sequence[TunedPrompt]) -> None:
    """Write the prompts with their cards, then the results, which say that the gang is finished."""
    for entry in tuned:
        save(entry.prompt, entry.path)
        write_card(entry.prompt, entry.path)
    write_results(folder, [entry.result for entry in tuned])


def _prompt(state: State, backbone: Backbone) -> SoftPrompt:
    """What a run has learned, with its selection scores; nothing depends on time or place."""
    run, config = state.run, state.run.config
    used = sorted({draw for batch in state.batches[: state.last_step] for draw in batch})
    texts = (text for member, row in used for text in run.members[member].splits.train[row].texts)
    initialiser = run.initialiser
    task = run.members[0].task if len(run.members) == 1 else None
    rows = [row for member in run.members for row in member.splits.train]
    return SoftPrompt(
        value=state.best_prompt.cpu().numpy(),
        backbone=backbone.id,
        task=run.title,
        step=state.best_step,
        key=None if state.key is None else state.key.cpu().numpy(),
        start=run.start.cpu().numpy(),
        sketch=build(texts),
        task_revision=task.revision if task else "",
        seed=config.seed,
        initialiser=initialiser,
        parents=run.parents,
        key_recipe=None if state.key is None else run.key_recipe,
        config={**config.model_dump(mode="json"), "task": run.title, "backbone": backbone.id.name, "init": initialiser},
        scores=state.best_scores,
        data_digest=data_digest(rows),
        code_version=version("spot-transfer"),
        reading=run.reading.for_kind(backbone.id.kind),
    )
