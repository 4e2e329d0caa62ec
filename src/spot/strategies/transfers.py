"""Transfer: rank the library's prompts for a task, start from the right one, and say whether it helped.

A strategy is a plan (`plans.py`) that is executed in one way for all of them (`candidates.py`). Selection rows choose,
report rows report and stay closed until everything is chosen, and a report row that any source was trained on is left
out. At the end the library remembers what each source that was tuned to the end gained on selection rows.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spot.config import TransferConfig, TuneConfig, digest
from spot.errors import ConfigError, LibraryError, RunError, TaskError
from spot.evaluation.predictions import Progress
from spot.evaluation.scoring import interval
from spot.library.entries import differing_settings
from spot.library.history import TransferRecord
from spot.library.library import Entry, Library
from spot.models.backbone import Backbone
from spot.prompts.overlap import Sketch, seen_by_any
from spot.prompts.prompt import KeyRecipe, SoftPrompt
from spot.retrieval.embeddings import SIMILARITIES, encoded_summaries
from spot.retrieval.ranking import Ranking, rank_by_history, read_ranking, remember, retrieve, write_ranking
from spot.retrieval.search import check_k
from spot.storage.files import cache_dir
from spot.strategies.arms import Arm, plain_title, spot_title
from spot.strategies.as_is import AS_IS, MOST_PROMPTS, Tried, nearest_prompts, ranking_as_is, try_sources
from spot.strategies.auto import choose_strategy, nothing_near
from spot.strategies.budget import Fit, fit
from spot.strategies.candidates import Candidate, ExecutedPlan, run_plan, tune_plain, tune_plain_at_best_rate
from spot.strategies.comparison import PreparedArm, StrategySummary, compare, measure, measure_baseline, tune_model_arm
from spot.strategies.instead import LATE, check_arms, fit_arms, fit_behind_sources
from spot.strategies.news import Begun, Planned, Scored
from spot.strategies.plans import PLAIN, RACE_BUDGET, Plan, plan_transfer, price
from spot.strategies.report import TransferReport
from spot.strategies.report_rows import evaluate_selection
from spot.strategies.source_mixtures import check_rows, tune_source_mixture
from spot.strategies.target import TargetRuns, recipe_config
from spot.tasks.splits import Splits, sample_rows
from spot.tasks.task import Example, Task, data_digest
from spot.training.loop import Diverged
from spot.training.result import RunResult, mean_amount

log = logging.getLogger(__name__)

SAID = 3  # sources that are named as soon as they are ranked
USUAL_K = {"best": 1, "average": 3, "mixture": 3}  # where k is left out; SPoT's best average had 3 (section 3.3)


@dataclass(frozen=True)
class _Chosen:
    """A plan, and what `auto` says of its choice; no reason where the strategy was asked for."""

    plan: Plan
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class _Executed:
    """What a strategy comes to.

    Attributes:
        summary: for the report.
        arms: that it adds.
        records: that the library is to remember.
        sketches: of source rows that were trained on meanwhile.
    """

    summary: StrategySummary
    arms: tuple[PreparedArm, ...] = ()
    records: tuple[TransferRecord, ...] = ()
    sketches: tuple[Sketch, ...] = ()


@dataclass(frozen=True)
class _Plain:
    """Plain tuning from the first start: the run that the embedding is read from, and the one to compare with.

    They are one where the recipe's learning rate is that of all runs.

    Attributes:
        embedding: the run that follows the library's recipe.
        compared: the one to compare with.
        is_keyed: whether the key of the former is a task embedding that the library's can be compared with.
    """

    embedding: Candidate
    compared: Candidate
    is_keyed: bool = True


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

    What is known on the way goes to the log as it comes, see `spot.strategies.news`: what each prompt of the library
    does as it is, then each arm on selection rows, then each on report rows.

    Args:
        task: the target.
        splits: its rows; none of the report rows chooses anything, and a sample of them reports where the budget holds
            no more.
        backbone: the library's backbone.
        library: source prompts with one key recipe, which the plain runs follow too; remembers what was found.
        config: strategy, similarity, steps and seeds.
        out: folder of all runs; in the user's cache when left out.
        progress: called after every step of every gang.
        data: where the rows of known data sets are; a `mixture` needs those of its sources.

    Raises:
        ConfigError: steps end before the key step, k is beyond the library, or the budget does not hold the strategy.
        LibraryError: no prompt of the library can start this task, or their keys cannot be compared.
        MissingExtra, BackboneError: an arm of `instead` cannot run at all.
        RunError: every plain run or every candidate diverged.
        TaskError: every selection or report row is in a source's training rows, or a mixture's rows are not at hand.
    """
    entries = _source_entries(library, backbone, task)
    recipe = _checked_recipe(config, entries, str(library.path))
    if config.strategy == "mixture":
        names = sorted({entry.task for entry in entries})
        check_rows(names, min(config.k or USUAL_K["mixture"], len(names)), data)
    sketches = [prompt.sketch for prompt in (library.get(entry.digest) for entry in entries) if prompt.sketch]
    selection = _unseen(splits.selection, sketches)
    if not selection:
        raise TaskError(_all_seen(task, "selection"))
    settings = recipe_config(task, recipe, steps=config.steps, eval_every=config.eval_every)
    rows = (data_digest(splits.train), data_digest(selection), *filter(None, [task.reading.spelling]))
    timed = [config.budget] if config.budget and not config.budget.endswith("x") else []
    asked = digest(settings, *rows, backbone.id.fingerprint, str(config.seeds), *timed)
    target = TargetRuns(
        task=task,
        splits=Splits(splits.train, selection, ()),
        backbone=backbone,
        config=settings,
        seeds=config.seeds,
        out=out or cache_dir() / "transfers" / f"{task.name.replace('/', '-')}-{asked}",
        progress=progress,
        races_rates=config.prompt_learning_rate == "auto",
    )
    check_arms(target, config)
    starts = _starts(task, config, recipe)

    instead = fit_arms(target, config, [name for name in config.baselines if name == "constant"])
    frozen = PreparedArm(arm="frozen", prompts=(torch.zeros(0, backbone.id.width),))
    _say_as_is(target, "the frozen model without a prompt", frozen.prompts[0])
    tried = _tried(target, library, entries, config)
    log.info(Begun(part="looking how fast this machine is"))
    settled = fit(target, config, plain_arms=len(starts))
    settings = recipe_config(task, recipe, steps=settled.steps, eval_every=settled.eval_every)
    target = replace(target, config=settings, seeds=settled.seeds)
    config = config.model_copy(update={"steps": settled.steps, "eval_every": settled.eval_every})
    if settled.total:
        log.info(
            Planned(
                budget=config.budget or "",
                seeds=settled.seeds,
                steps=settled.steps,
                report=settled.report,
                seconds=settled.total,
                is_over=settled.is_over,
            )
        )
    log.info(Begun(part="what learns without a prompt", after=settled.total))
    instead = instead.beside(
        fit_arms(target, config, [name for name in config.baselines if name not in (*LATE, "constant")])
    )
    instead = instead.beside(fit_behind_sources(target, config, nearest_prompts(tried, library)))
    first, plains = _tune_plain_starts(target, starts, settled)
    arms = [frozen]
    arms += [_tuned_arm(f"plain:{start}", plain) for start, plain in plains.items() if not plain.diverged]
    plain = _Plain(first, plains[starts[0]], is_keyed=starts[0] == recipe.init)
    executed = _execute(target, library, config, plain, settled, tried, data)
    arms += executed.arms
    late = [name for name in config.baselines if name in LATE]
    if late:
        log.info(Begun(part="what learns without a prompt", after=settled.reporting))
    instead = instead.beside(fit_arms(target, config, late))
    if config.model_learning_rate is not None:
        log.info(Begun(part="full model tuning", after=settled.reporting))
        arms.append(tune_model_arm(target, config.model_learning_rate))

    report = _unseen(splits.report, [*sketches, *executed.sketches])
    left_out = len(splits.report) - len(report)
    if left_out:
        log.warning(
            "%s: %d of %d report rows are in a source's training rows and are left out",
            task.name,
            left_out,
            len(splits.report),
        )
    if not report:
        raise TaskError(_all_seen(task, "report"))
    report = report if settled.report is None else sample_rows(report, settled.report)
    log.info(Begun(part=f"all arms on {len(report)} report rows", seconds=settled.reporting))
    opened = replace(target, splits=replace(target.splits, report=report))
    measured = []
    for fitted in instead.fitted.values():
        measured.append(_told(measure_baseline(opened, fitted), len(report)))
    for arm in arms:
        measured.append(_told(measure(opened, arm), len(report)))
    compared = compare(
        opened,
        measured,
        executed.summary,
        plain_tokens=first.spent("tokens"),
        left_out=left_out,
        not_run=instead.not_run,
    )
    remember(library, executed.records)
    return compared


