"""Hold a backbone against its model alone: plain transformers, one row at a time, no pads, no cache, no positions.

`measure` saves a tiny model of a family, loads it as a backbone and runs every check of `CHECKS`. Nothing that the
engine computes enters what is expected of it.
"""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import peft
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from spot.collator import collator_for
from spot.errors import SpotError
from spot.interchange import export_peft
from spot.models.backbone import Backbone
from spot.prompts.prompt import KeyRecipe, SoftPrompt
from spot.reading import Reading
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from spot.training.door import tune
from tests.support.batches import batch_of
from tests.support.families import BOS, EOS, PAD, UNK, VOCABULARY, Family, word_tokenizer
from tests.support.toy_runs import Stopped, stopping_at

TOLERANCE = 2e-4  # largest relative error that float32 and another order of summation explain
LENGTH, NEW_TOKENS = 5, 6

Row = tuple[list[int], list[int], int]  # tokens of the text, tokens of the target, which prompt

EVEN: tuple[Row, ...] = (([23, 24, 25, 26], [28, 29], 0), ([30, 31, 32, 33], [34, 35], 1))
UNEVEN: tuple[Row, ...] = (
    ([43, 44, 45, 46, 47], [48, 49], 0),
    ([50], [51], 1),
    ([53, 54, 55, 56, 57, 58, 59, 60], [61, 62, 63], 0),
)
LONG: tuple[Row, ...] = (  # beyond twice the window of every family, beside a short row
    ([64 + number % 90 for number in range(41)], [48, 49], 0),
    ([43, 44, 45], [51, 52], 1),
)
SPECIAL = (PAD, EOS, BOS, UNK)  # left out of what a tokenizer makes of ids
WORDS = ([48], [49], [120])
CHOICES = ([48, 49], [48, 50, 51], [52], [48, 49, 44])  # of one to three tokens, some with a beginning in common

Verdict = Literal["exact", "refused", "wrong", "traceback", "untried"]
WORST: tuple[Verdict, ...] = ("traceback", "wrong", "refused", "untried", "exact")


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Attributes:
        verdict: `refused` where an error of ours says why not, `untried` where there is nothing to compare with.
        detail: the figure, the words of the refusal, or the exception.
    """

    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True)
class Difference:
    """One comparison: `error` is relative; it is wrong above `tolerance`."""

    what: str
    error: float
    tolerance: float = TOLERANCE

    @property
    def is_wrong(self) -> bool:
        """Whether it is larger than it may be; what is no number is."""
        return not self.error <= self.tolerance


@dataclass(frozen=True)
class Measurement:
    """What came of one family.

    Attributes:
        family: its name.
        kind: of the backbone; empty where none was loaded.
        shares: whether prompts are computed once for all rows.
        reasons: what the backbone says about the ways that it does not go.
        loading: what came of loading.
        checks: letter of a check -> what came of it.
    """

    family: str
    kind: str = ""
    shares: bool = False
    reasons: tuple[str, ...] = ()
    loading: Outcome = field(default_factory=lambda: Outcome("exact"))
    checks: dict[str, Outcome] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The worst of all, apart from what a model may lack: long rows, gradient checkpointing, a way for PEFT."""
        allowed = {"g": ("refused",), "h": ("refused",), "l": ("refused",), "j": ("untried",)}
        verdicts = [self.loading.verdict]
        verdicts += [part.verdict for check, part in self.checks.items() if part.verdict not in allowed.get(check, ())]
        return min(verdicts, key=WORST.index)


