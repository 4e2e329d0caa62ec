"""Compare numbers: find out, for a model at hand, which ways of computing rows give what the model alone gives.

The oracle is the model itself: one row, as token ids, without pads, mask, kept states or vectors of ours. A prompt
that is made of the vectors of token ids must give what these ids give in its place. What differs steps aside for the
next way; where no way is exact the model is refused.

Letters: B rows, T target tokens, P prompt tokens, D width, L tokens of a row, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, get_args

import torch
from torch import Tensor

from spot.errors import BackboneError
from spot.models.batch import Batch, Prefix, token_nats
from spot.models.causal import CausalRows
from spot.models.choice_tree import ChoiceTree
from spot.models.network import Network
from spot.models.seq2seq import Seq2SeqRows, choice_labels
from spot.models.ways import Together, Ways

Rows = CausalRows | Seq2SeqRows
Outcome = TypeVar("Outcome")

PROMPT, TEXT, SHORT, TARGET = 5, 4, 2, 3  # tokens of the rows that are tried
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 6e-2}  # relative; about 8 roundings of a half


@dataclass(frozen=True)
class Trial:
    """What the ways are compared on.

    Attributes:
        batch: three rows with targets, the second shorter than the others, with two prompts.
        prompt_ids: [2, P], the token ids whose vectors are the prompts.
        nats: [B, T], the oracle's negative log-probabilities of the target tokens behind the prompts' ids.
        bare: [B, T], the same without a prompt.
        tolerance: largest relative difference that counts as none.
    """

    batch: Batch
    prompt_ids: Tensor
    nats: Tensor
    bare: Tensor
    tolerance: float


class Differs(Exception):
    """A way does not give the oracle's numbers; the message says in what."""


def probe(rows: Rows, beyond: int = 0) -> Ways:
    """The fastest exact ways of a model for rows of more than `beyond` tokens.

    Args:
        rows: of the model; the scale of its embedding is set on the way.
        beyond: two of the three rows that are tried have a few tokens more.

    Raises:
        BackboneError: no way is exact, the model sees later tokens, or its numbers are not finite.
    """
    network = rows.network
    trial = _trial(rows, beyond)
    _check_causal(rows, trial)
    together, shares, notes = _reading(rows, trial)
    ways = Ways(shares=shares, together=together, tree=False, decoding="whole", embed_scale=network.embed_scale)
    if isinstance(rows, CausalRows):
        try:
            _check_tree(rows, trial, ways)
            ways = replace(ways, tree=True)
        except Differs as reason:
            notes.append(f"labels of several tokens are read one by one and not as a tree, which {reason}")
    for decoding in ("padded", "equal"):
        try:
            _check_decoding(rows, trial, replace(ways, decoding=decoding))
            ways = replace(ways, decoding=decoding)
            break
        except Differs as reason:
            lengths = "of unequal lengths " if decoding == "padded" else ""
            notes.append(f"rows {lengths}do not generate from kept states, which {reason}")
    return replace(ways, notes=tuple(notes))


def _trial(rows: Rows, beyond: int) -> Trial:
    """Rows, prompts and what the model alone makes of them."""
    network, device = rows.network, rows.network.model.device
    ids = iter(_plain_ids(network).tolist() * (2 + beyond))
    text = TEXT + beyond
    inputs = [[next(ids) for _ in range(length)] for length in (text, SHORT, text)]
    targets = [[next(ids) for _ in range(TARGET)] for _ in inputs]
    padded = [row + [0] * (text - len(row)) for row in inputs]
    prompt_ids = torch.tensor([[next(ids) for _ in range(PROMPT)] for _ in range(2)], device=device)
    if network.per_layer_inputs(prompt_ids):
        prompt_ids = torch.zeros_like(prompt_ids)  # the id whose entry stands in for a prompt's
    batch = Batch(
        input_ids=torch.tensor(padded, device=device),
        attention_mask=torch.tensor([[int(n < len(row)) for n in range(text)] for row in inputs], device=device),
        labels=torch.tensor(targets, device=device),
        prompt_index=torch.tensor([0, 1, 1], device=device),
    )
    nats, bare = _oracle(rows, batch, prompt_ids), _oracle(rows, batch, prompt_ids[:, :0])
    precision = str(network.model.dtype).removeprefix("torch.")
    if not bool(torch.isfinite(nats).all() and torch.isfinite(bare).all()):
        raise BackboneError(
            f"in {precision} this {network.model.config.model_type!r} model gives no finite numbers for 12 tokens; "
            "expected a precision of a wider range. Set SPOT_DTYPE=bfloat16 or SPOT_DTYPE=float32."
        )
    return Trial(batch, prompt_ids, nats, bare, TOLERANCE.get(network.model.dtype, max(TOLERANCE.values())))


