"""Give a model rows of vocabulary that stand for prompt vectors: token ids that it reads, and never writes.

Letters: N new rows, V rows of the table before, D width.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spot.errors import BackboneError, SpotError
from spot.models.backbone import Backbone

NEVER = -1e4  # added to the logit of a token that is not to be written; float16 holds it
CLOSE = 1e-3  # of the vectors' size: how exactly a table gives back what is written into it
_SECOND_TABLE = "embed_tokens_per_layer"  # in which Gemma 3n and 4 look a token up once more


def add_rows(backbone: Backbone, vectors: Tensor, stands_for: Sequence[int], first: int) -> None:
    """Change a backbone's model in place, so that the ids `first`, `first` + 1, ... mean the given vectors.

    Rows of the table behind the tokenizer's words are taken before it grows. A head that is tied to the table becomes
    one of its own: the tied rows would let prompts be written. The new rows of the head are the mean of all others, so
    that a new id is never the likeliest and its probability is at most one in the vocabulary, whatever is read; where
    the head has a bias, that of a new id forbids it.

    Args:
        backbone: of which the model is changed; it is of no use as a backbone afterwards.
        vectors: [N, D], as they stand before the first layer.
        stands_for: of each, the id whose entry it has in a second table of a model that has one.
        first: the first new id.

    Raises:
        BackboneError: the model is quantised, has no table or no head that can grow, or does something else with ids
            than to look them up.
    """
    model: Any = backbone.model
    name = backbone.id.name
    if not backbone.trains:
        raise BackboneError(
            f"the backbone {name!r} is quantised, and rows cannot be added to such a model exactly; expected the model "
            "before it was quantised. Name that with --backbone."
        )
    scale = _scale(backbone)
    rows = model.get_input_embeddings().weight.shape[0]
    last = first + len(vectors)
    try:
        with torch.no_grad():
            _own_head(model, name)
            model.resize_token_embeddings(max(rows, last), mean_resizing=False)
            for config in _configs(model):
                if hasattr(config, "vocab_size"):
                    config.vocab_size = max(rows, last)
            table = model.get_input_embeddings().weight
            table[first:last] = (vectors.to(table.device, torch.float32) / scale).to(table.dtype)
            if len(model.get_output_embeddings().weight) != len(table):
                raise BackboneError(
                    f"the backbone {name!r} writes another vocabulary than it reads ({type(model).__name__}); expected "
                    "one for both. Serve it with spot instead."
                )
            _silence(model, first, last, rows)
            _split_tables(model)
            _grow_second_table(model, stands_for, first)
    except SpotError:
        raise
    except Exception as error:  # transformers fails with whatever a class of models stumbles over
        raise BackboneError(
            f"the table of the backbone {name!r} ({type(model).__name__}) cannot grow: {str(error)[:200]}; expected a "
            "model whose vocabulary transformers can resize. Serve it with spot instead."
        ) from error
    given = backbone.embed(torch.arange(first, last, device=backbone.device)[None])[0].float().cpu()
    wrong = float((given - vectors.float().cpu()).norm() / vectors.float().norm())
    if wrong > (CLOSE if table.dtype == torch.float32 else 20 * CLOSE):
        raise BackboneError(
            f"the table of the backbone {name!r} gives its vectors back with an error of {wrong:.1%}; expected those "
            "that were written into it. Serve it with spot instead."
        )


def _scale(backbone: Backbone) -> float:
    """What the model multiplies rows of its table by before the first layer.

    Raises:
        BackboneError: it does something else with them.
    """
    model: Any = backbone.model
    table = model.get_input_embeddings().weight
    ids = torch.arange(0, table.shape[0], max(1, table.shape[0] // 512), device=backbone.device)
    with torch.no_grad():
        rows, vectors = table[ids].double(), backbone.embed(ids[None])[0].double()
    if rows.shape == vectors.shape:
        scale = float((rows * vectors).sum() / (rows * rows).sum())
        if scale and float((scale * rows - vectors).norm()) <= 20 * CLOSE * float(vectors.norm()):
            return scale
    raise BackboneError(
        f"the backbone {backbone.id.name!r} makes its input vectors of more than one row of its table; expected a "
        "model that looks each token up. Serve it with spot instead."
    )


def _own_head(model: Any, name: str) -> None:
    """Give the head of a model weights of its own.

    Raises:
        BackboneError: there is none.
    """
    head = model.get_output_embeddings()
    if head is None or getattr(head, "weight", None) is None:
        raise BackboneError(
            f"the backbone {name!r} ({type(model).__name__}) shows no head; expected a matrix from states to the "
            "vocabulary. Serve it with spot instead."
        )
    if head.weight is not model.get_input_embeddings().weight:
        return
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in _configs(model):
        config.tie_word_embeddings = False


def _configs(model: Any) -> list[Any]:
    """The configurations of a model that are about text."""
    config = model.config
    return [config, config.get_text_config(decoder=True), config.get_text_config(encoder=True)]


def _silence(model: Any, first: int, last: int, rows: int) -> None:
    """Let a head never choose the ids from `first` to `last`; `rows` are those that it had before."""
    head = model.get_output_embeddings()
    old = torch.cat([head.weight[:first], head.weight[last:rows]]).float()
    head.weight[first:last] = old.mean(dim=0).to(head.weight.dtype)
    if getattr(head, "bias", None) is not None:
        head.bias[first:last] = NEVER
    added = getattr(model, "final_logits_bias", None)
    if added is not None:
        added[..., first:last] = NEVER
    generation: Any = model.generation_config
    if generation is not None:
        suppressed = [*(generation.suppress_tokens or ()), *range(first, last)]
        generation.suppress_tokens = sorted(set(suppressed))


def _split_tables(model: Any) -> None:
    """Give each part of a model that shares the table one of its own: files of an untied model hold each of them."""
    table = model.get_input_embeddings()
    places = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if child is table or getattr(child, "weight", None) is table.weight
    ]
    for parent, name in places[1:]:
        copied = copy.deepcopy(getattr(parent, name))
        setattr(parent, name, copied)


def _grow_second_table(model: Any, stands_for: Sequence[int], first: int) -> None:
    """Give new ids the entries of others in the second table of a model that has one."""
    for module in list(model.modules()):
        table: Any = getattr(module, _SECOND_TABLE, None)
        if not isinstance(table, nn.Embedding):
            continue
        rows = max(table.weight.shape[0], first + len(stands_for))
        weight = table.weight.new_zeros(rows, table.weight.shape[1])
        weight[: table.weight.shape[0]] = table.weight
        weight[first : first + len(stands_for)] = table.weight[list(stands_for)]
        table.weight, table.num_embeddings = nn.Parameter(weight, requires_grad=False), rows
        text = model.config.get_text_config(decoder=True)
        text.vocab_size_per_layer_input = rows
        for part in model.modules():
            if hasattr(part, "vocab_size_per_layer_input"):
                part.vocab_size_per_layer_input = rows
