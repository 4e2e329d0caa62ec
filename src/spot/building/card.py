"""Write the card of a library: README.md in its folder, for whoever is to use it."""

from collections.abc import Sequence
from pathlib import Path

from spot.building.records import BuildRecord, Nearness, recipe_of
from spot.library.card import library_head
from spot.library.entries import Entry
from spot.library.library import Library
from spot.prompts.card import LICENCES, mean_score
from spot.rendering.tables import table_text
from spot.storage.files import write_whole

FILE = "README.md"


def write_card(library: Library, record: BuildRecord) -> Path:
    """Write the card of a library that was built; equal records and prompts give equal bytes.

    Raises:
        StorageError: it cannot be written; the old one is intact.
    """
    path = library.path / FILE
    write_whole(path, card(record, library.entries(), str(library.path)).encode(), library.path)
    return path


def card(record: BuildRecord, entries: Sequence[Entry], folder: str) -> str:
    """The text of a card, in Markdown.

    Args:
        record: of the build.
        entries: the prompts of the library.
        folder: of the library, for the commands.
    """
    recipe = recipe_of(record)
    built = {source.prompt: source for source in record.sources}
    known = [(entry, built.get(entry.digest)) for entry in entries]
    sources = [
        (
            entry.task,
            ", ".join(entry.scores),
            mean_score(entry.frozen_scores),
            mean_score(entry.scores),
            source.steps if source else None,
            source.tokens if source else None,
            source.licence if source else None,
            entry.digest,
        )
        for entry, source in known
    ]
    trials = [
        (str(trial.setting), trial.start, trial.score, trial.steps, trial.tokens, trial.ended)
        for trial in record.trials
    ]
    checks = [
        (check.task, check.frozen, check.constant, check.tuned, f"{check.low:+.1f} to {check.high:+.1f}", check.rows)
        for check in record.checks
    ]
    task = entries[0].task if entries else "TASK"
    counted = "1 soft prompt" if len(entries) == 1 else f"{len(entries)} soft prompts"
    parts = [
        library_head(record.identity.name, entries, is_marked=False),
        f"# Source prompts for {record.identity.name}",
        f"{counted} for the frozen model {record.identity}, made by `spot library build` with the recipe "
        f"`{recipe.name}`: {record.setting}, batches of {recipe.batch_size}, inputs of up to {recipe.max_input_tokens} "
        f"tokens, keys at step {recipe.key_step}.",
        "## Sources",
        f"Scores are percent, the mean where a task has several metrics, on up to {recipe.report_rows} rows that "
        "chose nothing; `frozen` is the model without a prompt, ranking the same labels.",
        table_text(
            ("task", "metrics", "frozen", "prompt", "steps", "text tokens", "licence of the data", "digest"), sources
        ),
        *_behind(entries),
        *(f"- {source.task}: {line}" for source in record.sources for line in source.diagnosis),
        *(f"- {name} is not here: {reason}" for name, reason in record.missing.items()),
        LICENCES,
        "## How the setting was found",
        f"Settings raced on {', '.join(check.task for check in record.checks)}; the worse half stopped at each rung, "
        f"by {recipe.select_rows} rows that choose. The rms of the model's input embeddings is "
        f"{record.rms:.3g}, which rates are multiples of.",
        table_text(("setting", "score at the start", "best score", "steps", "text tokens", "ended"), trials),
        "The one that is kept, on rows that chose nothing; `gain` is over the better of the frozen model and a "
        "constant answer, with its 95 % interval:",
        table_text(("task", "frozen", "constant", "tuned", "gain", "rows"), checks),
        "## Whether similarity ranks here",
        *nearness_sentences(record.nearness, recipe.key_step),
        "## Use",
        "```\n"
        f"spot library list --library {folder}\n"
        f"spot transfer mine.toml --backbone {record.backbone} --library {folder} --strategy auto\n"
        f"spot evaluate {folder}/prompts/{entries[0].digest if entries else 'DIGEST'}.safetensors --task {task} "
        f"--backbone {record.backbone}\n"
        f"spot library build --add TASK --library {folder}\n"
        "```",
    ]
    return "\n\n".join(parts) + "\n"


def nearness_sentences(nearness: Sequence[Nearness], key_step: int) -> list[str]:
    """Whether two seeds of one task are nearer to each other than to other tasks, in words."""
    if not nearness:
        return ["Not checked: no task of the calibration is among the sources, or there is one source alone."]
    lines = []
    for near in nearness:
        verb = "are nearer to each other" if near.ranks else "are NOT nearer to each other"
        lines.append(
            f"Two seeds of {near.task} {verb} ({near.own:.3f}) than to the nearest other task, {near.other} "
            f"({near.similarity:.3f})."
        )
    if not all(near.ranks for near in nearness):
        lines.append(
            "Similarity will not rank sources well here: the task embeddings show the order of the rows, or the start, "
            f"more than the task. Build anew with a later key step (key_step = {2 * key_step}) or larger batches, or "
            "rank by what past transfers showed (`--rank-by learned`), or try all sources (`--strategy oracle`)."
        )
    return lines


def _behind(entries: Sequence[Entry]) -> list[str]:
    """Sources that do not beat the frozen model."""
    pairs = [(entry.task, mean_score(entry.scores), mean_score(entry.frozen_scores)) for entry in entries]
    lines = [
        f"- {task} does not beat the frozen model ({ours:.1f} against {frozen:.1f})."
        for task, ours, frozen in pairs
        if ours is not None and frozen is not None and ours <= frozen
    ]
    return ["\n".join(lines)] if lines else []