def _plain_ids(network: Network) -> Tensor:
    """Token ids over the whole vocabulary, none of them one that the configuration gives a meaning of its own."""
    config = network.model.config
    special = set(_named_ids(config.to_dict()))
    vocabulary = config.get_text_config(decoder=True).vocab_size
    spread = torch.linspace(0, vocabulary - 1, 64).round().int()
    return torch.tensor([token for token in spread.unique().tolist() if token not in special])


def _named_ids(config: Mapping[object, object]) -> Iterator[int]:
    """The token ids that a configuration names, such as those of its end or of an image."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _named_ids(value)
        elif str(key).endswith(("token_id", "token_index")):
            yield from (token for token in (value if isinstance(value, list) else [value]) if isinstance(token, int))


@torch.no_grad()
def _oracle(rows: Rows, batch: Batch, prompt_ids: Tensor) -> Tensor:
    """Negative log-probabilities [B, T] of the targets, each row alone and read as token ids."""
    logits = [
        _plain_logits(rows, _before(batch, prompt_ids, row), target)[-len(target) :]
        for row, target in enumerate(batch.labels)
    ]
    return token_nats(torch.stack(logits), batch.labels)


def _before(batch: Batch, prompt_ids: Tensor, row: int) -> Tensor:
    """The token ids of one row's prompt and text."""
    return torch.cat([prompt_ids[batch.prompt_index[row]], batch.input_ids[row, batch.attention_mask[row].bool()]])


def _plain_logits(rows: Rows, before: Tensor, target: Tensor) -> Tensor:
    """The logits [L, V] of the model called with token ids alone; the last ones predict the target."""
    network = rows.network
    if isinstance(rows, CausalRows):
        return network.run(network.model, input_ids=torch.cat([before, target[:-1]])[None]).logits[0]
    decoded = torch.cat([target.new_tensor([rows.start]), target[:-1]])
    return network.run(network.model, input_ids=before[None], decoder_input_ids=decoded[None], use_cache=False).logits[
        0
    ]


@torch.no_grad()
def _check_causal(rows: Rows, trial: Trial) -> None:
    """Change the last token of a row: what the model says at the tokens before must not move.

    Raises:
        BackboneError: it does.
    """
    target, before = trial.batch.labels[0], _before(trial.batch, trial.prompt_ids, 0)
    changed = target.clone()
    changed[-2] = target[0]  # the last token that is read; what the last one predicts is not
    plain, other = (_plain_logits(rows, before, tokens)[:-1] for tokens in (target, changed))
    difference = float((plain - other).norm() / plain.norm())
    if not difference <= trial.tolerance:
        config = rows.network.model.config
        raise BackboneError(
            f"this {config.model_type!r} model sees later tokens: another last token changes its earlier outputs by "
            f"{difference:.0e}, so it is an encoder and predicts nothing from left to right; expected a causal or a "
            "sequence-to-sequence model. Give one, or a checkpoint trained with is_decoder = true."
        )


def _reading(rows: Rows, trial: Trial) -> tuple[Together, bool, list[str]]:
    """How rows are read: which together, whether prompts are shared, and why not in a faster way.

    Raises:
        BackboneError: no way is exact.
    """
    network = rows.network
    reasons: dict[tuple[Together, bool], str] = {}
    reference: Tensor | None = None
    for together in get_args(Together):
        for scale in (1.0, *_scales(network)) if reference is None else (network.embed_scale,):
            network.embed_scale = scale
            try:
                reference = _check_losses(rows, trial, together, shares=False)
                break
            except Differs as reason:
                reasons.setdefault((together, False), str(reason))
        if reference is None:
            continue
        shares = False
        if isinstance(rows, CausalRows):
            try:
                _check_losses(rows, trial, together, shares=True, reference=reference)
                shares = True
            except Differs as reason:
                reasons[together, True] = str(reason)
        notes = []
        if together != "padded":
            which = "of one length at a time" if together == "equal" else "one at a time"
            notes.append(f"rows are read {which}: with pads they {reasons['padded', False]}")
        if (together, True) in reasons:
            notes.append(f"a prompt is read once a row: shared, its states {reasons[together, True]}")
        return together, shares, notes
    raise BackboneError(
        f"this {network.model.config.model_type!r} model cannot take a prompt: a row that it reads as vectors, alone, "
        f"{reasons['alone', False]}; expected what it gives for the token ids. Give a model of another family."
    )


def _scales(network: Network) -> list[float]:
    """What parts of the model say that they multiply embedded tokens by."""
    scales = {
        float(module.embed_scale)
        for module in network.model.modules()
        if isinstance(getattr(module, "embed_scale", None), int | float)
    }
    return sorted(scales - {1.0})