class Alone:
    """A model of transformers by itself, which reads one row at a time."""

    def __init__(self, model: PreTrainedModel):
        """Find out how the model reads vectors instead of ids.

        A few multiply the vectors of ids behind their embedding module, and a few look at the ids in later layers too.
        Both show where ids and their vectors give different logits.
        """
        self.model = model.eval().requires_grad_(False)
        self.is_seq2seq = bool(model.config.is_encoder_decoder)
        self.embedding: Any = model.get_input_embeddings()
        self.scale, self.reads_ids = 1.0, False
        # Angles that grow with a row stay so for later rows that are shorter.
        self.remembers_lengths = "dynamic" in str(getattr(model.config, "rope_parameters", None))
        ids = UNEVEN[0][0]
        by_ids = self._run([], ids=ids)
        text = model.config.get_text_config(decoder=True)
        # Where a prompt stands, a model that looks ids up a second time finds a pad, as where a picture stands; others
        # may count pads out of the row.
        self.filler = PAD if getattr(text, "hidden_size_per_layer_input", None) else 48
        scales = (1.0, self.embed(ids).shape[-1] ** 0.5, getattr(text, "embedding_multiplier", 1.0))
        errors = []
        for scale in scales:
            self.scale = scale
            try:
                self._run([], vectors=1.5 * self.embed(ids))
                errors.append(relative(self._run([], vectors=self.embed(ids)), by_ids))
            except RuntimeError:  # Gemma 4 looks each vector up among those of its tokens
                errors.append(float("inf"))
        self.reads_ids = min(errors) > TOLERANCE
        self.scale = 1.0 if self.reads_ids else scales[int(np.argmin(errors))]

    @property
    def width(self) -> int:
        """Of a prompt's vectors."""
        return self.embed([5]).shape[-1]

    @cached_property
    def start(self) -> int:
        """The token that a decoder starts with."""
        configs = (self.model.generation_config, self.model.config)
        starts = [getattr(config, "decoder_start_token_id", None) for config in configs]
        return next((start for start in starts if start is not None), BOS)

    @cached_property
    def is_causal(self) -> bool:
        """Whether no position sees a later one."""
        if self.is_seq2seq:
            return True
        ids = UNEVEN[2][0]
        return relative(self._run([], ids=[*ids[:-1], 99])[:-1], self._run([], ids=ids)[:-1]) < TOLERANCE

    def embed(self, ids: Sequence[int]) -> Tensor:
        """The vectors [S, D] that stand for ids where the model is given vectors."""
        return self.embedding(torch.tensor([list(ids)]))[0] * self.scale

    def logits(self, prompt: Tensor, text: Sequence[int], target: Sequence[int]) -> Tensor:
        """Logits [T, V] that predict the tokens of a target behind a prompt [P, D] and a text."""
        if self.is_seq2seq:
            return self._read(prompt, text, [self.start, *target[:-1]])[: len(target)]
        return self._read(prompt, [*text, *target[:-1]], [])[-len(target) :]

    def loss(self, prompt: Tensor, text: Sequence[int], target: Sequence[int]) -> Tensor:
        """Nats of a target."""
        return cross_entropy(self.logits(prompt, text, target).float(), torch.tensor(target), reduction="sum")

    def losses(self, rows: Sequence[Row], prompts: Tensor) -> Tensor:
        """Nats [B] of rows, each read by itself."""
        return torch.stack([self.loss(prompts[number], text, target) for text, target, number in rows])

    def scores(self, rows: Sequence[Row], prompts: Tensor, choices: Sequence[list[int]]) -> Tensor:
        """Log-probabilities [B, C] of choices."""
        with torch.no_grad():
            return -torch.stack(
                [self.losses([(text, choice, number) for choice in choices], prompts) for text, _, number in rows]
            )

    @torch.no_grad()
    def words(self, prompt: Tensor, text: Sequence[int]) -> tuple[list[int], bool]:
        """The greedy continuation, and whether each token was likelier than the next by more than rounding."""
        settings = self.model.generation_config
        tokens: list[int] = []
        for step in range(NEW_TOKENS):
            best, second = self.logits(prompt, text, [*tokens, PAD])[-1].float().topk(2).values.tolist()
            if best - second < 1e-3 * abs(best):
                return tokens, False
            token = int(self.logits(prompt, text, [*tokens, PAD])[-1].argmax())
            if self.is_seq2seq and step == 0 and settings.forced_bos_token_id is not None:
                token = settings.forced_bos_token_id
            if self.is_seq2seq and step == NEW_TOKENS - 1 and settings.forced_eos_token_id is not None:
                token = EOS
            if token == EOS:
                break
            tokens.append(token)
        return tokens, True

    def _read(self, prompt: Tensor, ids: Sequence[int], decoder_ids: Sequence[int]) -> Tensor:
        """Logits [positions, V] of ids behind a prompt."""
        if not len(prompt):
            return self._run(decoder_ids, ids=ids)
        if not self.reads_ids:
            return self._run(decoder_ids, vectors=torch.cat([prompt, self.embed(ids)]))

        # Other tokens stand where the prompt does, and their vectors are exchanged for the prompt's.
        def exchanged(_module: torch.nn.Module, _inputs: object, vectors: Tensor) -> Tensor:
            return torch.cat([prompt[None], vectors[:, len(prompt) :]], dim=1)

        handle = self.embedding.register_forward_hook(exchanged)
        try:
            return self._run(decoder_ids, ids=[self.filler] * len(prompt) + list(ids))
        finally:
            handle.remove()

    def _run(
        self, decoder_ids: Sequence[int], *, ids: Sequence[int] | None = None, vectors: Tensor | None = None
    ) -> Tensor:
        if self.remembers_lengths:
            self.model(input_ids=torch.tensor([[48]]), use_cache=False)  # a short row makes it forget the longer ones
        arguments: dict[str, Any] = {"use_cache": False}
        if ids is not None:
            arguments["input_ids"] = torch.tensor([list(ids)])
        if vectors is not None:
            arguments["inputs_embeds"] = vectors[None] * 1  # some models scale what they are given in place
        if self.is_seq2seq:
            arguments["decoder_input_ids"] = torch.tensor([list(decoder_ids) or [self.start, 48]])
        output = self.model(**arguments)
        return (output.logits if hasattr(output, "logits") else output[0])[0]


