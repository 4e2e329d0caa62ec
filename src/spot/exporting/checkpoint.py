"""Bake prompts into a copy of their model: a folder that any server loads, which answers `<|spot:TASK|>text`."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spot.collator import Collator, Row, collator_of_reading
from spot.errors import BackboneError, PromptError
from spot.exporting.baking import add_rows
from spot.exporting.card import Baked, checkpoint_card
from spot.exporting.folders import check_new, whole_folder
from spot.exporting.texts import around_text, whole_text
from spot.exporting.words import Written, first_free_id, with_prompts
from spot.models.backbone import Backbone
from spot.models.checkpoints import locate
from spot.models.loading import Checkpoint, read_tokenizer
from spot.models.weights import stored_tensors, weight_files
from spot.prompts.prompt import SoftPrompt, check_fits, reading_of
from spot.tasks.task import Example
from spot.tokenization import Tokenization

log = logging.getLogger(__name__)

TEXTS = (
    "a film that is good.",
    "Yes: 12 of 30 were late, and nobody said why!",
)  # on which model and copy are compared
CLOSE = 1e-3  # nats between model and copy that float32 and another order of summation explain
ROUGH = 0.1  # nats, of weights of fewer bits
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # tokens that a tokenizer's configuration names
ROLE = "spot"  # of the message whose content names the prompt, in a chat


@dataclass(frozen=True)
class _Plan:
    """A prompt on its way into a checkpoint: its collator, its written token, its rows and whose entries these have."""

    prompt: SoftPrompt
    collator: Collator
    written: Written
    vectors: Tensor
    stands_for: tuple[int, ...]


def export_checkpoint(
    prompts: Sequence[SoftPrompt], directory: Path | str, *, backbone: str | None = None
) -> tuple[Path, tuple[Baked, ...]]:
    """Write a copy of a model whose vocabulary has the prompts' vectors, and whose tokenizer reads their names.

    Args:
        prompts: of one backbone, one a task.
        directory: a folder that is new or empty.
        backbone: the frozen model, as the user names it; left out: as the prompts name it.

    Returns:
        The folder, and what was baked.

    Raises:
        PromptError: no prompt is given, one belongs to another model, or two have one name.
        BackboneError: the model is quantised, or its table, head or tokenizer cannot be extended exactly.
        StorageError: the folder holds something, or cannot be written.
    """
    directory = Path(directory)
    if not prompts:
        raise PromptError("no prompt is given; expected one or more of one backbone.")
    check_new(directory)
    checkpoint = locate(prompts[0].backbone if backbone is None else backbone)
    for prompt in prompts:
        check_fits(prompt, checkpoint.id)
    if checkpoint.architectures[0].is_quantised:
        raise BackboneError(
            f"the backbone {checkpoint.id.name!r} is quantised by {checkpoint.architectures[0].quantised_by!r}, and "
            "rows cannot be added to such a model exactly; expected the model before it was quantised. Name that with "
            "--backbone."
        )
    sizes: Counter[str] = Counter()
    for tensor in stored_tensors(weight_files(checkpoint.source, cached=checkpoint.cached)):
        sizes[tensor.dtype] += tensor.size
    dtype = sizes.most_common(1)[0][0]
    loaded = Backbone.load(
        prompts[0].backbone if backbone is None else backbone,
        device="cpu",
        dtype=dtype if dtype in ("bfloat16", "float16") else "float32",
    )
    plans = [_plan(loaded, prompt) for prompt in prompts]
    behind = Tokenization(loaded.tokenizer).around_input.behind if loaded.id.kind == "seq2seq" else ()
    first = first_free_id(loaded.tokenizer)
    words = with_prompts(loaded.tokenizer, [plan.written for plan in plans], behind)
    baked = _baked(plans, first)
    expected = [_scores(loaded, plan) for plan in plans]
    vectors = torch.cat([plan.vectors for plan in plans])
    add_rows(loaded, vectors, [token for plan in plans for token in plan.stands_for], first)
    with whole_folder(directory) as folder:
        loaded.model.save_pretrained(folder)
        _write_words(replace(checkpoint, source=str(folder), words="", packed=""), loaded, words, plans, baked)
        named, precision = loaded.id, loaded.model.dtype
        del loaded  # what was written is read again, and there may be no room for both
        likely = _check_same(_read_again(folder, precision), plans, baked, expected)
        (folder / "README.md").write_text(checkpoint_card(named, prompts, baked, likely), encoding="utf-8")
    return directory, baked


def _plan(backbone: Backbone, prompt: SoftPrompt) -> _Plan:
    """The rows of a prompt: its vectors, and those of what the tokenizer puts in front of a text, which come behind."""
    reading = reading_of(prompt)
    collator = collator_of_reading(backbone, reading, length=prompt.length)
    before = () if reading.chat else collator.tokens.around_input.before
    vectors = torch.tensor(prompt.value)
    if before:
        with torch.no_grad():
            known = backbone.embed(torch.tensor([before], device=backbone.device))[0]
        vectors = torch.cat([vectors, known.float().cpu()])
    head = around_text(collator)[0]
    # A prompt's own vectors have the first id's entry in a second table, as the engine gives them.
    return _Plan(prompt, collator, Written(prompt.task, len(vectors), head), vectors, (0,) * prompt.length + before)


def _baked(plans: Sequence[_Plan], first: int) -> tuple[Baked, ...]:
    """What the plans come to when their ids begin at `first`."""
    baked = []
    for plan in plans:
        collator = plan.collator
        baked.append(
            Baked(
                task=plan.prompt.task,
                digest=plan.prompt.digest,
                token=plan.written.text,
                ids=(first, plan.written.size),
                request=plan.written.text + whole_text(collator),
                labels=dict(zip(collator.labels, collator.choices, strict=True)) if collator.labels else {},
                end=collator.answer_end,
                most=max(map(len, collator.choices), default=collator.max_target_tokens),
                form=collator.reading.form,
            )
        )
        first += plan.written.size
    return tuple(baked)


def _compared(plan: _Plan, vocabulary: int) -> tuple[list[Row], list[list[int]]]:
    """Rows on which model and copy are compared, and the answers of one token that they are compared by."""
    rows = plan.collator.encode([Example(str(number), text, ()) for number, text in enumerate(TEXTS)])
    labels = {choice[0] for choice in plan.collator.choices} if plan.collator.labels else set()
    others = {token for row in rows for token in row.input_ids}
    known = sorted(token for token in labels | others if token < vocabulary)
    return rows, [[token] for token in known]


def _scores(backbone: Backbone, plan: _Plan) -> Tensor:
    """Log-probabilities [rows, choices] by the model with the prompt, as it is."""
    rows, choices = _compared(plan, backbone.id.vocabulary)
    return backbone.score(plan.collator.batch(rows), torch.tensor(plan.prompt.value)[None], choices)


def _read_again(folder: Path, precision: torch.dtype) -> Backbone:
    """The copy, from its files.

    Raises:
        BackboneError: it cannot be loaded.
    """
    try:
        return Backbone.load(str(folder), device="cpu", dtype=precision)
    except BackboneError as error:
        raise BackboneError(
            f"a copy of the backbone cannot be written such that transformers loads it: {error} Serve the prompts with "
            "spot instead."
        ) from error


def _check_same(
    backbone: Backbone, plans: Sequence[_Plan], baked: Sequence[Baked], expected: Sequence[Tensor]
) -> float:
    """Compare the copy as it was written, which reads ids alone, with the model.

    Returns:
        The largest probability that all new ids had together.

    Raises:
        BackboneError: they differ.
    """
    ours = [[token] for entry in baked for token in range(entry.ids[0], sum(entry.ids))]
    nothing = torch.zeros(1, 0, backbone.id.width)
    likely, worst = 0.0, 0.0
    for plan, entry, known in zip(plans, baked, expected, strict=True):
        rows, choices = _compared(plan, plan.prompt.backbone.vocabulary)
        rows = [replace(row, input_ids=_ids(plan, entry, row)) for row in rows]
        scores = backbone.score(plan.collator.batch(rows), nothing, [*choices, *ours])
        likely = max(likely, float(scores[:, len(choices) :].exp().sum(dim=1).max()))
        given = scores[:, : len(choices)]
        # Only differences: a new row in the head may take a little of all probabilities.
        apart = (given - given.mean(dim=1, keepdim=True)) - (known - known.mean(dim=1, keepdim=True))
        worst = max(worst, float(apart.abs().max()))
    if not worst <= (CLOSE if backbone.precision is None else ROUGH):
        raise BackboneError(
            f"the copy of the backbone answers otherwise than the model with its prompts: log-probabilities "
            f"differ by up to {worst:.3g}; expected the same. The model does more with token ids than to look them up. "
            "Serve it with spot instead."
        )
    return likely


def _ids(plan: _Plan, entry: Baked, row: Row) -> tuple[int, ...]:
    """A row's token ids as the copy reads them: what stood in front of its text is part of the prompt."""
    return (*range(entry.ids[0], sum(entry.ids)), *row.input_ids[entry.ids[1] - plan.prompt.length :])


