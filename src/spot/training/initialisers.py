"""Make the initial prompt of a run: sampled vocabulary, class labels, text, uniform noise, or a mix of other prompts.

Lester et al. 2021, section 3.2; SPoT sections 2.1.4 and 3.3. Every function returns [P, D] float32.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from spot.errors import ConfigError

log = logging.getLogger(__name__)

COMMON = 5000  # a vocabulary lists its frequent tokens first; the paper samples among this many


def uniform(length: int, width: int, seed: int) -> Tensor:
    """Entries drawn from [-0.5, 0.5], as in Lester et al. 2021."""
    return torch.rand(length, width, generator=torch.Generator().manual_seed(seed)) - 0.5


def vocabulary(embeddings: Tensor, length: int, seed: int, special: Sequence[int] = ()) -> Tensor:
    """Embeddings of common tokens, drawn without replacement; special tokens are left out.

    Args:
        embeddings: [V, D].
        length: P.
        seed: of the draw.
        special: token ids not to draw.
    """
    common = [token for token in range(min(COMMON, len(embeddings))) if token not in set(special)]
    order = torch.randperm(len(common), generator=torch.Generator().manual_seed(seed)).tolist()
    picked = [common[order[i % len(order)]] for i in range(length)]
    return embeddings[picked].clone()


def classes(
    embeddings: Tensor, choices: Sequence[Sequence[int]], length: int, seed: int, special: Sequence[int] = ()
) -> Tensor:
    """The label words first, each the mean of its tokens, the rest sampled from the vocabulary.

    Args:
        embeddings: [V, D].
        choices: token ids of each label.
        length: P; more labels than that are cut, with a log line.
        seed: of the sampled rest.
        special: token ids that are neither drawn nor part of a mean.
    """
    words = [[token for token in choice if token not in set(special)] for choice in choices]
    if not words:
        raise ConfigError("init = 'classes' needs a task with labels; expected init = 'vocabulary' for open answers")
    if len(words) > length:
        log.warning("%d labels do not fit a prompt of %d tokens: the first %d start it", len(words), length, length)
    rows = [embeddings[word].mean(dim=0) for word in words[:length]]
    return torch.cat([torch.stack(rows), vocabulary(embeddings, length - len(rows), seed, special)])


def text(embeddings: Tensor, token_ids: Sequence[int], length: int) -> Tensor:
    """The embeddings of a text's tokens, repeated or cut to P."""
    if not token_ids:
        raise ConfigError("init = 'text:' has no tokens; expected words behind 'text:'")
    return embeddings[[token_ids[i % len(token_ids)] for i in range(length)]].clone()


def demonstrations(embeddings: Tensor, rows: Sequence[Sequence[int]], length: int) -> Tensor:
    """The embeddings of the tokens of whole rows with their answers, the last of which ends the prompt.

    What has no room is left out; what is left of the room repeats the end of what has, in front.

    Args:
        embeddings: [V, D].
        rows: token ids of each, the most wanted first.
        length: P.

    Raises:
        ConfigError: no row has room, or there is none.
    """
    kept: list[Sequence[int]] = []
    for row in rows:
        if row and sum(map(len, kept)) + len(row) <= length:
            kept.append(row)
    if not kept:
        shortest = min(map(len, rows), default=0)
        raise ConfigError(
            f"init = 'demonstrations:{len(rows)}': 0 of {len(rows)} rows fit a prompt of {length} tokens, the shortest "
            f"takes {shortest}; expected length = {shortest} or more, or init = 'instruction'"
        )
    if len(kept) < len(rows):
        log.warning("%d of %d demonstrations fit a prompt of %d tokens", len(kept), len(rows), length)
    ids = [token for row in kept for token in row]
    return embeddings[[ids[(place - length) % len(ids)] for place in range(length)]].clone()


def resized(prompt: Tensor, length: int) -> Tensor:
    """A prompt of another length: repeated from its beginning, or cut, with a log line."""
    if len(prompt) != length:
        how = "cut" if len(prompt) > length else "repeated from its beginning"
        log.warning("the source prompt has %d tokens and the run %d: it is %s", len(prompt), length, how)
    return prompt[torch.arange(length) % len(prompt)].clone()


def weighted(prompts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean of prompts [P, D] of one length; negative weights count as 0 (SPoT section 3.3, top-k average).

    Raises:
        ConfigError: no weight is positive.
    """
    clipped = torch.tensor(weights, dtype=torch.float32).clamp(min=0)
    if clipped.sum() == 0:
        raise ConfigError(f"no weight is positive ({list(weights)}): these prompts cannot be averaged; use 'best'")
    return torch.einsum("r,rpd->pd", clipped / clipped.sum(), torch.stack(list(prompts)))
