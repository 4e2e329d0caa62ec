"""Prompt tuning and full model tuning from start to file: where a run begins, what it leaves behind."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from spot.collator import Collator, Row, collator_for
from spot.config import INITS, TuneConfig, digest, to_toml
from spot.errors import ConfigError
from spot.evaluation.evaluation import Progress, evaluate
from spot.library.library import resolve
from spot.models.backbone import Backbone
from spot.prompts.overlap import build
from spot.prompts.prompt import KeyRecipe, Parent, SoftPrompt, check_fits, load, save
from spot.storage.files import cache_dir
from spot.storage.run_dir import RunDir
from spot.tasks.splits import Splits
from spot.tasks.task import Task, data_digest
from spot.training import initialisers
from spot.training.loop import Rule, check_gang, named_scores, train
from spot.training.result import RunResult, read_results, write_results
from spot.training.state import Member, Run, State, collator_of, reading_of_run, result_of

log = logging.getLogger(__name__)

MODEL = "model"  # folder of a tuned model in a run's folder, in Hugging Face layout
UNKEYED = ("dropout", "first_step", "batch_tokens", "truncate", "task_prefix")  # at their defaults in a key recipe

Part = tuple[Member, Collator, Sequence[Row]]  # a member with report rows, and those as token ids
Scorer = Callable[[Run, Sequence[Part], dict[str, float], Progress | None], dict[str, float]]


def prepare(
    config: TuneConfig, task: Task, backbone: Backbone, splits: Splits, source: SoftPrompt | None = None
) -> Run:
    """Resolve the initial prompt of a run on one task.

    Args:
        config: its `init` names the kind of start; `source` overrides it.
        task: gives the label words for `classes`.
        backbone: gives the embeddings.
        splits: the task's rows.
        source: start from this prompt's value.

    Raises:
        ConfigError: a model is to be tuned from a prompt.
        PromptError: the source belongs to another backbone.
        TaskError: a label has no tokens, or two labels have the same.
    """
    return prepare_members(config, (Member(task, splits),), backbone, source)


def prepare_members(
    config: TuneConfig, members: Sequence[Member], backbone: Backbone, source: SoftPrompt | None = None, name: str = ""
) -> Run:
    """Resolve the initial prompt of a run on one task or a mixture; `name` is the mixture's.

    Args:
        config: its `init` names the kind of start; `source` overrides it.
        members: tasks with rows and shares.
        backbone: gives the embeddings.
        source: start from this prompt's value.
        name: of the mixture.

    Raises:
        ConfigError: a model is to be tuned from a prompt, or a mixture by a token budget.
        PromptError: the source belongs to another backbone.
        TaskError: a label has no tokens, or two labels have the same.
    """
    if len(members) > 1 and config.batch_tokens is not None:
        raise ConfigError("batch_tokens is for one task: the rows of a mixture are drawn one by one; give batch_size")
    choices = [choice for member in members for choice in collator_for(backbone, member.task).choices]
    mark = backbone.id.fingerprint
    if source is None and config.init not in INITS and not config.init.startswith("text:"):
        source = resolve(config.init)
    if config.method == "model":
        if source is not None:
            raise ConfigError(f"method = 'model' trains no prompt and cannot start from one ({config.init}): drop it")
        return Run(config, tuple(members), torch.zeros(0, backbone.id.width), (), name, mark)
    if source is not None:
        return prepare_from(config, members, backbone, (source,), name=name)
    embeddings = backbone.embeddings().cpu()
    special = backbone.tokenizer.all_special_ids
    length, seed = config.length, config.init_seed
    if config.init == "uniform":
        start = initialisers.uniform(length, backbone.id.width, seed)
    elif config.init == "classes":
        start = initialisers.classes(embeddings, choices, length, seed, special)
    elif config.init.startswith("text:"):
        ids = backbone.tokenizer(config.init.removeprefix("text:"), add_special_tokens=False)["input_ids"]
        start = initialisers.text(embeddings, ids, length)
    else:
        start = initialisers.vocabulary(embeddings, length, seed, special)
    return Run(config, tuple(members), start, (), name, mark)


def prepare_from(
    config: TuneConfig,
    members: Sequence[Member],
    backbone: Backbone,
    sources: Sequence[SoftPrompt],
    weights: Sequence[float] = (),
    name: str = "",
) -> Run:
    """A run that starts from a prompt, or from the weighted mean of several (SPoT section 3.3).

    Args:
        config: its `length` is that of the start.
        members: tasks with rows and shares.
        backbone: that the sources must belong to.
        sources: one prompt, or as many as there are weights.
        weights: of the mean, positive in sum; left out for one prompt.
        name: of the mixture.

    Raises:
        PromptError: a source belongs to another backbone.
    """
    for source in sources:
        check_fits(source, backbone.id)
    values = [initialisers.resized(torch.from_numpy(source.value.copy()), config.length) for source in sources]
    start = initialisers.weighted(values, weights) if weights else values[0]
    shares = weights or (1.0,)
    parents = tuple(Parent(source.digest, float(share)) for source, share in zip(sources, shares, strict=True))
    return Run(config, tuple(members), start, parents, name, backbone.id.fingerprint)


def tune(
    runs: Sequence[Run], backbone: Backbone, out: Path, progress: Progress | None = None, rule: Rule | None = None
) -> list[SoftPrompt]:
    """Train prompts as one gang, or go on where a killed process left them; a finished gang is only read.

    Args:
        runs: of one backbone; steps, length, batch size, optimiser and evaluation steps must be equal.
        backbone: the frozen model.
        out: the run's folder; `prompt.safetensors` (of a gang `prompt-0.safetensors`, ...), `result.json`.
        progress: called after every step, then with the report rows that are scored.
        rule: which runs stop before their end.

    Returns:
        One prompt a run: the best checkpoint by selection score (the last one where the run keeps that), with key,
        start and sketch, scored on the run's report rows where it has any. Of a run that diverged it is the best one
        before; `result.json` says why.

    Raises:
        ConfigError: the runs cannot walk in step.
        RunError: the folder holds another run, or (`Diverged`) the losses of all runs are no number.
    """
    check_gang(runs)
    names = prompt_names(len(runs))
    mark = runs[0].digest
    if len(runs) > 1 or rule is not None:
        mark = digest(runs[0].settings, *[run.digest for run in runs], *([rule.mark] if rule is not None else []))
    with RunDir(out) as folder:
        folder.create("\n".join(to_toml(run.config) for run in runs), mark)
        if read_results(folder) is None:
            states = train(runs, backbone, folder, progress, rule)
            for state, name in zip(states, names, strict=True):
                save(_prompt(state, backbone), out / name)
            write_results(folder, _results(states))
        scorers = [_prompt_scorer(out / name, backbone) for name in names]
        _report(folder, runs, backbone, scorers, progress)
    return [load(out / name) for name in names]


def prompt_names(count: int) -> list[str]:
    """The prompt files in the folder of a gang of `count` runs, in the order of the runs."""
    return ["prompt.safetensors"] if count == 1 else [f"prompt-{number}.safetensors" for number in range(count)]


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
    """Train one prompt: `prepare` and `tune` for a single run, by default in the user's cache."""
    run = prepare(config, task, backbone, splits, source)
    return tune([run], backbone, out or cache_dir() / "runs" / run.digest, progress)[0]