def _write_words(
    copied: Checkpoint, backbone: Backbone, words: str, plans: Sequence[_Plan], baked: Sequence[Baked]
) -> None:
    """The files of the tokenizer, such that transformers reads them as they stand.

    Raises:
        BackboneError: it does not.
    """
    tokenizer: Any = backbone.tokenizer
    folder = Path(copied.source)
    (folder / "tokenizer.json").write_text(words, encoding="utf-8")
    settings: dict[str, Any] = {
        # By its own class transformers would make the tokenizer anew, without the rule for prompts.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
    }
    settings |= {
        f"{name}_token": str(token) for name in SPECIAL if (token := getattr(tokenizer, f"{name}_token", None))
    }
    if isinstance(tokenizer.chat_template, str):
        (folder / "chat_template.jinja").write_text(_CHAT + tokenizer.chat_template, encoding="utf-8")
    wrong = ""
    # For some kinds of models transformers takes the class of the kind whatever is named, unless code is named beside.
    for more in ({}, {"auto_map": {"AutoTokenizer": [None, None]}}):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **more}, indent=2), encoding="utf-8")
        if not (wrong := _misread(copied, plans, baked)):
            return
    raise BackboneError(f"the tokenizer of the copy reads {wrong}. Serve the prompts with spot instead.")