def _execute(
    target: TargetRuns,
    library: Library,
    config: TransferConfig,
    plain: "_Plain",
    settled: Fit,
    tried: Sequence[Tried],
    data: Path | None,
) -> _Executed:
    """Rank the sources, execute the strategy's plan, and say what it came to.

    Args:
        target: without report rows.
        library: source prompts.
        config: strategy, similarity, steps and seeds.
        plain: plain tuning from the first start.
        settled: what the strategy may train, and how long it is expected to take.
        tried: what the sources say of the target as they are.
        data: where the rows of known data sets are.
    """
    if config.strategy == "none":
        return _Executed(summary=StrategySummary(strategy="none"))
    embedded = next(prompt for prompt in plain.embedding.prompts if prompt.key is not None)
    ranking = ranking_as_is(tried) if config.rank_by == AS_IS else _ranked(embedded, library, config, target.out)
    far = nothing_near(ranking)
    _say_ranking(target, ranking, library, is_tried=bool(tried))
    chosen = _chosen_plan(config, ranking, target.config, len(target.splits.selection), settled.strategy)
    plan = chosen.plan
    for sentence in filter(None, [far, chosen.reason]):
        log.info("%s", sentence)
    summary = StrategySummary(strategy=plan.strategy, ranking=ranking, reason=chosen.reason, far=far)
    if plan.strategy == "none":
        return _Executed(summary=summary)
    arms = {start.prompts: spot_title(start.name) for start in plan.starts if start != PLAIN}
    log.info(
        Begun(
            part=" and ".join(dict.fromkeys(arms.values())),
            seconds=settled.transferring,
            after=settled.reporting,
            arms=arms,
        )
    )
    mixture = None
    if plan.strategy == "mixture":
        steps = config.mixture_steps or config.steps
        mixture = tune_source_mixture(target, plan.starts[0], library, steps, data)
    executed = run_plan(target, plan, library, plain.embedding, mixture)
    # `oracle` takes all, whatever their order, and `as_is` ranks them without a run.
    is_free = plan.strategy == "oracle" or config.rank_by == AS_IS
    key_step = 0 if is_free else target.config.key_step or 0
    if executed.winner.start != PLAIN:
        _say_tuned(target, spot_title(executed.winner.start.name), executed.winner)
    return _Executed(
        summary=replace(
            summary, k=len(plan.sources), candidates=executed.summaries(), is_plain=executed.winner.start == PLAIN
        ),
        arms=_transferred_arms(executed, plain.embedding, key_step, ranking, library),
        records=_transfer_records(target, executed, embedded if plain.is_keyed else None, plain.compared),
        sketches=() if mixture is None else (mixture.sketch,),
    )