def relative(actual: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of what is expected; not a number where one of the two is not finite."""
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-12))


@dataclass(frozen=True)
class Specimen:
    """One family's model, by itself and as a backbone.

    Attributes:
        folder: with its files.
        alone: by itself.
        backbone: as the engine has it.
        scratch: an empty folder for what checks write.
    """

    folder: Path
    alone: Alone
    backbone: Backbone
    scratch: Path

    def prompts(self, length: int = LENGTH, count: int = 2) -> Tensor:
        """Prompts [2, P, D], the same ones in every call."""
        random = torch.Generator().manual_seed(length)
        return torch.randn(count, length, self.alone.width, generator=random) * 0.5

    def nothing(self) -> Tensor:
        """Prompts of no tokens."""
        return self.prompts(0)


def load(folder: Path, **options: Any) -> Backbone:
    """A folder of the table as a backbone.

    Some families have a tokenizer class of their own, which reads the words of ours in another way: it is exchanged.
    """
    backbone = Backbone.load(str(folder), **options)
    backbone.tokenizer = word_tokenizer(backbone.id.kind == "seq2seq")
    return backbone


Check = Callable[[Specimen], Iterator[Difference]]


def _sensitivity(specimen: Specimen, rows: Sequence[Row], prompts: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Losses and prompt gradients, and the tolerances that follow from what a change of 1e-6 does to them."""
    results = []
    for shift in (0.0, 1e-6):
        moved = (prompts + shift).requires_grad_()
        losses = specimen.alone.losses(rows, moved)
        (gradient,) = torch.autograd.grad(losses.sum(), moved)
        results.append((losses.detach(), gradient))
    (losses, gradient), (other_losses, other_gradient) = results
    loss_tolerance = max(TOLERANCE, 10 * relative(other_losses, losses))
    return losses, gradient, loss_tolerance, max(TOLERANCE, 10 * relative(other_gradient, gradient))


def _compared(
    specimen: Specimen, rows: Sequence[Row], length: int = LENGTH, backbone: Backbone | None = None
) -> Iterator[Difference]:
    """Loss and prompt gradient of rows in one batch."""
    prompts = specimen.prompts(length)
    losses, gradient, loss_tolerance, gradient_tolerance = _sensitivity(specimen, rows, prompts)
    leaf = prompts.clone().requires_grad_()
    with torch.enable_grad():
        ours = (backbone or specimen.backbone).loss(batch_of(rows), leaf)
        ours.sum().backward()
    assert leaf.grad is not None
    yield Difference("loss", relative(ours.detach(), losses), loss_tolerance)
    yield Difference("gradient", relative(leaf.grad, gradient), gradient_tolerance)


def _without_prompt(specimen: Specimen, rows: Sequence[Row]) -> Difference:
    with torch.no_grad():
        expected = specimen.alone.losses(rows, specimen.nothing())
        return Difference(
            "loss without a prompt", relative(specimen.backbone.loss(batch_of(rows), specimen.nothing()), expected)
        )


def _ranked(
    specimen: Specimen, rows: Sequence[Row], prompts: Tensor, choices: Sequence[list[int]]
) -> Iterator[Difference]:
    expected = specimen.alone.scores(rows, prompts, choices)
    moved = specimen.alone.scores(rows, prompts + 1e-6, choices) if prompts.shape[1] else expected
    ours = specimen.backbone.score(batch_of(rows), prompts, choices)
    tolerance = max(TOLERANCE, 10 * relative(moved, expected))
    yield Difference(f"scores of {max(map(len, choices))} tokens", relative(ours, expected), tolerance)


def _generated(specimen: Specimen, rows: Sequence[Row], prompts: Tensor) -> Iterator[Difference]:
    def differs(text: str, tokens: list[int], is_sure: bool) -> float:
        ids = [int(word[1:]) for word in text.split()]
        tokens = [token for token in tokens if token not in SPECIAL]
        return float(ids != tokens if is_sure else ids[: len(tokens)] != tokens)

    together = specimen.backbone.generate(batch_of(rows), prompts, NEW_TOKENS)
    for row, text in zip(rows, together, strict=True):
        expected = specimen.alone.words(prompts[row[2]], row[0])
        (single,) = specimen.backbone.generate(batch_of([row]), prompts, NEW_TOKENS)
        yield Difference("words of a row alone", differs(single, *expected))
        yield Difference("words of a padded row", differs(text, *expected))


def check_loss(specimen: Specimen) -> Iterator[Difference]:
    """c: loss and prompt gradient of rows of one length; loss without a prompt."""
    yield from _compared(specimen, EVEN)
    yield _without_prompt(specimen, EVEN)


def check_padding(specimen: Specimen) -> Iterator[Difference]:
    """d: a row by itself, and rows of unequal length in one batch."""
    for row in UNEVEN[1:]:
        yield from _compared(specimen, [row])
    yield from _compared(specimen, UNEVEN)
    yield _without_prompt(specimen, UNEVEN)


def check_scores(specimen: Specimen) -> Iterator[Difference]:
    """e: labels of one, two and three tokens that share beginnings, behind a prompt."""
    yield from _ranked(specimen, UNEVEN, specimen.prompts(), WORDS)
    yield from _ranked(specimen, UNEVEN, specimen.prompts(), CHOICES)


def check_scores_without_prompt(specimen: Specimen) -> Iterator[Difference]:
    """e0: the same labels on the frozen model."""
    yield from _ranked(specimen, UNEVEN, specimen.nothing(), WORDS)
    yield from _ranked(specimen, UNEVEN, specimen.nothing(), CHOICES)


def check_generation(specimen: Specimen) -> Iterator[Difference]:
    """f: greedy words against a loop by hand, with a prompt and without."""
    yield from _generated(specimen, UNEVEN, specimen.prompts())
    yield from _generated(specimen, UNEVEN[:1], specimen.nothing())


def check_long_rows(specimen: Specimen) -> Iterator[Difference]:
    """g: rows and prompts longer than every window and chunk."""
    yield from _compared(specimen, LONG)
    yield from _compared(specimen, UNEVEN, length=40)
    yield from _ranked(specimen, LONG, specimen.prompts(), CHOICES)
    yield from _generated(specimen, LONG, specimen.prompts())


def check_checkpointing(specimen: Specimen) -> Iterator[Difference]:
    """h: loss and prompt gradient where activations are recomputed."""
    backbone = load(specimen.folder, gradient_checkpointing=True)
    yield from _compared(specimen, UNEVEN, backbone=backbone)


LABELS = ("w120", "w121 w122", "w121 w123 w124")
TASK = Task("words", lambda split: iter(()), ("train",), LABELS, ("accuracy",), reading=Reading(cue="w130"))
ROWS = tuple(
    Example(
        str(number),
        " ".join(f"w{20 + (number * step) % 90}" for step in range(1, 2 + number % 5)),
        (LABELS[number % 3],),
    )
    for number in range(24)
)
SETTINGS = {"steps": 2, "length": 3, "batch_size": 4, "learning_rate": 0.05, "eval_every": 1, "checkpoint_every": 1}


def check_resuming(specimen: Specimen) -> Iterator[Difference]:
    """i: two steps of training, left after the first and taken up by another process, give the same prompt."""
    splits = Splits(ROWS[:12], ROWS[12:18], ROWS[18:])
    whole = tune(TASK, specimen.backbone, rows=splits, library=None, out=specimen.scratch / "whole", **SETTINGS)
    folder = specimen.scratch / "stopped"
    with contextlib.suppress(Stopped):
        tune(TASK, specimen.backbone, rows=splits, library=None, out=folder, progress=stopping_at(1), **SETTINGS)
    again = load(specimen.folder)
    resumed = tune(TASK, again, rows=splits, library=None, out=folder, **SETTINGS)
    yield Difference("bytes", float(resumed.value.tobytes() != whole.value.tobytes()))


def check_peft(specimen: Specimen) -> Iterator[Difference]:
    """j: PEFT reads our export as it reads vectors that are put before the embedded text."""
    alone, prompt = specimen.alone, specimen.prompts()[0]
    soft = SoftPrompt(
        value=prompt.numpy(),
        key=prompt.numpy(),
        start=prompt.numpy(),
        backbone=specimen.backbone.id,
        task="words",
        step=2,
        seed=0,
        key_recipe=KeyRecipe(2, LENGTH, "vocabulary", 0, "adamw", 0.05, 0.0, 4, 96),
        scores={"accuracy": 50.0},
        frozen_scores={"accuracy": 50.0},
        config={"steps": 2},
    )
    folder = export_peft(soft, specimen.scratch / "peft")
    ids, arguments = UNEVEN[0][0], {}
    vectors = torch.cat([prompt, alone.embedding(torch.tensor([ids]))[0]])[None]
    if alone.is_seq2seq:
        arguments["decoder_input_ids"] = torch.tensor([[alone.start, 48, 49]])
    with torch.no_grad():
        try:
            _peft_model(alone).eval()(input_ids=torch.tensor([ids]), **arguments)
            expected = alone.model(inputs_embeds=vectors, **arguments, use_cache=False).logits
        except Exception as error:
            raise NothingToCompare(f"PEFT itself: {type(error).__name__}: {str(error)[:100]}") from error
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(alone.model), folder).eval()
        logits = loaded(input_ids=torch.tensor([ids]), **arguments).logits
    yield Difference("logits", relative(logits[0, -3:], expected[0, -3:]))