_CHAT = (  # a first message of the role `spot` names a prompt, whose ids come before all that the template writes
    f"{{%- if messages and messages[0]['role'] == '{ROLE}' -%}}"
    "{{- '<|spot:' -}}"
    "{%- if messages[0]['content'] is string -%}{{- messages[0]['content'] -}}"
    "{%- else -%}{{- messages[0]['content'][0]['text'] -}}{%- endif -%}"
    "{{- '|>' -}}"
    "{%- set messages = messages[1:] -%}"
    "{%- endif -%}"
)


def _misread(copied: Checkpoint, plans: Sequence[_Plan], baked: Sequence[Baked]) -> str:
    """Load the tokenizer as a server does: what it reads wrongly, or nothing."""
    tokenizer = read_tokenizer(copied)
    for plan, entry in zip(plans, baked, strict=True):
        ids = list(range(entry.ids[0], sum(entry.ids)))
        before, behind = around_text(plan.collator)
        given = tokenizer(f"{entry.token}{before}")["input_ids"]
        if given[: len(ids)] != ids:
            return f"{entry.token} as {given[:4]}; expected {ids[:4]}"
        rows = plan.collator.encode([Example(str(number), text, ()) for number, text in enumerate(TEXTS)])
        for text, row in zip(TEXTS, rows, strict=True):
            if tuple(tokenizer(f"{entry.token}{before}{text}{behind}")["input_ids"]) != _ids(plan, entry, row):
                log.warning(
                    "%s: a request in one text becomes other tokens than the prompt was trained on, as where its "
                    "ending %r begins; send token ids to be exact",
                    plan.prompt.task,
                    behind[:20],
                )
                break
    return ""