def _checked_recipe(config: TransferConfig, entries: Sequence[Entry], place: str) -> KeyRecipe:
    """The key recipe that all sources share; what cannot work with them is refused before anything is trained."""
    recipe = entries[0].key_recipe
    for entry in entries[1:]:
        if entry.key_recipe != recipe:
            raise LibraryError(
                f"{place} holds keys of more than one recipe, which cannot be compared: that of "
                f"{entries[0].task!r} and that of {entry.task!r} differ, "
                f"{differing_settings(recipe, entry.key_recipe)}. Take one kind out with "
                "`spot library remove`."
            )
    if recipe is None:
        raise LibraryError(
            f"{place}: the key recipe of {entries[0].task!r} is unknown. Add prompts that were tuned "
            "with a key_step: `spot library add`."
        )
    if config.restarts > 1 and recipe.init.startswith("text:"):
        raise ConfigError(
            f"restarts is {config.restarts}, and the runs of {place} start from {recipe.init!r:.60}, of which "
            "there is no other draw; expected restarts = 1"
        )
    if config.k is not None and config.strategy not in ("none", "oracle"):
        check_k(config.k, len(entries), place)
    return recipe


def _starts(task: Task, config: TransferConfig, recipe: KeyRecipe) -> tuple[str, ...]:
    """The starts of plain arms: that of the library's keys, those asked for, and the task's instruction.

    A gain over less than the last is no gain. Where no task embedding is needed, what is asked for takes the first's
    place.
    """
    is_embedded = config.strategy != "none" and config.rank_by != AS_IS
    keyed = () if config.starts and not is_embedded else (recipe.init,)
    told = ("instruction",) if task.instruction else ()
    return tuple(dict.fromkeys((*keyed, *config.starts, *told)))


