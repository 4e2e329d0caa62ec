"""Teach a tokenizer a written token that becomes the ids of a prompt, in the file that every server loads.

A tokenizer has no rule from one word to several ids, but it may rewrite a text before it looks for added tokens. So the
written `<|spot:reviews|>` is rewritten to `<|spot:reviews:0|><|spot:reviews:1|>...`, which are added tokens.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from spot.errors import BackboneError, PromptError
from spot.tokenization import Part, Tokenization

PROBES = ("a", " b", "The end.", "Yes: 12.\nIs it?", "été 東京 9", "  two blanks", "\nline")
NAME = re.compile(r"[A-Za-z0-9_./-]+")
_MARK = "\u2581"  # what stands for a blank in sentencepiece's vocabularies


@dataclass(frozen=True)
class Written:
    """A prompt as a tokenizer is to read it.

    Attributes:
        name: in the written token.
        size: how many ids it becomes.
        follows: what always stands behind it, such as the head of a turn in chat form; empty where any text may.
    """

    name: str
    size: int
    follows: str = ""

    @property
    def text(self) -> str:
        """The written token."""
        return f"<|spot:{self.name}|>"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens that it becomes."""
        return tuple(f"<|spot:{self.name}:{number}|>" for number in range(self.size))


def first_free_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that the next added token gets.

    Raises:
        BackboneError: the tokenizer is not one of `tokenizers`, or its ids leave holes.
    """
    backend = _backend(tokenizer)
    if backend is None:
        raise BackboneError(
            "the backbone's tokenizer is a Python program and has no tokenizer.json; expected a fast tokenizer, which "
            "other servers load. Serve the prompt with spot instead."
        )
    vocabulary = backend.get_vocab(with_added_tokens=True)
    last = max(vocabulary.values())
    if last + 1 != len(vocabulary):
        raise BackboneError(
            f"the backbone's tokenizer has {len(vocabulary):,} tokens with ids up to {last:,}; expected no holes, "
            "which tokenizers fill with new tokens. Serve the prompt with spot instead."
        )
    return last + 1


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """The tokenizer as the package `tokenizers` has it; None where it is a Python program."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend if isinstance(backend, Tokenizer) else None


def with_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Written], behind: Sequence[int]) -> str:
    """The content of a `tokenizer.json` that reads the written tokens of prompts; their ids follow all others.

    The tokenizer puts nothing in front of a text any more, since the prompt comes first: what stood there is part of
    the prompt.

    Args:
        tokenizer: of the backbone.
        prompts: in the order of their ids.
        behind: ids that it goes on to put behind a text.

    Raises:
        PromptError: two prompts, or a prompt and a token, have one name, or a name cannot be part of a token.
        BackboneError: the tokenizer is none of `tokenizers`, or its rules for the beginning of a text cannot be kept.
    """
    first = first_free_id(tokenizer)
    backend = _backend(tokenizer)
    assert backend is not None
    _check_names(backend, prompts)
    content = json.loads(backend.to_str())
    content |= {"truncation": None, "padding": None, "post_processor": _ending(tokenizer, behind)}
    for prompt in prompts:
        for token in prompt.tokens:
            entry = {"id": first, "content": token, "normalized": True, "special": True}
            content["added_tokens"].append(entry | dict.fromkeys(("single_word", "lstrip", "rstrip"), False))
            first += 1
    plain = Tokenization(tokenizer)
    start = first - sum(prompt.size for prompt in prompts)
    for prompt in prompts:
        ids = tuple(range(start, start + prompt.size))
        content = _readable(content, prompt, ids, plain)
        start += prompt.size
    return json.dumps(content, ensure_ascii=False)


def _check_names(backend: Tokenizer, prompts: Sequence[Written]) -> None:
    names = [prompt.name for prompt in prompts]
    for name in names:
        if not NAME.fullmatch(name):
            raise PromptError(
                f"the prompt's task is called {name!r:.60}, which cannot stand in a token; expected letters, digits "
                "and any of _ . / -. Import or tune it under such a name."
            )
        if names.count(name) > 1:
            raise PromptError(
                f"{names.count(name)} prompts belong to the task {name!r}, and a written token names one; expected "
                "one prompt a task. Leave the others out."
            )
    known = backend.get_vocab(with_added_tokens=True)
    for prompt in prompts:
        if taken := [token for token in (prompt.text, *prompt.tokens) if token in known]:
            raise PromptError(
                f"the backbone's tokenizer has a token {taken[0]!r} already; expected none of that name. Is it a "
                "checkpoint into which this prompt is baked? Take the model before that."
            )


def _ending(tokenizer: PreTrainedTokenizerBase, behind: Sequence[int]) -> dict[str, Any] | None:
    """A rule that puts tokens behind a text, in the words of `tokenizers`."""
    if not behind:
        return None
    names = [str(tokenizer.convert_ids_to_tokens(token)) for token in behind]
    special = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    text, pair = ({"Sequence": {"id": letter, "type_id": 0}} for letter in "AB")
    known = {name: {"id": name, "ids": [token], "tokens": [name]} for name, token in zip(names, behind, strict=True)}
    return {
        "type": "TemplateProcessing",
        "single": [text, *special],
        "pair": [text, *special, pair, *special],
        "special_tokens": known,
    }


def _readable(content: dict[str, Any], prompt: Written, ids: tuple[int, ...], plain: Tokenization) -> dict[str, Any]:
    """A tokenizer's content with the rule that rewrites a prompt's token, such that the text behind is read as ever.

    Raises:
        BackboneError: no rule does that.
    """
    texts = [prompt.follows] if prompt.follows else list(PROBES)
    expected = [ids + tokens for tokens in plain.encode([(Part(text, is_row=not prompt.follows),) for text in texts])]
    known = Tokenizer.from_str(json.dumps({**content, "added_tokens": []})).normalizer

    def normal(text: str) -> str:
        return text if known is None else known.normalize_str(text)

    written = normal(prompt.text).removeprefix(_MARK)
    tokens = "".join(map(normal, prompt.tokens)).removeprefix(_MARK)
    for eaten, glue in (("", ""), ("", _MARK), (f"[ {_MARK}]?", _MARK), ("", " "), (" ?", " ")):
        pattern = {"Regex": re.escape(written) + eaten} if eaten else {"String": written}
        rule = {"type": "Replace", "pattern": pattern, "content": tokens + glue}
        former = content["normalizer"]
        rules = [*(former["normalizers"] if former and former["type"] == "Sequence" else [former] if former else [])]
        tried = {**content, "normalizer": {"type": "Sequence", "normalizers": [*rules, rule]}}
        reader = Tokenizer.from_str(json.dumps(tried))
        given = [tuple(reader.encode(prompt.text + text, add_special_tokens=False).ids) for text in texts]
        if given == expected:
            return tried
    raise BackboneError(
        f"the backbone's tokenizer reads the text behind {prompt.text} otherwise than alone, whatever it is told: "
        f"{texts[0]!r:.40} becomes {given[0][-8:]} instead of {expected[0][-8:]}; expected the same tokens. Serve the "
        "prompt with spot instead."
    )
