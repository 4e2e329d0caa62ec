"""Transfer: rank the library's prompts for a task, start from the right one, and say whether it helped.

A strategy is a plan (`strategies.py`) that is carried out in one way for all of them (`candidates.py`). Selection rows
choose, report rows report and stay closed until everything is chosen, and a report row that any source was trained on
is left out. At the end the library remembers what each source that was tuned to the end gained on selection rows.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from spot.config import TransferConfig, TuneConfig, digest, read_budget
from spot.errors import ConfigError, LibraryError, RunError, TaskError
from spot.evaluation.evaluation import Progress
from spot.library.entries import differing_settings
from spot.library.history import TransferRecord
from spot.library.library import Entry, Library
from spot.models.backbone import Backbone
from spot.prompts.overlap import Sketch, seen_by_any
from spot.prompts.prompt import KeyRecipe, SoftPrompt, load
from spot.retrieval.embeddings import encoded_summaries
from spot.retrieval.ranking import LEARNED, Ranking, rank_by_history, read_ranking, remember, retrieve, write_ranking
from spot.retrieval.search import check_k
from spot.storage.files import cache_dir, write_whole
from spot.strategies.candidates import (
    Candidate,
    Carried,
    Get,
    carry_out,
    check_rows,
    from_scratch,
    mixture_members,
    tune_mixture,
)
from spot.strategies.comparison import Bench, Trial, compare, mean_of, vectors
from spot.strategies.plans import RACE_BUDGET, Plan, Start, choose, plan, price
from spot.strategies.report import TransferReport
from spot.tasks.splits import LazyRows, Splits
from spot.tasks.task import Example, Task, data_digest
from spot.training.loop import Diverged, seconds_of
from spot.training.result import RunResult
from spot.training.run import Member, prepare_run
from spot.training.tuning import tune_prompt

log = logging.getLogger(__name__)

USUAL_K = {"best": 1, "average": 3, "mixture": 3}  # where k is left out; SPoT's best average had 3 (section 3.3)


def embed_target(
    task: Task,
    splits: Splits,
    backbone: Backbone,
    recipe: KeyRecipe,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> SoftPrompt:
    """Train a task up to a library's key step, and no further: its `key` and `start` are the task embedding.

    Args:
        task: the target.
        splits: its rows.
        backbone: the library's backbone.
        recipe: the library's key recipe.
        out: the run's folder; in the user's cache when left out.
        progress: called after every step.
    """
    config = recipe_config(task, recipe, steps=recipe.step, eval_every=recipe.step)
    unseen = Splits(splits.train, splits.selection, ())
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


def transfer_rows(
    task: Task,
    splits: Splits,
    backbone: Backbone,
    library: Library,
    config: TransferConfig,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
    data: Path | None = None,
) -> TransferReport:
    """Tune a target from scratch and from the library at equal steps, and compare on report rows.

    Args:
        task: the target.
        splits: its rows; none of the report rows chooses anything.
        backbone: the library's backbone.
        library: source prompts with one key recipe, which the plain runs follow too; remembers what was found.
        config: strategy, similarity, steps and seeds.
        out: folder of all runs; in the user's cache when left out.
        progress: called after every step of every gang.
        data: where the rows of known data sets are; a `mixture` needs those of its sources.

    Raises:
        ConfigError: steps end before the key step, k is beyond the library, or the budget does not hold the strategy.
        LibraryError: no prompt of the library can start this task, or their keys cannot be compared.
        RunError: every plain run or every candidate diverged.
        TaskError: every selection or report row is in a source's training rows, or a mixture's rows are not at hand.
    """
    entries = _sources(library, backbone, task)
    _check(config, entries, str(library.path))
    if config.strategy == "mixture":
        names = sorted({entry.task for entry in entries})
        check_rows(names, min(config.k or USUAL_K["mixture"], len(names)), data)
    sketches = [prompt.sketch for prompt in (library.get(entry.digest) for entry in entries) if prompt.sketch]
    asked, splits = splits, _without_overlap(task, splits, sketches)
    tuning = recipe_config(task, entries[0].key_recipe, steps=config.steps, eval_every=config.eval_every)
    mark = digest(
        tuning, data_digest(splits.train), data_digest(splits.selection), backbone.id.fingerprint, str(config.seeds)
    )
    out = out or cache_dir() / "transfers" / f"{task.name.replace('/', '-')}-{mark}"
    bench = Bench(task, splits, backbone, tuning, config.seeds, out, progress)
    budget = _budget(bench, config)

    plains = _plain(bench, config.starts)
    first = plains[config.starts[0]]
    trials = [Trial("frozen", None, (torch.zeros(0, backbone.id.width),))]
    trials += [_trial(f"plain:{start}", plain) for start, plain in plains.items() if not plain.diverged]
    more, found, lessons = _by_strategy(bench, library, config, first, budget, data, sketches)
    trials += more
    if config.model_learning_rate is not None:
        trials.append(bench.tune_models(config.model_learning_rate))
    if left_out := len(asked.report) - len(splits.report):
        log.warning(
            "%s: %d of %d report rows are in a source's training rows and are left out",
            task.name,
            left_out,
            len(asked.report),
        )
    if not splits.report:
        raise TaskError(_all_seen(task, "report"))
    report = compare(bench, [bench.measure(trial) for trial in trials], first.spent("tokens"), left_out, **found)
    remember(library, lessons)
    return report


def _by_strategy(
    bench: Bench,
    library: Library,
    config: TransferConfig,
    plain: Candidate,
    budget: float | None,
    data: Path | None,
    sketches: list[Sketch],
) -> tuple[tuple[Trial, ...], dict[str, Any], list[TransferRecord]]:
    """Rank the sources, carry out the strategy's plan, and say what was found.

    Returns:
        The arms that it adds, what the report says of it, and what the library is to remember.
    """
    if config.strategy == "none":
        return (), {"strategy": "none"}, []
    target = next(prompt for prompt in map(load, plain.files) if prompt.key is not None)
    ranking = _ranked(target, library, config, bench.out)
    made, reason = _plan(config, ranking, bench.config, len(bench.splits.selection), budget)
    found: dict[str, Any] = {
        "strategy": made.strategy,
        "reason": reason,
        "ranking": ranking.sources,
        "rank_by": ranking.rank_by,
        "expected": ranking.expected,
    }
    if made.strategy == "none":
        return (), found, []
    mixture = _mixture(bench, library.get, data, config, sketches)
    carried = carry_out(bench, made, library.get, plain, mixture)
    found |= {"k": len(made.sources), "candidates": carried.summaries()}
    key_step = 0 if made.strategy == "oracle" else bench.config.key_step or 0  # it takes all, whatever their order
    arms = _transferred(carried, plain, key_step, ranking, library.get)
    return arms, found, _lessons(bench, carried, target, plain)


def _check(config: TransferConfig, entries: Sequence[Entry], place: str) -> None:
    """Refuse what cannot work with these sources before anything is trained."""
    for entry in entries[1:]:
        if entry.key_recipe != entries[0].key_recipe:
            raise LibraryError(
                f"{place} holds keys of more than one recipe, which cannot be compared: that of "
                f"{entries[0].task!r} and that of {entry.task!r} differ, "
                f"{differing_settings(entries[0].key_recipe, entry.key_recipe)}. Take one kind out with "
                "`spot library remove`."
            )
    if entries[0].key_recipe is None:
        raise LibraryError(
            f"{place}: the key recipe of {entries[0].task!r} is unknown. Add prompts that were tuned "
            "with a key_step: `spot library add`."
        )
    if config.strategy == "none":
        return
    if config.k is not None and config.strategy != "oracle":
        check_k(config.k, len(entries), place)
    if config.starts[0] != entries[0].key_recipe.init:
        raise ConfigError(
            f"the first of starts is {config.starts[0]!r}, and the task embedding is read from its run; expected "
            f"{entries[0].key_recipe.init!r}, the start of the library's keys. Put that first."
        )


def _budget(bench: Bench, config: TransferConfig) -> float | None:
    """What the strategy may train, as a multiple of one plain run's; None for no limit.

    A time is compared with that of one plain run of all seeds, as a few steps on the real rows foretell it. That is
    measured once and kept, so that a killed transfer goes on by the same plan.

    Raises:
        ConfigError: the time is shorter than one plain run.
    """
    if config.budget is None:
        return RACE_BUDGET if config.strategy in ("race", "auto") else None
    amount, unit = read_budget(config.budget)
    if unit == "x":
        return amount
    path = bench.out / "probe.json"
    try:
        seconds = float(json.loads(path.read_bytes())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        runs = bench.runs(prepare_run(bench.config, (Member(bench.task, bench.splits),), bench.backbone))
        seconds = seconds_of(runs, bench.backbone)
    if amount < seconds:
        raise ConfigError(
            f"the budget {config.budget} is {amount / seconds:.2f} of one plain run, which takes about "
            f"{seconds:.0f} s here (steps = {config.steps}, seeds = {config.seeds}); expected one run or more: give "
            f"{math.ceil(seconds / 60)}min, or fewer steps or seeds"
        )
    write_whole(path, json.dumps({"seconds": seconds}).encode())
    return amount / seconds


def _plain(bench: Bench, starts: Sequence[str]) -> dict[str, Candidate]:
    """Plain tuning from every start; the first is the target's own run, which its task embedding is read from.

    Raises:
        RunError: the first diverged in every seed, or each of them in some.
    """
    plains = {starts[0]: from_scratch(bench, starts[0])}
    for start in starts[1:]:
        try:
            plains[start] = from_scratch(bench, start)
        except Diverged as error:
            log.warning("%s: no arm of plain tuning from %r: %s", bench.task.name, start, error)
    for start, plain in plains.items():
        if plain.diverged:
            log.warning("%s: no arm of plain tuning from %r: %s", bench.task.name, start, plain.diverged)
    if all(plain.diverged for plain in plains.values()):
        raise RunError(
            f"plain prompt tuning of {bench.task.name} diverged in some seed of every start, so there is nothing to "
            f"compare with: {plains[starts[0]].diverged} (the settings are those of the library's keys: take another "
            "library, or mend the rows)"
        )
    return plains


def _ranked(target: SoftPrompt, library: Library, config: TransferConfig, out: Path) -> Ranking:
    """All sources for the target; `auto` goes by past transfers where they are enough and no other was asked for.

    What past transfers say is asked once and kept in the transfer's folder, for later ones change it.
    """
    prompts = {entry.digest for entry in library.entries(target.backbone) if entry.task != target.task}
    is_open = (config.strategy, config.rank_by) == ("auto", "mean")
    path = out / f"ranking-{digest(config)[:8]}.json"
    if not is_open and config.rank_by != LEARNED:
        return retrieve(target, library, k=len(prompts), rank_by=config.rank_by, without={target.task})
    if (ranking := read_ranking(path, prompts)) is not None:
        return ranking
    if is_open:
        ranking = rank_by_history(target, library, k=len(prompts), without={target.task})
    else:
        ranking = retrieve(target, library, k=len(prompts), rank_by=LEARNED, without={target.task})
    write_ranking(path, ranking)
    return ranking


def _plan(
    config: TransferConfig, ranking: Ranking, tuning: TuneConfig, select_rows: int, budget: float | None
) -> tuple[Plan, str]:
    """The plan of the strategy, and what `auto` says of its choice.

    Raises:
        ConfigError: the budget does not hold it.
    """
    key_step = tuning.key_step or 0
    shape = {"steps": config.steps, "eval_every": config.eval_every, "key_step": key_step, "restarts": config.restarts}
    limit = {} if budget is None else {"budget": budget}
    strategy, reason, known = config.strategy, "", len(ranking.sources)
    k = known if strategy == "oracle" else config.k or min(USUAL_K.get(strategy, known), known)
    if strategy == "auto":
        values = ranking.expected or [one.similarity for one in ranking.sources]
        choice = choose(values[:k], select_rows=select_rows, learned=bool(ranking.expected), **shape, **limit)
        strategy, k, reason = choice.strategy, choice.k, choice.reason
    made = plan(strategy, ranking.sources, k=k, **shape, **limit)
    cost = price(made, key_step)
    if strategy == "mixture":
        cost += (config.mixture_steps or config.steps) / config.steps
    if budget is not None and cost > budget + 1e-9:
        raise ConfigError(
            f"{strategy} with {len(made.starts)} start{'s' if len(made.starts) > 1 else ''} costs up to {cost:.2f} "
            f"plain runs, retrieval's {key_step} of {config.steps} steps included, and the budget is {budget:.2f}; "
            "give a larger budget, a smaller k, fewer restarts, or the strategy auto, which picks what fits"
        )
    return made, reason


def _mixture(
    bench: Bench, get: Get, data: Path | None, config: TransferConfig, sketches: list[Sketch]
) -> Callable[[Start], tuple[SoftPrompt, dict[str, float]]]:
    """A function that tunes a mixture's prompt; rows that it has seen are then left out of the report too."""

    def tuned(start: Start) -> tuple[SoftPrompt, dict[str, float]]:
        unseen = Member(bench.task, Splits(bench.splits.train, bench.splits.selection, ()))
        members, sketch = mixture_members(start, get, unseen, data)
        sketches.append(sketch)
        return tune_mixture(bench, members, config.mixture_steps or config.steps)

    return tuned


