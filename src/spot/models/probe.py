"""Compare numbers: find out, for a model at hand, which ways of computing rows give what the model alone gives.

The oracle is the model itself: one row, as token ids, without pads, mask, kept states or vectors of ours. A prompt
that is made of the vectors of token ids must give what these ids give in its place. What differs steps aside for the
next way; where no way is exact the model is refused.

Letters: B rows, T target tokens, P prompt tokens, D width, L tokens of a row, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn import functional

from spot.errors import BackboneError
from spot.models.batch import IGNORED, Batch, Prefix, token_nats
from spot.models.causal import CausalRows
from spot.models.choice_tree import ChoiceTree
from spot.models.network import Network
from spot.models.seq2seq import Seq2SeqRows
from spot.models.ways import Together, Ways

Rows = CausalRows | Seq2SeqRows
Outcome = TypeVar("Outcome")

PROMPT, TEXT, SHORT, TARGET = 5, 4, 2, 3  # tokens of the rows that are tried
FURTHER = 32  # tokens that a row goes on behind an edge, where layers begin to leave tokens out
SCALES = ("embed_scale", "embedding_multiplier")
ELSEWHERE = 1.5  # what prompts are multiplied by that are no tokens' vectors
IDS = 64  # token ids that rows are made of
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2}  # relative; about 8 roundings of a half
TENSOR_FLOAT = 1e-3  # of float32 that is multiplied in fewer bits
COARSE = 6e-2  # of bfloat16, and of what is coarser


@dataclass(frozen=True)
class Trial:
    """What the ways are compared on.

    Attributes:
        batch: two rows of unequal lengths with targets and a prompt each; or a third one, as long as the first.
        prompt_ids: [2, P], the token ids whose vectors are the prompts.
        nats: [B, T], the oracle's negative log-probabilities of the target tokens behind the prompts' ids.
        bare: [B, T], the same without a prompt.
        first: [L, V], the oracle's logits along the first row.
        tolerance: largest relative difference that counts as none.
    """

    batch: Batch
    prompt_ids: Tensor
    nats: Tensor
    bare: Tensor
    first: Tensor
    tolerance: float


class Differs(Exception):
    """A way does not give the oracle's numbers; the message says in what."""


def probe(rows: Rows, beyond: int = 0) -> Ways:
    """The fastest exact ways of a model for rows of more than `beyond` tokens.

    Args:
        rows: of the model; the scale of its embedding is set on the way.
        beyond: the longer rows that are tried have a few tokens more.

    Raises:
        BackboneError: no way is exact, the model sees later tokens, or its numbers are not finite.
    """
    network = rows.network
    before = _first_gradient(rows, beyond)
    trial = _trial(rows, beyond)
    _check_gradient_stays(rows, beyond, before)
    _check_causal(rows, trial)
    together, reference, notes = _reading(rows, trial, beyond)
    ways = Ways(shares=False, together=together, tree=False, decoding="whole")
    prompts = network.embed(trial.prompt_ids).detach().float()
    prefix = Prefix(prompts)
    if isinstance(rows, CausalRows):
        try:
            with network.keeping_activations():
                prefix = _check_sharing(rows, trial, prompts, reference, replace(ways, shares=True))
            ways = replace(ways, shares=True)
        except Differs as reason:
            notes.append(f"a prompt is read once a row: shared, its states {reason}")
        try:
            _check_tree(rows, trial, prefix, ways)
            ways = replace(ways, tree=True)
        except Differs as reason:
            notes.append(f"labels of several tokens are read one by one: as a tree they {reason}")
    for decoding in ("padded", "equal"):
        try:
            _check_decoding(rows, trial, prefix, replace(ways, decoding=decoding))
            ways = replace(ways, decoding=decoding)
            break
        except Differs as reason:
            lengths = "of unequal lengths " if decoding == "padded" else ""
            notes.append(f"rows {lengths}do not generate from kept states: these {reason}")
    return replace(ways, embed_scale=network.embed_scale, notes=tuple(notes))