def _peft_model(alone: Alone) -> Any:
    """A prompt that PEFT makes by itself, told all that it would ask a model for."""
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM" if alone.is_seq2seq else "CAUSAL_LM",
        num_virtual_tokens=LENGTH,
        token_dim=alone.width,
        num_transformer_submodules=1,
        num_layers=1,
        num_attention_heads=1,
    )
    return peft.get_peft_model(copy.deepcopy(alone.model), config)


def check_starts(specimen: Specimen) -> Iterator[Difference]:
    """k: the vectors that prompts start from are those that the model reads for the tokens."""
    ids = list(range(20, VOCABULARY - 20))
    yield Difference("rows", relative(specimen.backbone.embeddings()[ids], specimen.alone.embed(ids)))
    yield Difference("embedded", relative(specimen.backbone.embed(torch.tensor([ids]))[0], specimen.alone.embed(ids)))


def check_overlong(specimen: Specimen) -> Iterator[Difference]:
    """l: a row longer than the model's positions is cut, or refused."""
    collator = collator_for(specimen.backbone, TASK, length=LENGTH, reading=Reading(cue="w130", max_input_tokens=400))
    words = " ".join(f"w{20 + number % 90}" for number in range(300))
    (row,) = collator.encode([Example("0", words, LABELS[:1])])
    prompts = specimen.prompts()
    ours = specimen.backbone.loss(batch_of([(list(row.input_ids), list(row.target_ids), 0)]), prompts)
    expected = specimen.alone.losses([(list(row.input_ids), list(row.target_ids), 0)], prompts)
    yield Difference("loss", relative(ours, expected))