def _tried(target: TargetRuns, library: Library, entries: Sequence[Entry], config: TransferConfig) -> tuple[Tried, ...]:
    """What the sources say of the target as they are, where it is asked for or the library is small."""
    if config.strategy == "none" or (config.rank_by != AS_IS and len(entries) > MOST_PROMPTS):
        return ()
    log.info(Begun(part=f"{len(entries)} prompts of the library as they are"))
    return try_sources(target, library, entries)


def _told(arm: Arm, rows: int) -> Arm:
    """The arm, after its score on report rows was told."""
    log.info(
        Scored(
            arm=arm.title, score=arm.score, interval=arm.interval, rows=rows, role="report", seconds=arm.seconds or None
        )
    )
    return arm


def _tune_plain_starts(
    target: TargetRuns, starts: Sequence[str], settled: Fit
) -> tuple[Candidate, dict[str, Candidate]]:
    """Plain tuning from every start.

    Returns:
        The run from the first start by the library's recipe, which the task embedding is read from; and the candidates
        by start, which that run is one of unless rates race.

    Raises:
        RunError: the first diverged in every seed, or each of them in some.
    """
    is_arm = not target.races_rates
    part = plain_title(starts[0]) if is_arm else "the task embedding"
    log.info(Begun(part=part, seconds=settled.plain, after=settled.after(1 if is_arm else 0)))
    first = tune_plain(target, starts[0])
    plains = {starts[0]: first} if is_arm else {}
    if plains:
        _say_tuned(target, plain_title(starts[0]), first)
    for number, start in enumerate(starts[len(plains) :], len(plains)):
        log.info(Begun(part=plain_title(start), seconds=settled.arm, after=settled.after(number + 1)))
        try:
            plains[start] = tune_plain_at_best_rate(target, start) if target.races_rates else tune_plain(target, start)
        except Diverged as error:
            log.warning("%s: no arm of plain tuning from %r: %s", target.task.name, start, error)
            continue
        if not plains[start].diverged:
            _say_tuned(target, plain_title(start), plains[start])
    for start, plain in plains.items():
        if plain.diverged:
            log.warning("%s: no arm of plain tuning from %r: %s", target.task.name, start, plain.diverged)
    if all(plain.diverged for plain in plains.values()):
        raise RunError(
            f"plain prompt tuning of {target.task.name} diverged in some seed of every start, so there is nothing to "
            f"compare with: {first.diverged} (the settings are those of the library's keys: take another "
            "library, or mend the rows)"
        )
    plains.setdefault(starts[0], first)
    return first, plains


def _ranked(target: SoftPrompt, library: Library, config: TransferConfig, out: Path) -> Ranking:
    """All sources for the target; `auto` goes by past transfers where they are enough and no other was asked for.

    What past transfers say is asked once and kept in the transfer's folder, for later ones change it.
    """
    prompts = {entry.digest for entry in library.entries(target.backbone) if entry.task != target.task}
    is_open = (config.strategy, config.rank_by) == ("auto", "mean")
    path = out / f"ranking-{digest(config.without_baselines)[:8]}.json"
    if not is_open and config.rank_by in SIMILARITIES:
        return retrieve(target, library, k=len(prompts), rank_by=config.rank_by, without={target.task})
    if (ranking := read_ranking(path, prompts)) is not None:
        return ranking
    if is_open:
        ranking = rank_by_history(target, library, k=len(prompts), without={target.task})
    else:
        ranking = retrieve(target, library, k=len(prompts), rank_by=config.rank_by, without={target.task})
    write_ranking(path, ranking)
    return ranking