def tune_model(run: Run, backbone: Backbone, out: Path, progress: Progress | None = None) -> Path:
    """Train all weights of a copy of the backbone (paper, appendix C); the backbone itself stays as it is.

    Args:
        run: prepared with method `model`.
        backbone: where the copy starts.
        out: the run's folder; the best checkpoint in `model/`, in Hugging Face layout, and `result.json`.
        progress: called after every step.

    Returns:
        The folder of the tuned model, which `Backbone.load` takes.

    Raises:
        RunError: the folder holds another run, or the loss is no number.
    """
    with RunDir(out) as folder:
        folder.create(to_toml(run.config), run.digest)
        if read_results(folder) is None:
            need = model_bytes(backbone, run.config)
            log.warning(
                "model tuning trains %s parameters and needs about %.1f GB of memory beside the frozen model",
                f"{backbone.parameters:,}",
                need / 1e9,
            )
            copy = _trainable(backbone, run.config.gradient_checkpointing)
            state = train([run], copy, folder, progress)[0]
            with torch.no_grad():
                for name, part in state.trained.items():
                    part.copy_(state.best[name])
            _save_model(copy, out / MODEL)
            write_results(folder, _results([state]))
            del copy, state
        _report(folder, [run], backbone, [_model_scorer(out / MODEL, run)], progress)
    return out / MODEL


