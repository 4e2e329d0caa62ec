"""Write the page of a library for people: a model card, from what its prompt files say."""

from collections.abc import Sequence

from spot.library.entries import Entry
from spot.prompts.card import LICENCES, SCORES, Measured, mean_score, metadata, model_text, plain_text, score_text
from spot.rendering.tables import table_text
from spot.tasks.registry import TABLE

MOST = 500  # prompts of the head and the table; a library may hold thousands
FOLDER = """```
spot library list --library .
spot transfer mine.toml --library .
spot serve --library .
spot page --library . --out library.html
```

These lines are for a shell in this folder. The card is written anew when prompts come or go; a README.md without the
mark above its title is somebody's own and stays."""


def library_card(entries: Sequence[Entry], use: str = FOLDER) -> bytes:
    """The card of a library; equal entries give equal bytes.

    Args:
        entries: all its prompts.
        use: what one can do with it, in Markdown; left out: in its folder.
    """
    backbone = entries[0].backbone if entries else None
    shown = entries[:MOST]
    known = [(entry, TABLE.get(entry.task)) for entry in shown]
    rows = [
        (
            plain_text(entry.task),
            plain_text(score_text(entry.frozen_scores)),
            plain_text(score_text(entry.scores)),
            entry.length,
            entry.step,
            data_set.licence if data_set else "not known here",
            entry.digest,
        )
        for entry, data_set in known
    ]
    behind = [
        f"- {plain_text(entry.task)} (`{entry.digest}`) does not beat the frozen model ({ours:.1f} against "
        f"{frozen:.1f})."
        for entry in shown
        if (ours := mean_score(entry.scores)) is not None
        and (frozen := mean_score(entry.frozen_scores)) is not None
        and ours <= frozen
    ]
    recipe = next((entry.key_recipe for entry in entries if entry.key_recipe is not None), None)
    counted = "1 soft prompt" if len(entries) == 1 else f"{len(entries)} soft prompts"
    parts = [
        library_head(backbone.name if backbone else "", shown),
        f"# A library of soft prompts{f' for {model_text(backbone.name)}' if backbone else ''}",
        f"{counted} for the frozen model {plain_text(str(backbone)) if backbone else 'of its first prompt'}, which is "
        "not here: a new task can start from the prompt of the task that it is most like."
        + (
            f" Keys were taken at step {recipe.step}: {recipe.length} tokens, {plain_text(recipe.optimiser)} at "
            f"{recipe.learning_rate:g}, batches of {recipe.batch_size}."
            if recipe
            else ""
        ),
        "## Prompts",
        SCORES,
        table_text(("task", "frozen", "prompt", "tokens", "step", "licence of the data", "digest"), rows),
        f"{len(entries) - MOST} more are not listed." if len(entries) > MOST else "",
        "\n".join(behind),
        LICENCES,
        "## Use",
        use,
    ]
    return ("\n\n".join(part for part in parts if part) + "\n").encode()


def library_head(backbone: str, entries: Sequence[Entry], *, is_marked: bool = True) -> str:
    """The head of a library's card: model, data sets, and every prompt with its scores.

    Args:
        backbone: name of the frozen model.
        entries: the prompts.
        is_marked: as for `metadata`.
    """
    known = [(entry, TABLE.get(entry.task)) for entry in entries]
    hubs = {entry.digest: data_set.hub.partition(":")[0] if data_set else "" for entry, data_set in known}
    measured = [
        Measured(
            prompt=f"{entry.task} {entry.digest}",
            task=entry.task,
            dataset=hubs[entry.digest],
            is_class=data_set is None or bool(data_set.labels),
            scores=entry.scores,
        )
        for entry, data_set in known
    ]
    return metadata(backbone, sorted({*hubs.values()} - {""}), measured=measured, is_marked=is_marked)