def _trial(arm: str, one: Candidate, source: str | None = None, **changes: Any) -> Trial:
    """An arm of finished runs."""
    values = {"results": one.results, "tokens": one.spent("tokens"), **changes}
    return Trial(arm, source, vectors([load(file) for file in one.files]), folder=one.folder, files=one.files, **values)


def _transferred(carried: Carried, plain: Candidate, key_step: int, ranking: Ranking, get: Get) -> tuple[Trial, Trial]:
    """The arms `source` (where the winner began, as it is) and `spot` (tuned from there).

    Where a start from scratch won, `source` is the nearest source, which retrieval alone found.
    """
    winner = carried.winner
    retrieval = plain.spent("tokens", key_step)
    total = carried.spent("tokens", plain, key_step)
    seconds = max(0.0, carried.spent("seconds") - mean_of(winner.results, "seconds"))
    name, value, before = winner.start.name, winner.value, total - mean_of(winner.results, "tokens")
    if winner.start.kind == "scratch":
        nearest = get(ranking.sources[0].prompt)
        name, value, before = nearest.task, torch.tensor(nearest.value), retrieval
    later = tuple(_later(result, seconds) for result in winner.results)
    spot = _trial("spot", winner, winner.start.name, results=later, tokens=total)
    return Trial("source", name, (value,), tokens=before), spot