def _chosen_plan(
    config: TransferConfig, ranking: Ranking, settings: TuneConfig, selection_rows: int, budget: float | None
) -> _Chosen:
    """The plan of the strategy, and what `auto` says of its choice.

    Args:
        config: the strategy, and how many sources it has.
        ranking: of the sources.
        settings: of the runs on the target.
        selection_rows: that will choose between candidates.
        budget: most that the strategy may train, as a multiple of one plain run's; None for no limit.

    Raises:
        ConfigError: the budget does not hold it.
    """
    key_step = 0 if config.rank_by == AS_IS else settings.key_step or 0
    limit = RACE_BUDGET if budget is None else budget
    strategy, reason, sources = config.strategy, "", len(ranking.sources)
    k = sources if strategy == "oracle" else config.k or min(USUAL_K.get(strategy, sources), sources)
    if strategy == "auto":
        values = ranking.expected or [source.similarity for source in ranking.sources]
        choice = choose_strategy(
            values[:k],
            select_rows=selection_rows,
            steps=config.steps,
            eval_every=config.eval_every,
            key_step=key_step,
            restarts=config.restarts,
            budget=limit,
            learned=bool(ranking.expected),
        )
        strategy, k, reason = choice.strategy, choice.k, f"{choice.reason} {ranking.why}".rstrip()
    plan = plan_transfer(
        strategy,
        ranking.sources,
        k=k,
        steps=config.steps,
        eval_every=config.eval_every,
        key_step=key_step,
        restarts=config.restarts,
        budget=limit,
    )
    cost = price(plan, key_step)
    if strategy == "mixture":
        cost += (config.mixture_steps or config.steps) / config.steps
    if budget is not None and cost > budget + 1e-9:
        raise ConfigError(
            f"{strategy} with {len(plan.starts)} start{'s' if len(plan.starts) > 1 else ''} costs up to {cost:.2f} "
            f"plain runs, retrieval's {key_step} of {config.steps} steps included, and the budget is {budget:.2f}; "
            "give a larger budget, a smaller k, fewer restarts, or the strategy auto, which picks what fits"
        )
    return _Chosen(plan, reason)


def _say_ranking(target: TargetRuns, ranking: Ranking, library: Library, *, is_tried: bool) -> None:
    """Say which sources are near, and what the first of them does as it is where that was not tried before."""
    if ranking.rank_by == AS_IS:
        return
    nearest = ranking.sources[0]
    listed = ", ".join(f"{source.task} {source.similarity:.2f}" for source in ranking.sources[:SAID])
    log.info("sources by %s, with their similarity: %s", ranking.rank_by, listed)
    if is_tried:
        return
    prompt = torch.tensor(library.get(nearest.prompt).value)
    _say_as_is(target, f"the prompt of {nearest.task} as it is", prompt)


def _say_as_is(target: TargetRuns, title: str, prompt: torch.Tensor) -> None:
    """Say what a prompt does on selection rows as it is; that is kept, and read again where the arm is measured."""
    evaluation = evaluate_selection(target, prompt)
    rows = target.splits.selection
    between = interval([evaluation], target.task, rows)
    is_source = len(prompt) > 0
    log.info(
        Scored(
            arm=title, score=evaluation.primary, interval=between, rows=len(rows), role="selection", is_as_is=is_source
        )
    )


def _say_tuned(target: TargetRuns, title: str, candidate: Candidate) -> None:
    """Say what tuned prompts do on selection rows at their best steps, and how sure that is."""
    prompts = [torch.tensor(prompt.value) for prompt in candidate.prompts]
    rows = target.splits.selection
    between = interval([evaluate_selection(target, prompt) for prompt in prompts], target.task, rows)
    log.info(
        Scored(
            arm=title,
            score=candidate.selection,
            interval=between,
            rows=len(rows),
            role="selection",
            seconds=candidate.spent("seconds"),
        )
    )


