"""Find how many positions a model has, and at which lengths it may begin to read a row otherwise."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

_LIMITS = ("max_position_embeddings", "max_encoder_position_embeddings", "max_seq_len")
_TABLE = re.compile(r"position|(^|_)(pos|wpe)(_|$)")
_NO_TABLE = re.compile(r"relative|distance|bias")
_NO_TEXT = re.compile(r"vision|visual|image|audio|speech|tower|extend")  # parts for pictures and sounds
_EDGE = re.compile(r"window|chunk|radius|block|topk|original_max|max_position|max_seq_len")


def most_positions(model: PreTrainedModel) -> int | None:
    """Longest sequence in tokens, prompt included, that the model has positions for; None where it has no end."""
    config = (
        model.config.get_text_config(encoder=True)
        if model.config.is_encoder_decoder
        else model.config.get_text_config()
    )
    named = [getattr(config, name, None) for name in _LIMITS]
    table = table_positions(model)
    limits = [limit for limit in (*named, table) if isinstance(limit, int) and limit > 0]
    return min(limits, default=None)


def table_positions(model: PreTrainedModel) -> int | None:
    """The rows of the shortest table of learned positions, behind which there is nothing; None without a table."""
    stack: Any = model.get_encoder() if model.config.is_encoder_decoder else model.get_decoder()
    rows = []
    for name, module in stack.named_modules():
        before, _, last = name.lower().rpartition(".")
        if (
            isinstance(module, nn.Embedding)
            and not _NO_TEXT.search(before)
            and _TABLE.search(last)
            and not _NO_TABLE.search(last)
        ):
            unused = getattr(module, "offset", None)  # rows before the first position: OPT's and BART's, RoBERTa's
            if not isinstance(unused, int):
                unused = 0 if module.padding_idx is None else module.padding_idx + 1
            rows.append(module.num_embeddings - unused)
    return min(rows, default=None)


def edges(model: PreTrainedModel) -> tuple[int, ...]:
    """Row lengths in tokens behind which a model may read a row otherwise, sorted: what its configuration names so.

    Windows, chunks, blocks, and the lengths that its positions were made for. A number that means something else is
    harmless: rows are compared once more behind it.
    """
    text = model.config.get_text_config(decoder=True).to_dict()
    return tuple(sorted(set(_numbers(text, asked=False))))


def _numbers(value: object, *, asked: bool) -> Iterator[int]:
    """The positive integers under keys that name an edge, at any depth."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, asked=asked or bool(_EDGE.search(str(key))))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, asked=asked)
    elif asked and isinstance(value, int) and not isinstance(value, bool) and value > 0:
        yield value
