"""From a request to rows, and from tokens to the text, the pieces of a stream and the log-probabilities of an answer.

A stream and a whole answer take one path: an answer is its pieces, joined.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeVar, cast

from transformers import PreTrainedTokenizerBase

from spot.collator import Collator, Row
from spot.errors import TaskError
from spot.reading import Reading
from spot.serving.requests import Engine, Refusal, Sampling, Served, Token
from spot.serving.wire import ChatLogprobs, ChatMessage, ChatRequest, ChatToken, CompletionLogprobs, CompletionRequest
from spot.tasks.inputs import inputs_of, rows_of
from spot.tasks.registry import TABLE
from spot.tasks.task import Example

LEAST_TEMPERATURE = 0.01  # of draws: below it probabilities overflow, and the likeliest token is drawn anyway
LEAST_LOGPROB = -9999.0  # JSON has no infinity; OpenAI writes this
CHUNK = 64  # rows that are encoded at a time, between which other requests have their turn
CHUNK_LETTERS = 100_000  # the same in characters, and the longest text of a row: a third of a second's work
WINDOW = 96  # tokens that are read again with each that comes
_KEPT = 8  # tokens whose text shows how the next one stands behind them
_LOST = "\ufffd"  # stands for bytes that are no whole character yet
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece spells a byte that no other token covers
_SEEDS = 2**63

Finish = Literal["stop", "length"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class TokenText:
    r"""A token as a client is told of it.

    Attributes:
        text: its own characters; `bytes:\xe2` where it is a part of one.
        bytes: of its text; None where the tokenizer does not tell them.
        logprob: nats.
        offset: where its text begins in the answer, characters.
        top: the likeliest tokens at its place, likeliest first.
    """

    text: str
    bytes: tuple[int, ...] | None
    logprob: float
    offset: int = 0
    top: tuple["TokenText", ...] = ()


@dataclass(frozen=True)
class Piece:
    """What a stream says next of one answer.

    Attributes:
        text: goes on from the piece before; may be empty.
        tokens: whose text begins in what has been said, where log-probabilities are wanted.
        finish: why the answer ends with this piece; None where it goes on.
        count: tokens that were generated since the piece before.
    """

    text: str
    tokens: tuple[TokenText, ...] = ()
    finish: Finish | None = None
    count: int = 0


class Detokeniser:
    """Turns tokens into text as they come.

    What has been given out never changes: characters are held back while tokens that follow could change them. All
    pieces joined are what the tokenizer makes of all tokens.

    Attributes:
        length: characters given out so far.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, window: int = WINDOW) -> None:
        """Begin an answer.

        Args:
            tokenizer: of the model.
            window: tokens after which those in front are not read again, all but the last few.
        """
        self._tokenizer = tokenizer
        self._silent = frozenset(
            {*tokenizer.all_special_ids}
            | {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        )
        self._window = window
        self._ids: list[int] = []
        self._shown = ""  # the text of these tokens that has been given out
        self.length = 0

    def add(self, token: int) -> str:
        """The characters that are certain with one more token."""
        self._ids.append(token)
        # A run of bytes is read as a whole, across special tokens: one more may make characters of it, or none.
        if token in self._silent or _BYTE.fullmatch(_spelling(self._tokenizer, token)):
            return ""
        text = decoded(self._tokenizer, self._ids)
        rest = self._rest(text.rstrip(_LOST))
        if len(self._ids) > self._window and self._shown == text:
            self._ids = self._ids[-_KEPT:]
            self._shown = decoded(self._tokenizer, self._ids)
        return rest

    def finish(self) -> str:
        """The characters that were held back."""
        return self._rest(decoded(self._tokenizer, self._ids))

    def _rest(self, text: str) -> str:
        """What a text has behind what was given out."""
        if not text.startswith(self._shown):
            return ""
        rest = text[len(self._shown) :]
        self._shown = text
        self.length += len(rest)
        return rest


class StopSearch:
    """Cuts a text that comes in pieces before the first of some strings, whatever the pieces are.

    The first is the one that is complete first; of several that end at one place, the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Begin a text."""
        self._stops = tuple((stop, _borders(stop)) for stop in stops)
        self._begun = [0] * len(stops)  # how many characters of each string the text ends with
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """What may be shown with these characters, and whether a string has been met."""
        if not self._stops:
            return text, False
        whole = self._held + text
        for place, letter in enumerate(text, start=len(self._held) + 1):
            self._begun = [
                _begun_with(letter, size, *stop) for size, stop in zip(self._begun, self._stops, strict=True)
            ]
            sizes = (size for size, (stop, _) in zip(self._begun, self._stops, strict=True) if size == len(stop))
            if size := max(sizes, default=0):
                return whole[: place - size], True
        cut = len(whole) - max(self._begun)
        shown, self._held = whole[:cut], whole[cut:]
        return shown, False

    def finish(self) -> str:
        """What was held back, where the text ends without one."""
        return self._held


def _begun_with(letter: str, size: int, stop: str, borders: Sequence[int]) -> int:
    """How many characters of a string a text ends with, with one more letter (Knuth, Morris and Pratt)."""
    while size and stop[size] != letter:
        size = borders[size - 1]
    return size + (stop[size] == letter)


def _borders(stop: str) -> tuple[int, ...]:
    """For each beginning of a string, how many of its characters end it too, itself apart."""
    borders = [0]
    for letter in stop[1:]:
        borders.append(_begun_with(letter, borders[-1], stop, borders))
    return tuple(borders)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of tokens, without special ones; blanks before punctuation stay, which a stream could not take back."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def examples_of(values: Any, reading: Reading) -> list[Example]:
    """Rows of a request as examples.

    Args:
        values: a text, an object of fields, or a list of these.
        reading: of the prompt. Where it does not say which fields it reads, a text is the whole input.

    Raises:
        Refusal: 400, a row is none of the prompt's: it lacks a field, or holds no text.
    """
    values = values if isinstance(values, list) else [values]
    if _is_read_whole(reading):
        if any(not isinstance(value, str) for value in values):
            raise Refusal(
                "this model does not say which fields it reads: expected texts, each of which is its whole input.",
                400,
                "bad_row",
                param="input",
            )
        return whole_inputs(values)
    try:
        return list(inputs_of(rows_of(values), reading))
    except TaskError as error:
        raise Refusal(str(error), 400, "bad_row", param="input") from error


def prompts_of(texts: str | Sequence[str], reading: Reading) -> list[Example]:
    """Texts of a completion or a chat as examples: the only field that is read, or the whole input.

    Raises:
        Refusal: 400, a text is blank where a prompt reads one field.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    return examples_of(texts, reading) if reads_one_field(reading) else whole_inputs(texts)


def whole_inputs(texts: Sequence[str]) -> list[Example]:
    """Texts as inputs that nothing is added to but what stands around every input."""
    return [Example(str(number), text, ()) for number, text in enumerate(texts, start=1)]


@lru_cache(maxsize=1000)
def reads_one_field(reading: Reading) -> bool:
    """Whether one text is a row."""
    if _is_read_whole(reading):
        return False
    try:
        return bool(list(inputs_of([("the text", "a")], reading)))
    except TaskError:
        return False


def _is_read_whole(reading: Reading) -> bool:
    """Whether nothing says which fields make an input."""
    return not reading.template and reading.form not in TABLE


def chunks_of(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Examples in parts of which none takes long to encode.

    Raises:
        Refusal: 413, a text is too long for any part.
    """
    part: list[Example] = []
    letters = 0
    for number, example in enumerate(examples, start=1):
        size = len(example.inputs)
        if size > CHUNK_LETTERS:
            raise Refusal(
                f"text {number} has {size:,} characters; expected at most {CHUNK_LETTERS:,}. Give its beginning: a "
                "model reads far less of it.",
                413,
                "text_too_long",
            )
        if part and (len(part) == CHUNK or letters + size > CHUNK_LETTERS):
            yield part
            part, letters = [], 0
        part.append(example)
        letters += size
    if part:
        yield part


def encoded(collator: Collator, examples: Sequence[Example]) -> list[Row]:
    """Examples as token ids.

    Raises:
        Refusal: 400, a row cannot be encoded.
    """
    try:
        return collator.encode(examples)
    except TaskError as error:
        raise Refusal(str(error), 400, "bad_row") from error


def chat_text(messages: Sequence[ChatMessage], reading: Reading, name: str) -> str:
    """What the user says in a conversation that a prompt can answer.

    Raises:
        Refusal: 400, the prompt was not trained in chat form, or the conversation is none of its.
    """
    if not reading.chat:
        raise Refusal(
            f"{name} was trained on plain text and not in the model's chat form: expected a request to "
            "/v1/completions, or the name of a prompt with chat = true.",
            400,
            "no_chat_form",
            param="model",
        )
    turns = [(message.role, _content(message)) for message in messages]
    if turns[0][0] == "system":
        if turns[0][1] != reading.system:
            wanted = f"its own, {reading.system!r:.200}, or none" if reading.system else "none"
            raise Refusal(
                f"the system's turn differs from the one that {name} was trained with: expected {wanted}.",
                400,
                "bad_messages",
                param="messages.0",
            )
        turns = turns[1:]
    if [role for role, _ in turns] != ["user"]:
        raise Refusal(
            f"the turns are {', '.join(message.role for message in messages)!r:.200}: {name} was trained on one turn "
            "of a user; expected one, behind the system's at most.",
            400,
            "bad_messages",
            param="messages",
        )
    if not turns[0][1]:
        raise Refusal("the user's turn is empty: expected text.", 400, "bad_messages", param="messages")
    return turns[0][1]


def _content(message: ChatMessage) -> str:
    """The text of a turn, its parts joined."""
    if isinstance(message.content, str):
        return message.content
    return "".join(part["text"] for part in message.content)


def sampling_of(asked: CompletionRequest | ChatRequest, served: Served, most: int) -> Sampling:
    """How the tokens of a request are taken; a seed is drawn where none is given.

    Args:
        asked: the request.
        served: says how long an answer is where the request does not.
        most: tokens that a request may have.

    Raises:
        Refusal: 400, it wants more.
    """
    wanted = asked.max_tokens
    logprobs = asked.logprobs or 0
    if isinstance(asked, ChatRequest):
        wanted = asked.max_completion_tokens or wanted
        logprobs = (asked.top_logprobs or 0) if asked.logprobs else 0
    if wanted is not None and wanted > most:
        raise Refusal(
            f"max_tokens is {wanted}; expected at most {most}, the limit of this server.",
            400,
            "too_many_new_tokens",
            param="max_tokens",
        )
    temperature = asked.temperature or 0.0
    return Sampling(
        max_tokens=wanted or min(most, _usual_tokens(served.collator)),
        temperature=max(LEAST_TEMPERATURE, temperature) if temperature else 0.0,
        top_p=asked.top_p or 1.0,
        seed=secrets.randbelow(_SEEDS) if asked.seed is None else asked.seed % _SEEDS,
        logprobs=logprobs,
    )


def _usual_tokens(collator: Collator) -> int:
    """Most tokens that a task's answers have: those of its longest label, or of its longest open answer."""
    return max(map(len, collator.choices), default=collator.max_target_tokens)


def seed_of(seed: int, choice: int) -> int:
    """The seed of one of several answers to a row; the first has the request's own."""
    return (seed + choice) % _SEEDS


def stops_of(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """The strings that end an answer."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


async def pieces(
    engine: Engine, served: Served, row: Row, sampling: Sampling, stops: Sequence[str], *, with_tokens: bool = False
) -> AsyncGenerator[Piece, None]:
    """One answer in pieces, as its tokens come; the last has the reason of its end.

    Args:
        engine: gives the tokens; it is told to end where a stop string is met or this generator is closed.
        served: the model.
        row: what goes on.
        sampling: how tokens are taken.
        stops: strings before which the answer ends.
        with_tokens: whether log-probabilities are wanted.
    """
    tokenizer = served.collator.tokenizer
    detokeniser, search = Detokeniser(tokenizer), StopSearch(stops)
    waiting: list[TokenText] = []
    shown, count, previous = 0, 0, None
    finish: Finish | None = None
    stream = cast("AsyncGenerator[Token, None]", engine.generate(served, row, sampling))
    async with aclosing(stream):
        async for token in stream:
            if token.is_end:
                finish = "stop"
                break
            count += 1
            if with_tokens:
                waiting.append(_token_text(tokenizer, previous, token, detokeniser.length))
            previous = token.id
            text, is_met = search.add(detokeniser.add(token.id))
            shown += len(text)
            if is_met:
                yield Piece(text, _begun(waiting, shown), "stop", count)
                return
            if text:
                yield Piece(text, _taken(waiting, shown), None, count)
                count = 0
    text, is_met = search.add(detokeniser.finish())
    if not is_met:
        text += search.finish()
    shown += len(text)
    told = _begun(waiting, shown) if is_met else tuple(waiting)
    yield Piece(text, told, "stop" if is_met else finish or "length", count)


def _begun(waiting: Sequence[TokenText], shown: int) -> tuple[TokenText, ...]:
    """The tokens whose text begins before a place."""
    return tuple(token for token in waiting if token.offset < shown)


def _taken(waiting: list[TokenText], shown: int) -> tuple[TokenText, ...]:
    """The same; they wait no longer."""
    begun = _begun(waiting, shown)
    del waiting[: len(begun)]
    return begun


@dataclass
class WholeAnswer:
    """The pieces of one answer, joined."""

    text: str = ""
    tokens: list[TokenText] = field(default_factory=list)
    finish: Finish = "length"
    count: int = 0

    def add(self, piece: Piece) -> None:
        """Go on with a piece."""
        self.text += piece.text
        self.tokens += piece.tokens
        self.finish = piece.finish or self.finish
        self.count += piece.count


async def whole(parts: AsyncGenerator[Piece, None]) -> WholeAnswer:
    """An answer when it is complete."""
    answer = WholeAnswer()
    async with aclosing(parts):
        async for piece in parts:
            answer.add(piece)
    return answer


async def together(works: Sequence[Coroutine[Any, Any, Value]]) -> list[Value]:
    """What several works give, in their order; where one fails or the caller is cancelled, all end."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _ended(tasks)


async def merged(streams: Sequence[AsyncGenerator[Piece, None]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of several answers as they come, each with its answer's number; closing it closes all.

    A reader that is slow holds the answers up.
    """
    queue: asyncio.Queue[tuple[int, Piece | Exception | None]] = asyncio.Queue(maxsize=len(streams))

    async def pump(number: int) -> None:
        try:
            async with aclosing(streams[number]) as stream:
                async for piece in stream:
                    await queue.put((number, piece))
        except Exception as error:
            await queue.put((number, error))
        else:
            await queue.put((number, None))

    pumps = [asyncio.ensure_future(pump(number)) for number in range(len(streams))]
    running = len(pumps)
    try:
        while running:
            number, piece = await queue.get()
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                running -= 1
            else:
                yield number, piece
    finally:
        await _ended(pumps)


async def _ended(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True)
class Kind:
    """What sets the answers of two routes apart.

    Attributes:
        prefix: of an answer's id.
        whole: what a whole answer calls itself.
        part: what a part of a stream calls itself.
        param: the field of the request that holds the text.
        choice: one whole answer, by its number, itself, and whether log-probabilities are wanted.
        chunk: one piece of a stream; its last argument is whether the answer begins with it.
    """

    prefix: str
    whole: str
    part: str
    param: str
    choice: Callable[[int, WholeAnswer, bool], dict[str, Any]]
    chunk: Callable[[int, Piece, bool, bool], dict[str, Any]]


def _completion_choice(number: int, answer: WholeAnswer, with_tokens: bool) -> dict[str, Any]:
    logprobs = completion_logprobs(answer.tokens) if with_tokens else None
    return {"index": number, "text": answer.text, "logprobs": logprobs, "finish_reason": answer.finish}


def _completion_chunk(number: int, piece: Piece, with_tokens: bool, _: bool) -> dict[str, Any]:
    logprobs = completion_logprobs(piece.tokens) if with_tokens else None
    return {"index": number, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finish}


def _chat_choice(number: int, answer: WholeAnswer, with_tokens: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    logprobs = chat_logprobs(answer.tokens) if with_tokens else None
    return {"index": number, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}


def _chat_chunk(number: int, piece: Piece, with_tokens: bool, is_first: bool) -> dict[str, Any]:
    delta = {"role": "assistant", "content": piece.text} if is_first else {"content": piece.text}
    logprobs = chat_logprobs(piece.tokens) if with_tokens else None
    return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": piece.finish}


COMPLETION = Kind("cmpl-", "text_completion", "text_completion", "prompt", _completion_choice, _completion_chunk)
CHAT = Kind("chatcmpl-", "chat.completion", "chat.completion.chunk", "messages", _chat_choice, _chat_chunk)


def completion_logprobs(tokens: Sequence[TokenText]) -> CompletionLogprobs:
    """Log-probabilities in the shape of `/v1/completions`; the token that was taken is always among the likeliest."""
    return {
        "text_offset": [token.offset for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "tokens": [token.text for token in tokens],
        "top_logprobs": [_likeliest((token, *token.top)) for token in tokens],
    }


def _likeliest(tokens: Sequence[TokenText]) -> dict[str, float]:
    """The likeliest first; of two that are spelled alike the likelier."""
    places: dict[str, float] = {}
    for token in sorted(tokens, key=lambda token: -token.logprob):
        places.setdefault(token.text, token.logprob)
    return places


def chat_logprobs(tokens: Sequence[TokenText]) -> ChatLogprobs:
    """Log-probabilities in the shape of `/v1/chat/completions`."""
    content: list[ChatToken] = [
        {
            "token": token.text,
            "logprob": token.logprob,
            "bytes": _listed(token.bytes),
            "top_logprobs": [
                {"token": place.text, "logprob": place.logprob, "bytes": _listed(place.bytes)} for place in token.top
            ],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _listed(values: tuple[int, ...] | None) -> list[int] | None:
    return None if values is None else list(values)


def _token_text(tokenizer: PreTrainedTokenizerBase, previous: int | None, token: Token, offset: int) -> TokenText:
    """A token as a client is told of it, as it stands behind another."""
    top = tuple(
        TokenText(*_spelled(tokenizer, previous, number), logprob=max(LEAST_LOGPROB, logprob))
        for number, logprob in token.top
    )
    own = _spelled(tokenizer, previous, token.id)
    return TokenText(*own, logprob=max(LEAST_LOGPROB, token.logprob), offset=offset, top=top)


def _spelled(
    tokenizer: PreTrainedTokenizerBase, previous: int | None, token: int
) -> tuple[str, tuple[int, ...] | None]:
    """The characters of a token behind another, and its bytes."""
    front = "" if previous is None else decoded(tokenizer, [previous])
    both = decoded(tokenizer, [token] if previous is None else [previous, token])
    text = both[len(front) :] if both.startswith(front) and _LOST not in front else decoded(tokenizer, [token])
    if _LOST not in text:
        return text or _spelling(tokenizer, token), tuple(text.encode())
    content = _token_bytes(_spelling(tokenizer, token))
    if content is None:
        return text, None
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content), content


def _spelling(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as the vocabulary spells it; empty where it has none."""
    spelling = tokenizer.convert_ids_to_tokens(token)
    return spelling if isinstance(spelling, str) else ""


def _token_bytes(spelling: str) -> tuple[int, ...] | None:
    """The bytes of a token that is no whole characters; None where it is spelled in another way."""
    if match := _BYTE.fullmatch(spelling):
        return (int(match[1], 16),)
    alphabet = _byte_alphabet()
    return tuple(alphabet[letter] for letter in spelling) if set(spelling) <= alphabet.keys() else None


@lru_cache(maxsize=1)
def _byte_alphabet() -> Mapping[str, int]:
    """The letter that stands for each byte in byte-level vocabularies, as GPT-2 has it."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + number): byte for number, byte in enumerate(hidden)}