def model_bytes(backbone: Backbone, config: TuneConfig) -> int:
    """Memory that model tuning takes beside the frozen model, without activations, in bytes.

    Weights, gradients, the best checkpoint, and one (adafactor) or two (adamw) moments, each of the weights' size in
    float32; and twice what a checkpoint holds (all but the gradients) while it is written.
    """
    moments = 2 if config.optimiser == "adamw" else 1
    return 4 * backbone.parameters * (3 + moments + 2 * (2 + moments))


def _trainable(backbone: Backbone, gradient_checkpointing: bool) -> Backbone:
    """A copy of a backbone whose parameters train, in float32: small steps would round away in bfloat16."""
    copy = Backbone(
        deepcopy(backbone.model).float(), backbone.tokenizer, backbone.id, gradient_checkpointing=gradient_checkpointing
    )
    copy.model.requires_grad_(True)
    return copy


def _report(
    folder: RunDir, runs: Sequence[Run], backbone: Backbone, scorers: Sequence[Scorer], progress: Progress | None
) -> None:
    """Score finished runs on their report rows, which are opened here and not before, and again where they changed."""
    results = list(read_results(folder) or ())
    frozen: dict[str, dict[str, float]] = {}
    changed = False
    for number, (run, scorer) in enumerate(zip(runs, scorers, strict=True)):
        members = [member for member in run.members if member.splits.report]
        rows = "-".join(data_digest(member.splits.report) for member in members)
        if results[number].reported == rows:
            continue
        parts = []
        for member in members:
            collator = collator_of(run, member, backbone)
            parts.append((member, collator, collator.encode(member.splits.report)))
        if rows not in frozen:
            frozen[rows] = _scores(run, parts, backbone, torch.zeros(0, backbone.id.width), progress)
        scores = scorer(run, parts, frozen[rows], progress)
        results[number] = replace(results[number], scores=scores, frozen_scores=frozen[rows], reported=rows)
        changed = True
    if changed:
        write_results(folder, results)


def _prompt_scorer(path: Path, backbone: Backbone) -> Scorer:
    """Scores a run's prompt and writes the scores into its file."""

    def scored(
        run: Run, parts: Sequence[Part], frozen: dict[str, float], progress: Progress | None
    ) -> dict[str, float]:
        prompt = load(path)
        value = torch.tensor(prompt.value, device=backbone.device)
        scores = _scores(run, parts, backbone, value, progress)
        save(replace(prompt, scores=scores, frozen_scores=frozen), path)
        return scores

    return scored


def _model_scorer(path: Path, run: Run) -> Scorer:
    """Scores a tuned model as its user loads it."""

    def scored(
        run: Run, parts: Sequence[Part], frozen: dict[str, float], progress: Progress | None
    ) -> dict[str, float]:
        return _scores(run, parts, Backbone.load(str(path)), run.start, progress)

    return scored


