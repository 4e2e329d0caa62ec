"""Turn the fields of a row into the text that a model reads: one value, `Reading`, says how.

It belongs to a task, is written into the file of a prompt that was trained so, and every path uses it: what a prompt
answers to a row depends on these words as much as on its own numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pydantic import with_config

from spot.config import TuneConfig
from spot.errors import TaskError, did_you_mean
from spot.storage.values import STRICT

CUE = "\nAnswer:"  # ends the input of a causal model, which must be told that the answer comes next
SEPARATOR = " "  # between what a causal model has read and the answer
DECODES: tuple[Literal["rank", "generate"], ...] = ("rank", "generate")
ENDS: tuple[Literal["auto", "always", "never"], ...] = ("auto", "always", "never")

_TEMPLATE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|([{}])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DEFAULTS = {name: entry.default for name, entry in TuneConfig.model_fields.items()}


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a row becomes text, and what may be answered.

    Attributes:
        form: the known data set whose form makes the text, such as `glue/sst2`; empty where `template` does.
        template: text with fields in braces, such as `sentence: {review}`; doubled braces are braces. Empty where a
            form makes the text, or where nothing is known of it, as of a mixture.
        task_prefix: whether the data set's name stands in front of each input, as T5 does; of forms and their mixtures.
        cue: ends the input, word for word; None for the default of the kind of model: `CUE` for causal models and
            nothing for seq2seq and in chat form.
        separator: between the input with its cue and the answer; None for the default: a blank for causal models, and
            nothing in chat form, whose answer follows the template's generation prompt.
        labels: (value in the rows, word that is answered) of each label; none for open answers.
        decode: `rank` the labels, or `generate` the answer freely.
        end: whether an end token follows an answer: `always`, `never`, or `auto`: for seq2seq and open answers, and
            where one label begins another.
        max_input_tokens: longest input in tokens, cue and special tokens included, prompt apart; a longer one is cut.
        max_target_tokens: longest open answer in tokens.
        truncate: the side that a long input is cut on, `right` or `left`; with a template, its longest field.
        chat: whether the input is what a user says in the chat template of a causal model's tokenizer.
        system: what stands in the system's turn in front of it; empty for what the template has there by itself.
        encoding: of the files that rows were read from; a file that is UTF-8 is read as such.
        quotes: whether a quotation mark encloses cells of CSV and TSV, or is text like any other.
    """

    form: str = ""
    template: str = ""
    task_prefix: bool = False
    cue: str | None = None
    separator: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    decode: Literal["rank", "generate"] = "rank"
    end: Literal["auto", "always", "never"] = "auto"
    max_input_tokens: int = _DEFAULTS["max_input_tokens"]
    max_target_tokens: int = _DEFAULTS["max_target_tokens"]
    truncate: Literal["right", "left"] = _DEFAULTS["truncate"]
    chat: bool = False
    system: str = ""
    encoding: str = "utf-8"
    quotes: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be read by.

        Raises:
            TaskError: a template with a lone brace or without a field, a form beside a template, an unknown word for a
                choice, a limit below 1, chat form beside a cue, or labels of which two have one value.
        """
        if self.form and self.template:
            raise TaskError(f"both a form ({self.form!r}) and a template ({self.template!r}) are given: expected one.")
        if self.template:
            parse_template(self.template)
        for name, value, choices in (
            ("decode", self.decode, DECODES),
            ("end", self.end, ENDS),
            ("truncate", self.truncate, ("right", "left")),
        ):
            if value not in choices:
                raise TaskError(f"{name} is {value!r}; {did_you_mean(str(value), choices)}")
        for name, limit in (("max_input_tokens", self.max_input_tokens), ("max_target_tokens", self.max_target_tokens)):
            if limit < 1:
                raise TaskError(f"{name} is {limit}; expected 1 or more.")
        try:
            "a".encode(self.encoding)
        except (LookupError, ValueError) as error:
            raise TaskError(f"no encoding {self.encoding!r} of text; common ones: utf-8, utf-16, cp1252.") from error
        if mistakes := chat_mistakes(self.chat, self.cue, self.system):
            raise TaskError(f"{mistakes[0]}.")
        values = [value for value, _ in self.labels]
        if doubled := sorted({value for value in values if values.count(value) > 1}):
            raise TaskError(f"the label {doubled[0]!r} is named more than once; name each once.")
        texts = (
            self.template,
            self.cue or "",
            self.separator or "",
            self.system,
            *(part for pair in self.labels for part in pair),
        )
        if any(_SURROGATE.search(text) for text in texts):
            raise TaskError("the reading settings hold half a surrogate pair, which is no text.")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The label words, each once, in their order; none for open answers."""
        return tuple(dict.fromkeys(word for _, word in self.labels))

    @cached_property
    def pieces(self) -> tuple[tuple[str, str], ...]:
        """The template as (text before, field), the last field empty; none without a template."""
        return parse_template(self.template) if self.template else ()

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields that the template reads, each once, in their order."""
        return tuple(dict.fromkeys(field for _, field in self.pieces if field))

    @property
    def spelling(self) -> str:
        """What a run depends on beside its rows, labels and limits, in one spelling; empty where all is by default."""
        default = Reading()
        names = ("cue", "separator", "decode", "end", "chat", "system")
        changed = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(default, name)}
        return repr(changed) if changed else ""

    def check_answers(self) -> None:
        """Refuse labels that leave nothing to choose: a model that can only say one word says it for certain.

        Raises:
            TaskError: there is one label word, or one is blank.
        """
        if self.labels and (len(self.words) < 2 or not all(word.strip() for word in self.words)):
            raise TaskError(f"the labels are {list(self.words)}; expected at least two words, none of them blank.")

    def render(self, values: Mapping[str, str]) -> str:
        """The input that the template makes of a row's fields: their texts are put in as they are."""
        return "".join(before + (values[field] if field else "") for before, field in self.pieces)

    def for_kind(self, kind: str) -> "Reading":
        """With cue and separator spelled out for `causal` or `seq2seq` models."""
        causal = kind == "causal" and not self.chat
        cue = self.cue if self.cue is not None else CUE if causal else ""
        separator = self.separator if self.separator is not None else SEPARATOR if causal else ""
        return replace(self, cue=cue, separator=separator)

    def in_words_of(self, other: "Reading") -> "Reading":
        """With fields and labels of `other`, and all else as it is here: a prompt's words on the rows of a task."""
        return replace(self, form=other.form, template=other.template, labels=other.labels)

    def with_limits(self, settings: TuneConfig) -> "Reading":
        """With the limits of a run's settings, and in chat form or not where they say so."""
        chat = self.chat if settings.chat is None else settings.chat
        return replace(
            self,
            chat=chat,
            system=self.system if chat else "",
            max_input_tokens=settings.max_input_tokens,
            max_target_tokens=settings.max_target_tokens,
            truncate=settings.truncate,
        )

    def of_labels(self, words: tuple[str, ...]) -> "Reading":
        """With these label words, each of which stands in the rows as itself, where no labels are named yet."""
        return self if self.labels or not words else replace(self, labels=tuple((word, word) for word in words))


