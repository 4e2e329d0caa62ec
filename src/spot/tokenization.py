"""Turn texts into token ids exactly: by their place, with the tokenizer's own tokens around, and no others.

A tokenizer reads `<s>` in a text as its begin token, puts a blank before a piece that is tokenised alone, and adds
begin, end and language codes by rules of its own. Here a text says who wrote which part of it, and only what the
author of a template or a form wrote can become a special token.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from spot.errors import TaskError

PROBES = ("a", "the end", "Yes, 12.", "b")  # texts that show what a tokenizer puts around one
BEFORE = ("a", "word", "It ends.")  # what a cue stands behind, for want of the row's own last word
LETTERS = "abcdefghijklmnop"  # of the names that special tokens get for a while: no normaliser changes these

_MARKER = re.compile(r"<\|.*\|>")  # an added token of this look is one of a chat's, whatever its flags say


class Part(NamedTuple):
    """A stretch of a text.

    Attributes:
        text: its characters.
        is_row: whether a row or a label brought it, so that it is text whatever it looks like; else the author of a
            template, a cue or a form wrote it and may mean a special token.
    """

    text: str
    is_row: bool = True


Parts = tuple[Part, ...]


@dataclass(frozen=True)
class Around:
    """The special tokens that a tokenizer puts before and behind one text."""

    before: tuple[int, ...]
    behind: tuple[int, ...]


@dataclass(frozen=True)
class _Copy:
    """A tokenizer whose special tokens have secret names, so that no text can spell them."""

    backend: Tokenizer
    names: Mapping[str, str]
    author: re.Pattern[str]

    def spelled(self, part: Part) -> str:
        """A part as this copy must read it."""
        return part.text if part.is_row else self.author.sub(lambda match: self.names[match[0]], part.text)


@dataclass(frozen=True)
class Tokenization:
    """What a tokenizer makes of texts whose parts say who wrote them.

    Attributes:
        tokenizer: of a backbone.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)

    @cached_property
    def around_input(self) -> Around:
        """What stands around one text that a model reads."""
        return self._around(is_target=False)

    @cached_property
    def around_target(self) -> Around:
        """What stands around one text that a seq2seq model writes: BART begins its answers too."""
        # A multilingual tokenizer that nobody told a target language cannot say.
        is_untold = getattr(self.tokenizer, "tgt_lang", "") is None
        return self.around_input if is_untold else self._around(is_target=True)

    @cached_property
    def end(self) -> int | None:
        """The token that ends an answer: the tokenizer's end token, else what it puts behind a text, else none."""
        end = self.tokenizer.eos_token_id
        behind = self.around_input.behind
        return int(end) if isinstance(end, int) else (behind[0] if behind else None)

    @cached_property
    def unknown(self) -> int | None:
        """The token that stands for what the vocabulary lacks."""
        token = self.tokenizer.unk_token_id
        return token if isinstance(token, int) else None

    def encode(self, texts: Sequence[Parts]) -> list[tuple[int, ...]]:
        """Token ids of texts without special tokens around them.

        Raises:
            TaskError: the tokenizer makes a special token of a row's text in every way that there is.
        """
        whole = ["".join(part.text for part in parts) for parts in texts]
        rows = self._plain(whole)
        return [
            self._literal(parts)[0] if self._may_be_typed(ids, text, parts) else ids
            for ids, text, parts in zip(rows, whole, texts, strict=True)
        ]

    def behind(self, before: Parts, texts: Sequence[Parts]) -> list[tuple[int, ...]]:
        """Token ids of texts as they stand behind another, where the tokenizer lets these be told apart; else alone.

        Args:
            before: what stands in front; its own tokens are not among those that come back.
            texts: each of which could follow.
        """
        alone = self.encode(texts)
        if not any(part.text for part in before):
            return alone
        [front, *wholes] = self.encode([before, *((*before, *parts) for parts in texts)])
        size = len(front)
        return [
            whole[size:] if ids and whole[:size] == front and len(whole) > size else ids
            for ids, whole in zip(alone, wholes, strict=True)
        ]

    def behind_any(self, texts: Sequence[Parts]) -> list[tuple[int, ...]]:
        """Token ids of texts that follow rows of all kinds: as they stand behind each of BEFORE, if these agree."""
        ways = [self.behind((Part(words),), texts) for words in BEFORE]
        return [ids[0] if len(set(ids)) == 1 else alone for *ids, alone in zip(*ways, self.encode(texts), strict=True)]

    def first_special(self, text: str) -> int | None:
        """The special token that an author's text begins with, behind blanks; None where it begins otherwise."""
        match = self._control_text.match(text.lstrip())
        return self._control[match[0]] if match else None

    def owners(self, parts: Parts) -> tuple[tuple[int, ...], list[int]]:
        """Token ids of a text, and for each token the number of the part that it comes from.

        A token that reaches over a border belongs to the author's part, of which nothing may be lost, unless that
        gives no more than the blank in front of it.
        """
        if not self.tokenizer.is_fast:
            return self._owners_by_part(parts)
        [ids] = self._plain(["".join(part.text for part in parts)])
        if self._may_be_typed(ids, "".join(part.text for part in parts), parts):
            ids, spans, texts = self._literal(parts)
        else:
            texts = tuple(part.text for part in parts)
            encoded = self.tokenizer("".join(texts), add_special_tokens=False, return_offsets_mapping=True)
            spans = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
        if not spans and ids:
            return self._owners_by_part(parts)
        return ids, [_owner(span, texts, parts) for span in spans]

    def _around(self, is_target: bool) -> Around:
        """The special tokens around a text, as several probes agree on them."""

        def ids(text: str, special: bool) -> tuple[int, ...]:
            if is_target:
                return tuple(self.tokenizer(text_target=text, add_special_tokens=special)["input_ids"])
            return tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])

        pairs = [(ids(probe, special=True), ids(probe, special=False)) for probe in PROBES]
        pairs = [(whole, plain) for whole, plain in pairs if plain]
        ways = [
            {
                Around(whole[:start], whole[start + len(plain) :])
                for start in range(len(whole) - len(plain) + 1)
                if whole[start : start + len(plain)] == plain
            }
            for whole, plain in pairs
        ]
        agreed = set.intersection(*ways) if ways else set()
        if agreed:
            return min(agreed, key=lambda around: (len(around.before), around.before))
        # The text itself is read differently beside special tokens: what all probes begin and end with are these.
        wholes = [whole for whole, _ in pairs]
        before, behind = _shared_start(wholes), _shared_start([whole[::-1] for whole in wholes])[::-1]
        specials = set(self.tokenizer.all_special_ids)
        return Around(
            tuple(token for token in before if token in specials), tuple(token for token in behind if token in specials)
        )

    @cached_property
    def _control(self) -> Mapping[str, int]:
        """Every token that only the author of a template may write: text -> id.

        Special tokens, and added ones that a chat's template writes or that look like one of a chat's. Other added
        tokens are words of the vocabulary.
        """
        tokenizer = self.tokenizer
        chat = json.dumps(tokenizer.chat_template) if getattr(tokenizer, "chat_template", None) else ""
        chat += " ".join(getattr(tokenizer, "chat_control_tokens", None) or ())
        control = {
            str(token.content): number
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special
            or _MARKER.fullmatch(token.content)
            or (token.content.strip() and re.search(r"\W", token.content) and token.content in chat)
        }
        control |= dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        usual = {number for probe in self._plain(PROBES) for number in probe} - {self.unknown}
        return {text: number for text, number in control.items() if text and number not in usual}

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(self._control.values())

    def _plain(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Token ids of texts, special tokens among them where a text spells them."""
        if not texts:
            return []
        return [tuple(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def _may_be_typed(self, ids: Sequence[int], text: str, parts: Parts) -> bool:
        """Whether special tokens among these may come from a row's text; an unknown word alone gives none."""
        if self._control_ids.isdisjoint(ids) or not any(part.is_row for part in parts):
            return False
        typed = Counter(token for token in ids if token in self._control_ids) - Counter(self._meant(parts))
        return bool(typed.keys() - {self.unknown}) or str(self.tokenizer.unk_token or "").casefold() in text.casefold()

    def _literal(self, parts: Parts) -> tuple[tuple[int, ...], list[tuple[int, int]], tuple[str, ...]]:
        """Token ids with the rows' parts read as text, the span of each token, and the parts that the spans count in.

        There are no spans where the tokenizer has none.
        """
        copy = self._copy
        if copy is not None:
            texts = tuple(map(copy.spelled, parts))
            encoding = copy.backend.encode("".join(texts), add_special_tokens=False)
            ids, spans = tuple(encoding.ids), [(start, end) for start, end in encoding.offsets]
        else:
            ids, spans, texts = self._stitched(parts), [], tuple(part.text for part in parts)
        meant = self._meant(parts)
        if wrong := [token for token in self._control_ids.intersection(ids) - {self.unknown} if token not in meant]:
            token = self.tokenizer.convert_ids_to_tokens(wrong[0])
            raise TaskError(
                f"the text {''.join(part.text for part in parts)!r:.80} spells the special token {token!r}, and this "
                "tokenizer cannot read it as text; expected rows without it. Change these words in the rows."
            )
        return ids, spans, texts

    def _meant(self, parts: Parts) -> list[int]:
        """The special tokens that the author's parts spell, as often as they do."""
        written = (part.text for part in parts if not part.is_row)
        return [self._control[token] for text in written for token in self._control_text.findall(text)]

    @cached_property
    def _control_text(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self._control, key=len, reverse=True))) or "(?!)")

    @cached_property
    def _copy(self) -> _Copy | None:
        """The tokenizer with other names for its special tokens; None where it cannot be copied."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            return None
        try:
            content = json.loads(backend.to_str())
        except Exception:  # what tokenizers raises for parts that are written in Python has no class of its own
            return None
        # Secret, because a text that could spell a name would spell the token.
        names = {text: "".join(secrets.choice(LETTERS) for _ in range(24)) for text in self._control}
        content |= {"truncation": None, "padding": None, "post_processor": None}
        for token in content["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        _rename_in_model(content["model"], names)
        return _Copy(Tokenizer.from_str(json.dumps(content)), names, self._control_text)

    def _stitched(self, parts: Parts) -> tuple[int, ...]:
        """Token ids of a text by a tokenizer without a copy: the author's special tokens, and what stands between."""
        ids: list[int] = []
        text = ""
        for part in parts:
            if part.is_row:
                text += part.text
                continue
            at = 0
            for match in self._control_text.finditer(part.text):
                ids += (*self._unspecial(text + part.text[at : match.start()]), self._control[match[0]])
                text, at = "", match.end()
            text += part.text[at:]
        return (*ids, *self._unspecial(text))

    def _unspecial(self, text: str) -> tuple[int, ...]:
        """Token ids of a text by a tokenizer that is told to split special tokens, or by its pieces."""
        if not text:
            return ()
        ids = tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        if self._control_ids.isdisjoint(set(ids) - {self.unknown}):
            return ids
        pieces = list(_cut(text, self._control_text))
        return tuple(token for piece in self._plain(pieces) for token in piece)

    def _owners_by_part(self, parts: Parts) -> tuple[tuple[int, ...], list[int]]:
        """As `owners`, for a tokenizer that does not say where its tokens come from: part by part."""
        ids: list[int] = []
        owners: list[int] = []
        for number, part in enumerate(parts):
            if part.text:
                [tokens] = self.behind(parts[max(0, number - 1) : number], [(part,)])
                ids += tokens
                owners += [number] * len(tokens)
        return tuple(ids), owners