def _scores(
    run: Run, parts: Sequence[Part], backbone: Backbone, prompt: Tensor, progress: Progress | None
) -> dict[str, float]:
    """Scores on the report rows of the members that have any."""
    found = [
        evaluate(backbone, prompt, member.task, collator, member.splits.report, rows, progress)
        for member, collator, rows in parts
    ]
    return named_scores(run, [member.task.name for member, _, _ in parts], found)


def _save_model(backbone: Backbone, folder: Path) -> None:
    """Write weights and tokenizer in Hugging Face layout; the folder is there whole or not at all."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        backbone.model.save_pretrained(part)
        backbone.tokenizer.save_pretrained(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _diagnosis(state: State) -> list[str]:
    """What looks wrong with a finished run, in words; empty where nothing does."""
    found = []
    config = state.run.config
    if state.constant:
        found.append(
            "every selection row gets the same answer: the prompt does not tell the classes apart; try more "
            "steps, a higher learning_rate, or init = 'classes'"
        )
    if config.steps and state.first_gradient < 1e-8:
        found.append(f"the gradient of the first step is {state.first_gradient:.1e}: nothing reaches the prompt")
    moved = float((state.prompt.detach().cpu() - state.run.start).norm())
    if config.steps and config.method == "prompt" and moved < 1e-4 * float(state.run.start.norm()):
        found.append(f"the prompt moved by {moved:.1e} in {config.steps} steps: give a higher learning_rate")
    if config.key_step is not None and state.key is not None and not _recipe_holds(config):
        names = ", ".join(UNKEYED)
        found.append(f"the key has no recipe, so no library will take it: expected the defaults of {names}")
    if config.steps and state.best_step == 0:
        found.append("no step scored better on the selection rows than the start; try another learning_rate")
    return found


def _results(states: Sequence[State]) -> list[RunResult]:
    """The results of runs that are finished, with what looks wrong with them."""
    results = []
    for state in states:
        diagnosis = [] if state.diverged or state.dropped else _diagnosis(state)
        for line in diagnosis:
            log.warning("%s: %s", state.run.title, line)
        results.append(result_of(state, diagnosis))
    return results


def _recipe_holds(config: TuneConfig) -> bool:
    """Whether a key recipe says everything that the key depends on."""
    return all(getattr(config, name) == TuneConfig.model_fields[name].default for name in UNKEYED)


def _prompt(state: State, backbone: Backbone) -> SoftPrompt:
    """The finished run as a prompt file's content, with its selection scores; nothing depends on time or place."""
    run, config = state.run, state.run.config
    used = sorted({pair for batch in state.batches[: state.last_step] for pair in batch})
    texts = (text for member, row in used for text in run.members[member].splits.train[row].texts)
    kind = "prompt" if run.parents else config.init
    recipe = None
    if state.key is not None and _recipe_holds(config):
        names = (
            "length",
            "init",
            "init_seed",
            "optimiser",
            "learning_rate",
            "weight_decay",
            "batch_size",
            "max_input_tokens",
        )
        recipe = KeyRecipe(step=config.key_step, **{name: getattr(config, name) for name in names})
    task = run.members[0].task if len(run.members) == 1 else None
    rows = [row for member in run.members for row in member.splits.train]
    return SoftPrompt(
        value=state.best["prompt"].cpu().numpy(),
        backbone=backbone.id,
        task=run.title,
        step=state.best_step,
        key=None if state.key is None else state.key.cpu().numpy(),
        start=run.start.cpu().numpy(),
        sketch=build(texts),
        task_revision=task.revision if task else "",
        seed=config.seed,
        initialiser=kind,
        parents=run.parents,
        key_recipe=recipe,
        config={**config.model_dump(mode="json"), "task": run.title, "backbone": backbone.id.name, "init": kind},
        scores=state.best_scores,
        data_digest=data_digest(rows),
        code_version=version("spot-transfer"),
        reading=reading_of_run(run).for_kind(backbone.id.kind),
    )