def chat_mistakes(chat: bool, cue: str | None, system: str) -> list[str]:
    """What contradicts chat form, or asks for it without saying so."""
    if chat and cue:
        return [
            f"chat stands beside the cue {cue!r:.60}: the chat template ends the input with words of its own, expected "
            "one of the two; drop the cue, or chat"
        ]
    if system and not chat:
        return [f"system ({system!r:.60}) stands without chat, in which it has its turn: write chat = true, or drop it"]
    return []


def parse_template(template: str) -> tuple[tuple[str, str], ...]:
    """Cut a template into (text before, field); doubled braces are braces.

    Returns:
        At least one field; the last pair has the text behind the last field, and no field.

    Raises:
        TaskError: a lone brace, or no field.
    """
    pieces: list[tuple[str, str]] = []
    before, end = "", 0
    for match in _TEMPLATE.finditer(template):
        before, end = before + template[end : match.start()], match.end()
        if match[1]:
            pieces.append((before, match[1]))
            before = ""
        elif match[2]:
            raise TaskError(
                f"the template {template!r} has a lone {match[2]!r}: write {{field}}, or double it for a brace."
            )
        else:
            before += match[0][0]
    if not pieces:
        raise TaskError(f"the template {template!r} names no field; expected for example 'sentence: {{text}}'.")
    return (*pieces, (before + template[end:], ""))


def braced(text: str) -> str:
    """Text as a template spells it: braces doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def past_reading(task: str, settings: Mapping[str, Any]) -> Reading:
    """How a prompt reads rows whose file does not say, as those of format 1: by its task and its run's settings.

    Args:
        task: its name; a known data set's is its form.
        settings: of the run, as the prompt holds them.

    Raises:
        TaskError: a setting is none.
    """
    labels = settings.get("labels", ())
    if not isinstance(labels, list | tuple) or not all(isinstance(word, str) for word in labels):
        raise TaskError(f"the labels of the prompt's settings are {labels!r:.80}; expected a list of words.")
    values = {name: settings.get(name, _DEFAULTS[name]) for name in ("max_input_tokens", "max_target_tokens")}
    for name, value in values.items():
        if type(value) is not int:
            raise TaskError(f"{name} of the prompt's settings is {value!r:.80}; expected a whole number.")
    return Reading(
        form=task,
        task_prefix=settings.get("task_prefix") is True,
        labels=tuple((word, word) for word in dict.fromkeys(labels)),
        truncate=settings.get("truncate", _DEFAULTS["truncate"]),
        **values,
    )