CHECKS: dict[str, Check] = {
    "c": check_loss,
    "d": check_padding,
    "e": check_scores,
    "e0": check_scores_without_prompt,
    "f": check_generation,
    "g": check_long_rows,
    "h": check_checkpointing,
    "i": check_resuming,
    "j": check_peft,
    "k": check_starts,
    "l": check_overlong,
}
QUICK = ("c", "d", "e", "e0", "f", "g", "h", "k")  # those that a change of the engine can break


class NothingToCompare(Exception):
    """There is no reference for a check."""


def run_check(check: Check, specimen: Specimen) -> Outcome:
    """One check, whatever comes of it."""
    try:
        differences = list(check(specimen))
    except NothingToCompare as error:
        return Outcome("untried", str(error))
    except SpotError as error:
        return Outcome("refused", str(error))
    except Exception as error:
        return Outcome("traceback", _place(error))
    wrong = [part for part in differences if part.is_wrong]
    if wrong:
        return Outcome("wrong", ", ".join(f"{part.what} {part.error:.0e}" for part in wrong))
    return Outcome("exact", f"{max((part.error for part in differences), default=0.0):.0e}")


def _place(error: BaseException) -> str:
    """An exception with the line where it was raised, and the last line of ours that it came through."""
    trace, lines, ours = error.__traceback__, [], ["zoo.py"]
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        lines.append(f"{path.name}:{trace.tb_lineno}")
        if "spot" in path.parts and "transformers" not in path.parts:
            ours.append(lines[-1])
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]} [{lines[-1]}, from {ours[-1]}]"