def _rename_in_model(model: dict[str, Any], names: Mapping[str, str]) -> None:
    """Give tokens other names in a tokenizer's vocabulary, where merges and longest matches would find them."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        pairs = (tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"])
        model["merges"] = [list(pair) for pair in pairs if names.keys().isdisjoint({*pair, "".join(pair)})]


def _owner(span: tuple[int, int], texts: Sequence[str], parts: Parts) -> int:
    """The number of the part that a token comes from, see `Tokenization.owners`."""
    start, end = span
    touched: list[int] = []
    place = 0
    for number, text in enumerate(texts):
        stop = place + len(text)
        shared = text[max(start, place) - place : max(0, min(end, stop) - place)]
        is_more = shared.strip() or (shared and (parts[number].is_row or len(shared) == end - start))
        if is_more or (start == end and place <= start < stop):
            touched.append(number)
        place = stop
    authors = [number for number in touched if not parts[number].is_row]
    return (authors or touched or [len(parts) - 1])[0]


def _shared_start(sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """What all sequences begin with."""
    shared: list[int] = []
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        shared.append(tokens[0])
    return tuple(shared)


def _cut(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """A text in pieces, cut behind the first character of whatever matches."""
    at = 0
    for match in pattern.finditer(text):
        yield text[at : match.start() + 1]
        at = match.start() + 1
    yield text[at:]


def levelled(lengths: Sequence[int], room: int) -> list[int]:
    """How much of each of several texts fits: the longest is cut first, down to the length of the next, and so on.

    Args:
        lengths: in tokens.
        room: for all of them, 0 or more.
    """
    kept = list(lengths)
    level = 0
    for number, length in enumerate(sorted(lengths)):
        rest = room - sum(sorted(lengths)[:number])
        if length * (len(lengths) - number) > rest:
            level, spare = divmod(rest, len(lengths) - number)
            # What cannot be shared evenly goes to the first of the long ones.
            for place in range(len(kept)):
                if kept[place] > level:
                    kept[place] = level + (spare > 0)
                    spare -= spare > 0
            return kept
    return kept