def _later(result: RunResult, seconds: float) -> RunResult:
    """A run's result as it is after other candidates have taken their time."""
    curve = tuple(replace(point, seconds=point.seconds + seconds) for point in result.curve)
    return replace(result, seconds=result.seconds + seconds, curve=curve)


def _lessons(bench: Bench, carried: Carried, target: SoftPrompt, plain: Candidate) -> list[TransferRecord]:
    """What each source that was tuned to the end gained over plain tuning, points on selection rows."""
    tuned = [one for one in carried.candidates if one.start.kind == "prompt" and not one.dropped and not one.diverged]
    if plain.diverged:
        return []
    rows = [data_digest(part) for part in (bench.splits.train, bench.splits.selection)]
    embedding = encoded_summaries(target)
    return [
        TransferRecord(
            id=digest(bench.config, prompt, *rows, str(bench.seeds), bench.backbone.id.fingerprint),
            source=prompt,
            source_task=task,
            target=bench.task.name,
            gain=one.selection - plain.selection,
            steps=bench.config.steps,
            rows=len(bench.splits.train),
            seeds=bench.seeds,
            embedding=embedding,
        )
        for one in tuned
        for prompt, task in zip(one.start.prompts, one.start.tasks, strict=True)
    ]


def _sources(library: Library, backbone: Backbone, task: Task) -> list[Entry]:
    """The prompts that may start the target: of this backbone, with a key, and not of the target itself."""
    fitting = library.entries(backbone.id)
    if foreign := len(library.entries()) - len(fitting):
        log.warning(
            "%d prompts in %s are not of the backbone %s and are passed over", foreign, library.path, backbone.id
        )
    entries = [entry for entry in fitting if entry.task != task.name]
    if not entries:
        raise LibraryError(
            f"the library {library.path} holds no source for {task.name}: its backbone is {library.backbone}, the one "
            f"here is {backbone.id}; add a prompt of this backbone and another task with `spot library add`"
        )
    return entries


def _without_overlap(task: Task, splits: Splits, sketches: Sequence[Sketch]) -> Splits:
    """Leave out selection and report rows that a source was trained on.

    Report rows are not read here, and those that more `sketches` hold by then are left out too.
    """

    def clean(rows: Sequence[Example]) -> tuple[Example, ...]:
        known = seen_by_any(sketches, [row.texts for row in rows])
        return tuple(row for row, is_known in zip(rows, known, strict=True) if not is_known)

    select = clean(splits.selection)
    if not select:
        raise TaskError(_all_seen(task, "selection"))
    return Splits(splits.train, select, LazyRows(lambda: clean(splits.report)))


def _all_seen(task: Task, role: str) -> str:
    """The message for a role whose rows are all known to the sources."""
    return (
        f"all {role} rows of {task.name} are in the training rows of the library's sources: no honest figure is "
        "possible; give other rows"
    )