def _laid_out(rows: Rows, beyond: int, count: int = 2) -> tuple[Batch, Tensor]:
    """Rows of unequal lengths, and the token ids [2, P] of their prompts."""
    network, device = rows.network, rows.network.device
    ids = cycle(_plain_ids(network))
    text = TEXT + beyond + (FURTHER if beyond else 0)
    inputs = [[next(ids) for _ in range(length)] for length in (text, SHORT, text)[:count]]
    targets = [[next(ids) for _ in range(length)] for length in (TARGET, TARGET - 1, TARGET)[:count]]
    padded = [row + [0] * (text - len(row)) for row in inputs]
    prompt_ids = torch.tensor([[next(ids) for _ in range(PROMPT)] for _ in range(2)], device=device)
    if network.beside_vectors(prompt_ids):
        prompt_ids = torch.zeros_like(prompt_ids)  # the id whose entry stands in for a prompt's
    batch = Batch(
        input_ids=torch.tensor(padded, device=device),
        attention_mask=torch.tensor([[int(n < len(row)) for n in range(text)] for row in inputs], device=device),
        labels=torch.tensor([row + [IGNORED] * (TARGET - len(row)) for row in targets], device=device),
        prompt_index=torch.tensor([0, 1, 1][:count], device=device),
    )
    return batch, prompt_ids


def _first_gradient(rows: Rows, beyond: int) -> Tensor | None:
    """The gradient of the losses of rows for their prompts; None where a row alone takes no prompt as vectors."""
    batch, prompt_ids = _laid_out(rows, beyond)
    prompts = rows.network.embed(prompt_ids).detach().float().requires_grad_()
    ways = Ways(shares=False, together="alone", tree=False, decoding="whole")
    try:
        with torch.enable_grad(), rows.network.keeping_activations():
            return _tried(
                lambda: torch.autograd.grad(
                    batch.in_groups("alone", lambda part: rows.nats(part, Prefix(prompts), ways)).sum(), prompts
                )[0]
            )
    except Differs:
        return None


def _check_gradient_stays(rows: Rows, beyond: int, before: Tensor | None) -> None:
    """Compare the gradient after calls without one with that before: some quantised layers repack themselves in these.

    Raises:
        BackboneError: it is another.
    """
    after = None if before is None else _first_gradient(rows, beyond)
    if before is None:
        return
    difference = float("inf") if after is None else float((after - before).norm() / before.norm())
    if not difference <= _tolerance(rows.network.model.dtype):
        raise BackboneError(
            f"this {rows.network.model.config.model_type!r} model gives the prompt another gradient once it has been "
            f"called without one (by {difference:.0e}): its layers repack themselves for answering alone. Expected "
            "layers that can be trained through. Load it without quantisation, or quantised in another way."
        )


def _trial(rows: Rows, beyond: int, count: int = 2) -> Trial:
    """Rows, prompts and what the model alone makes of them.

    Raises:
        BackboneError: the model fails on them, or what it gives is not finite.
    """
    network = rows.network
    batch, prompt_ids = _laid_out(rows, beyond, count)
    text = batch.input_ids.shape[1]
    kind = f"this {network.model.config.model_type!r} model"
    try:
        prompted = _tried(lambda: [_plain_logits(rows, batch, prompt_ids, row) for row in range(count)])
        bare = _tried(lambda: [_plain_logits(rows, batch, prompt_ids[:, :0], row) for row in range(count)])
    except Differs as reason:
        raise BackboneError(
            f"{kind} cannot read a row of {text + PROMPT + TARGET} tokens: its calls {reason}; expected a model that "
            "reads token ids alone. Give another one, or shorter rows."
        ) from reason
    nats, nats_bare = _target_nats(prompted, batch.labels), _target_nats(bare, batch.labels)
    if not bool(torch.isfinite(nats).all() and torch.isfinite(nats_bare).all()):
        precision = str(network.model.dtype).removeprefix("torch.")
        raise BackboneError(
            f"in {precision} {kind} gives no finite numbers for {text + PROMPT + TARGET} tokens; expected a precision "
            "of a wider range. Set SPOT_DTYPE=bfloat16 or SPOT_DTYPE=float32."
        )
    return Trial(batch, prompt_ids, nats, nats_bare, prompted[0], _tolerance(network.model.dtype))


def _tolerance(precision: torch.dtype) -> float:
    """The relative difference that rounding alone may make."""
    if precision == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return TENSOR_FLOAT
    return TOLERANCE.get(precision, COARSE)


