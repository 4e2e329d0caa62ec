"""Write the page of a shared library for people: a model card, from what the prompt files say."""

from collections.abc import Sequence

from spot.library.entries import Entry
from spot.prompts.card import LICENCES, SCORES, mean_score, metadata, model_text, plain_text, score_text
from spot.remote.address import Address
from spot.rendering.tables import table_text
from spot.tasks.registry import TABLE


def library_card(entries: Sequence[Entry], address: Address) -> bytes:
    """The card of a shared library; equal entries give equal bytes.

    Args:
        entries: all prompts at the address.
        address: where they are.
    """
    backbone = entries[0].backbone if entries else None
    known = [(entry, TABLE.get(entry.task)) for entry in entries]
    datasets = [data_set.hub.partition(":")[0] for _, data_set in known if data_set is not None and data_set.hub]
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
        for entry in entries
        if (ours := mean_score(entry.scores)) is not None
        and (frozen := mean_score(entry.frozen_scores)) is not None
        and ours <= frozen
    ]
    recipe = next((entry.key_recipe for entry in entries if entry.key_recipe is not None), None)
    counted = "1 soft prompt" if len(entries) == 1 else f"{len(entries)} soft prompts"
    digest = entries[0].digest if entries else "DIGEST"
    parts = [
        metadata(backbone.name if backbone else "", datasets),
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
        *(["\n".join(behind)] if behind else []),
        LICENCES,
        "## Use",
        "```\n"
        "pip install 'spot-transfer[remote]'\n"
        f"spot library list --library {address}\n"
        f"spot transfer mine.toml --library {address}\n"
        f"spot library pull {address} --library my_library\n"
        "```",
        f"`spot library show {digest} --library {address}` tells all that a prompt says of itself. Files are "
        "safetensors and JSON; nothing in them can run, and each is checked by its SHA-256 before it counts.",
    ]
    return ("\n\n".join(part for part in parts if part) + "\n").encode()