def _tuned_arm(name: str, candidate: Candidate, source: str | None = None) -> PreparedArm:
    """An arm of runs that have ended."""
    return PreparedArm(
        arm=name,
        source=source,
        prompts=tuple(torch.tensor(prompt.value) for prompt in candidate.prompts),
        results=candidate.results,
        folder=candidate.folder,
        tokens=candidate.spent("tokens"),
        files=candidate.files,
        setting=_rate(candidate),
    )


def _rate(candidate: Candidate) -> str:
    """The learning rate that selection rows chose, as `Arm.setting`; those of seeds with commas between."""
    rates = dict.fromkeys(prompt.config["learning_rate"] for prompt in candidate.prompts)
    return f"learning rate = {', '.join(f'{rate:g}' for rate in rates)}" if rates else ""


def _transferred_arms(
    executed: ExecutedPlan, plain: Candidate, key_step: int, ranking: Ranking, library: Library
) -> tuple[PreparedArm, PreparedArm]:
    """The arms `source` (where the winner began, as it is) and `spot` (tuned from there).

    Where a start from scratch won, `source` is the nearest source, which retrieval alone found.
    """
    winner = executed.winner
    total = executed.spent("tokens", plain, key_step)
    name, initial, before = winner.start.name, winner.initial, total - mean_amount(winner.results, "tokens")
    if winner.start.kind == "scratch":
        nearest = library.get(ranking.sources[0].prompt)
        name, initial, before = nearest.task, torch.tensor(nearest.value), plain.spent_by("tokens", key_step)
    waited = max(0.0, executed.spent("seconds") - mean_amount(winner.results, "seconds"))
    spot = replace(
        _tuned_arm("spot", winner, winner.start.name),
        results=tuple(_later(result, waited) for result in winner.results),
        tokens=total,
    )
    return PreparedArm(arm="source", source=name, prompts=(initial,), tokens=before), spot


def _later(result: RunResult, seconds: float) -> RunResult:
    """A run's result as it is after other candidates have taken their time."""
    curve = tuple(replace(point, seconds=point.seconds + seconds) for point in result.curve)
    return replace(result, seconds=result.seconds + seconds, curve=curve)


def _transfer_records(
    target: TargetRuns, executed: ExecutedPlan, embedded: SoftPrompt | None, plain: Candidate
) -> tuple[TransferRecord, ...]:
    """What each source that was tuned to the end gained over plain tuning, points on selection rows."""
    if plain.diverged:
        return ()
    rows = [data_digest(part) for part in (target.splits.train, target.splits.selection)]
    rows += filter(None, [target.task.reading.spelling])
    embedding = None if embedded is None else encoded_summaries(embedded)
    return tuple(
        TransferRecord(
            id=digest(target.config, prompt, *rows, str(target.seeds), target.backbone.id.fingerprint),
            source=prompt,
            source_task=task,
            target=target.task.name,
            gain=candidate.selection - plain.selection,
            steps=target.config.steps,
            rows=len(target.splits.train),
            seeds=target.seeds,
            embedding=embedding,
        )
        for candidate in executed.candidates
        if candidate.start.kind == "prompt" and not candidate.dropped and not candidate.diverged
        for prompt, task in zip(candidate.start.prompts, candidate.start.tasks, strict=True)
    )


def _source_entries(library: Library, backbone: Backbone, task: Task) -> list[Entry]:
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


def _unseen(rows: Sequence[Example], sketches: Sequence[Sketch]) -> tuple[Example, ...]:
    """The rows that no source was trained on."""
    seen = seen_by_any(sketches, [row.texts for row in rows])
    return tuple(row for row, is_seen in zip(rows, seen, strict=True) if not is_seen)


def _all_seen(task: Task, role: str) -> str:
    """The message for a role whose rows are all known to the sources."""
    return (
        f"all {role} rows of {task.name} are in the training rows of the library's sources: no honest figure is "
        "possible; give other rows"
    )