def _target_nats(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Negative log-probabilities [B, T] of labels that the last of each row's logits [L, V] predict."""
    counts = (labels != IGNORED).sum(dim=1).tolist()
    ends = [functional.pad(row[-count:], (0, 0, 0, TARGET - count)) for row, count in zip(logits, counts, strict=True)]
    return token_nats(torch.stack(ends), labels)


def _plain_ids(network: Network) -> list[int]:
    """Token ids over the whole vocabulary, none of them one that the configuration gives a meaning of its own."""
    config = network.model.config
    special = set(_named_ids(config.to_dict()))
    vocabulary = getattr(config.get_text_config(decoder=True), "vocab_size", None) or len(network.embedding.weight)
    spread = {round(n * (vocabulary - 1) / (IDS - 1)) for n in range(IDS)}
    return sorted(spread - special)


def _named_ids(config: Mapping[Any, object]) -> Iterator[int]:
    """The token ids that a configuration names, such as those of its end or of an image."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _named_ids(value)
        elif str(key).endswith(("token_id", "token_index")):
            yield from (token for token in (value if isinstance(value, list) else [value]) if isinstance(token, int))


@torch.no_grad()
def _plain_logits(rows: Rows, batch: Batch, prompt_ids: Tensor, row: int, target: Tensor | None = None) -> Tensor:
    """The logits [L, V] of the model called with one row's token ids alone; the last ones predict its target."""
    network = rows.network
    target = batch.labels[row, batch.labels[row] != IGNORED] if target is None else target
    before = torch.cat([prompt_ids[batch.prompt_index[row]], batch.input_ids[row, batch.attention_mask[row].bool()]])
    if isinstance(rows, CausalRows):
        return network.run(network.model, input_ids=torch.cat([before, target[:-1]])[None], use_cache=False).logits[0]
    decoded = torch.cat([target.new_tensor([rows.start]), target[:-1]])
    arguments = {"input_ids": before[None], "decoder_input_ids": decoded[None], "use_cache": False}
    return network.run(network.model, **arguments).logits[0]


def _check_causal(rows: Rows, trial: Trial) -> None:
    """Change the last token of a row: what the model says at the tokens before must not move.

    Raises:
        BackboneError: it does.
    """
    changed = trial.batch.labels[0].clone()
    changed[-2] = changed[0]  # the last token that is read; the last of the target is only predicted
    other = _plain_logits(rows, trial.batch, trial.prompt_ids, 0, changed)
    difference = float((trial.first - other)[:-1].norm() / trial.first[:-1].norm())
    if not difference <= trial.tolerance:
        config = rows.network.model.config
        raise BackboneError(
            f"this {config.model_type!r} model sees later tokens: another last token changes its earlier outputs by "
            f"{difference:.0e}, so it is an encoder and predicts nothing from left to right; expected a causal or a "
            "sequence-to-sequence model. Give one, or a checkpoint trained with is_decoder = true."
        )


def _reading(rows: Rows, trial: Trial, beyond: int) -> tuple[Together, Tensor, list[str]]:
    """Which rows may stand in one call that reads prompts as vectors, the gradient there, and why not others.

    Raises:
        BackboneError: none may.
    """
    reasons: list[str] = []
    for together in get_args(Together):
        if together == "equal":
            trial = _trial(rows, beyond, count=3)
        for scale in (1.0, *_scales(rows.network)):
            rows.network.embed_scale = scale
            try:
                gradient = _check_losses(rows, trial, together)
            except Differs as reason:
                reasons.append(str(reason))
                continue
            if together == "padded":
                return together, gradient, []
            which = "of one length at a time" if together == "equal" else "one at a time"
            gradient = _check_losses(rows, _trial(rows, beyond), together)
            return together, gradient, [f"rows are read {which}: with pads they {reasons[0]}"]
    raise BackboneError(
        f"this {rows.network.model.config.model_type!r} model cannot take a prompt: a row that it reads as vectors, "
        f"alone, {reasons[-1]}; expected what it gives for the token ids. Give a model of another family."
    )


def _scales(network: Network) -> list[float]:
    """What parts of the model say that they multiply tokens by, some of them only where they embed them."""
    parts = (getattr(module, name, None) for module in network.model.modules() for name in SCALES)
    return sorted({float(scale) for scale in parts if isinstance(scale, int | float)} - {1.0})


def _check_losses(rows: Rows, trial: Trial, together: Together) -> Tensor:
    """Compare losses with the oracle's where each row reads its prompt as vectors, and without a prompt.

    Returns:
        The gradient of the summed losses for the prompts, [2, P, D].

    Raises:
        Differs: in a loss, or the model fails, or there is no gradient.
    """
    ways = Ways(shares=False, together=together, tree=False, decoding="whole")
    prompts = rows.network.embed(trial.prompt_ids).detach().float().requires_grad_()
    bare = Prefix(prompts[:, :0])
    with torch.enable_grad():
        losses = _tried(lambda: _nats(rows, trial, Prefix(prompts), ways))
        gradient = _tried(lambda: torch.autograd.grad(losses.sum(), prompts)[0])
    _compare(losses.detach(), trial.nats, trial, "losses")
    with torch.no_grad():
        _compare(_tried(lambda: _nats(rows, trial, bare, ways)), trial.bare, trial, "losses without a prompt")
        elsewhere = _tried(lambda: _nats(rows, trial, Prefix(prompts * ELSEWHERE), ways))
    if not float(gradient.norm()) > 0:
        raise Differs("give the prompt no gradient")
    if not bool(torch.isfinite(elsewhere).all()):
        raise Differs("give no finite numbers behind a prompt that is no tokens'")
    return gradient


def _check_sharing(rows: Rows, trial: Trial, prompts: Tensor, reference: Tensor, ways: Ways) -> Prefix:
    """Compare losses with the oracle's, and the prompts' gradient with `reference`, where their states are shared.

    Returns:
        The prompts and their states, without a gradient.

    Raises:
        Differs: in a loss or the gradient, or the model fails.
    """
    prompts = prompts.clone().requires_grad_()
    with torch.enable_grad():
        prefix = _tried(lambda: rows.prefix(prompts))
        losses = _tried(lambda: _nats(rows, trial, prefix, ways))
        gradient = _tried(lambda: torch.autograd.grad(losses.sum(), prompts)[0])
    _compare(losses.detach(), trial.nats, trial, "losses")
    _compare(gradient, reference, trial, "gradients")
    return prefix


def _nats(rows: Rows, trial: Trial, prefix: Prefix, ways: Ways) -> Tensor:
    """Negative log-probabilities [B, T] of the trial's targets along some ways."""
    return trial.batch.in_groups(ways.together, lambda part: rows.nats(part, prefix, ways))


@torch.no_grad()
def _check_tree(rows: CausalRows, trial: Trial, prefix: Prefix, ways: Ways) -> None:
    """Compare each row's score of its own target with the oracle's where the targets of all rows stand in one tree.

    Raises:
        Differs: in a score, or the model fails.
    """
    tree = ChoiceTree.of([[token for token in row if token != IGNORED] for row in trial.batch.labels.tolist()])
    bare = Prefix(prefix.vectors[:, :0])
    for behind, expected in ((prefix, trial.nats), (bare, trial.bare)):
        if behind.length and behind.states is None:
            continue  # a row that reads its prompt as vectors has no tree
        scores = _tried(
            lambda behind=behind: trial.batch.in_groups(
                ways.together, lambda part: rows.tree_scores(part, behind, [tree], ways)
            )
        )
        _compare(-scores.diagonal(), expected.sum(dim=1), trial, "scores")


@torch.no_grad()
def _check_decoding(rows: Rows, trial: Trial, prefix: Prefix, ways: Ways) -> None:
    """Compare the targets' log-probabilities with the oracle's where they are taken one token at a time.

    Raises:
        Differs: in one of them, or the model fails.
    """
    for behind, expected in ((prefix, trial.nats), (Prefix(prefix.vectors[:, :0]), trial.bare)):
        stepped = _tried(
            lambda behind=behind: trial.batch.in_groups(
                ways.rows_that_generate, lambda part: _stepped(rows, part, behind, ways)
            )
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
        raise Differs(f"fail inside transformers ({type(error).__name__}: {line:.120})") from error


def _compare(actual: Tensor, expected: Tensor, trial: Trial, what: str) -> None:
    """Refuse numbers that are not the expected ones.

    Raises:
        Differs: by more than rounding.
    """
    difference = float((actual - expected).norm() / expected.norm())
    if not difference <= trial.tolerance:
        raise Differs(f"give other {what} (by {difference:.0e})")