def _check_losses(
    rows: Rows, trial: Trial, together: Together, *, shares: bool, reference: Tensor | None = None
) -> Tensor:
    """Compare losses with the oracle's, with and without prompts; and the prompts' gradient with `reference`.

    Returns:
        The gradient of the summed losses.

    Raises:
        Differs: in losses or gradient, or the model fails.
    """
    ways = Ways(shares=shares, together=together, tree=False, decoding="whole")
    prompts = rows.network.embed(trial.prompt_ids).detach().float().requires_grad_()

    def nats(part: Batch, prefix: Prefix) -> Tensor:
        return rows.nats(part, prefix, ways)

    with torch.enable_grad():
        prefix = _tried(lambda: rows.prefix(prompts)) if shares else Prefix(prompts)
        losses = _tried(lambda: trial.batch.in_groups(together, lambda part: nats(part, prefix)))
        gradient = _tried(lambda: torch.autograd.grad(losses.sum(), prompts)[0])
    _compare(losses.detach(), trial.nats, trial, "losses")
    if not shares:
        with torch.no_grad():
            bare = Prefix(prompts[:, :0])
            _compare(
                _tried(lambda: trial.batch.in_groups(together, lambda part: nats(part, bare))),
                trial.bare,
                trial,
                "losses without a prompt",
            )
    if not float(gradient.norm()) > 0:
        raise Differs("give the prompt no gradient")
    if reference is not None:
        _compare(gradient, reference, trial, "gradients")
    return gradient


@torch.no_grad()
def _check_tree(rows: CausalRows, trial: Trial, ways: Ways) -> None:
    """Compare scores of labels read as a tree with those read one by one, behind rows of unequal lengths.

    Raises:
        Differs: in a score, or the model fails.
    """
    a, b, c, d = trial.batch.labels[:2].flatten()[:4].tolist()
    choices = [[a, b], [a, c, d], [b, d]]
    batch = trial.batch.rows(slice(2))
    prompts = rows.network.embed(trial.prompt_ids)
    pairs = torch.arange(2, device=prompts.device).repeat_interleave(len(choices))
    paired = replace(batch.rows(pairs), labels=choice_labels(choices, 2, prompts.device))
    for prefix in (Prefix(prompts[:, :0]), *([rows.prefix(prompts)] if ways.shares else [])):
        each = -paired.in_groups(ways.together, lambda part, prefix=prefix: rows.nats(part, prefix, ways)).sum(dim=1)
        tree = _tried(
            lambda prefix=prefix: batch.in_groups(
                ways.together, lambda part: rows.tree_scores(part, prefix, ChoiceTree.of(choices), ways)
            )
        )
        _compare(tree.flatten(), each, trial, "scores")


@torch.no_grad()
def _check_decoding(rows: Rows, trial: Trial, ways: Ways) -> None:
    """Compare the targets' log-probabilities with the oracle's where they are taken one token at a time.

    Raises:
        Differs: in one of them, or the model fails.
    """
    prompts = rows.network.embed(trial.prompt_ids)
    together = ways.rows_that_generate
    whole = rows.prefix(prompts) if ways.shares else Prefix(prompts)
    for prefix, expected in ((whole, trial.nats), (Prefix(prompts[:, :0]), trial.bare)):
        stepped = _tried(
            lambda prefix=prefix: trial.batch.in_groups(together, lambda part: _stepped(rows, part, prefix, ways))
        )
        _compare(stepped, expected, trial, "numbers")


def _stepped(rows: Rows, batch: Batch, prefix: Prefix, ways: Ways) -> Tensor:
    """Negative log-probabilities [B, T] of targets that are sent to the model token by token."""
    steps = rows.steps(batch, prefix, ways)
    logits = [next(steps)]
    for token in batch.labels[:, :-1].clamp(min=0).T:
        logits.append(steps.send(token[:, None]))
    return token_nats(torch.stack(logits, dim=1), batch.labels)


def _tried(compute: Callable[[], Outcome]) -> Outcome:
    """What a way gives; whatever the model raises says that it is no way to go.

    Raises:
        Differs: the model fails.
        MemoryError, torch.OutOfMemoryError: that says nothing of the way.
    """
    try:
        return compute()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise Differs(f"fail ({type(error).__name__}: {line:.120})") from error


def _compare(actual: Tensor, expected: Tensor, trial: Trial, what: str) -> None:
    """Refuse numbers that are not the expected ones.

    Raises:
        Differs: by more than rounding.
    """
    difference = float((actual - expected).norm() / expected.norm())
    if not difference <= trial.tolerance:
        raise Differs(f"give other {what} (by {difference:.0e})")