class Remembered(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def measure(family: Family, scratch: Path, checks: Sequence[str] = tuple(CHECKS)) -> Measurement:
    """Save a tiny model of a family, load it and run checks.

    Args:
        family: an entry of the table.
        scratch: an empty folder.
        checks: letters of `CHECKS`.
    """
    remembered = Remembered()
    logger = logging.getLogger("spot.models")
    logger.addHandler(remembered)
    try:
        return _measured(family, scratch, checks, remembered)
    finally:
        logger.removeHandler(remembered)


def _measured(family: Family, scratch: Path, checks: Sequence[str], remembered: Remembered) -> Measurement:
    folder = scratch / "model"
    family.save(folder)
    try:
        backbone = load(folder)
    except SpotError as error:
        return Measurement(family.name, loading=Outcome("refused", str(error).replace(f"{scratch}/", "")))
    except Exception as error:
        return Measurement(family.name, loading=Outcome("traceback", _place(error)))

    def result(loading: Outcome, outcomes: dict[str, Outcome] | None = None) -> Measurement:
        reasons = tuple(dict.fromkeys(message.removeprefix("model: ") for message in remembered.messages))
        return Measurement(
            family.name, backbone.id.kind, backbone.shares_prefix, reasons, loading, outcomes if outcomes else {}
        )

    if family.saved_as:
        return result(Outcome("wrong", "weights that are in no file are made up"))
    try:
        alone = Alone(family.read(folder))
        is_causal = alone.is_causal
    except Exception as error:
        return result(Outcome("untried", f"the model alone: {_place(error)}"))
    if not is_causal:
        return result(Outcome("wrong", "a model that sees later tokens is taken for a causal one"))
    if alone.is_seq2seq != (backbone.id.kind == "seq2seq"):
        return result(Outcome("wrong", f"it is taken for a {backbone.id.kind} model"))
    outcomes = {}
    for letter in checks:
        (scratch / letter).mkdir()
        outcomes[letter] = run_check(CHECKS[letter], Specimen(folder, alone, backbone, scratch / letter))
    return result(Outcome("exact"), outcomes)
