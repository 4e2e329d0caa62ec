"""See in which encoding a text is, or refuse where two would do.

UTF-8 and what a byte-order mark names are certain. Of others there is only likelihood: two libraries, which judge by
different means, must both hold the guess for possible, and where Windows-1252 would do as well as a sibling of it, it
takes a hundred lines to say which. Each library alone was wrong for some texts of two to twenty rows in sixteen
languages; so asked, none of 2,560 such texts was read wrongly, and one in eight was refused.
"""

import codecs
import contextlib
import re
from dataclasses import dataclass

from spot.errors import TaskError
from spot.tasks.formats import FileFormat, Source, byte_order, not_in_encoding, open_bytes, too_long

UTF8 = "utf-8"

_SAMPLE = 1 << 18  # bytes of lines that are not ASCII; more of them say nothing new
_SHORT = 1 << 14  # bytes of a text that is looked at as a whole: its plain words tell the language too
_MUCH = 100  # lines that are not ASCII
_BLOCK = 1 << 20
_NULS = 0.2  # share of zero bytes from which a text is taken for UTF-16; English in it has a half

# Marks of print and money that Windows-1252 has and that stand in English texts; no library judges by them.
_PRINT = "€…‘’“”•–—™\xa0£©«®°±·»¼½¾´"  # noqa: RUF001
_BETWEEN_LETTERS = re.compile(r"[^\W\d_][€…‘“”•–™£©«®°±·»¼½¾´][^\W\d_]")  # noqa: RUF001

_WESTERN = "äöüßÄÖÜéèêëàâáíìóòúùñçôîïûœæøåÅØÆÉÈÊÀÂÁÍÓÚÑÇãõÃÕ¿¡"
_WINDOWS = {
    "iso8859-1": "cp1252",
    "iso8859-15": "cp1252",
    "iso8859-2": "cp1250",
    "iso8859-7": "cp1253",
    "iso8859-9": "cp1254",
    "iso8859-13": "cp1257",
}


@dataclass(frozen=True)
class Encoding:
    """What a text is in.

    Attributes:
        name: of the codec.
        sample: a word by which a reader sees whether the guess is right; empty where it is certain.
    """

    name: str
    sample: str = ""


@dataclass
class _Bytes:
    """What a walk over a text's bytes shows."""

    is_utf8: bool = True
    sequences: int = 0  # characters of several bytes that are UTF-8
    broken: int = 0  # bytes that are not
    nuls: tuple[int, int] = (0, 0)  # at even and at odd offsets
    escapes: int = 0
    size: int = 0
    sample: bytes = b""
    start: bytes = b""

    @property
    def telling(self) -> bytes:
        """All of a short text; of a long one its lines that are not ASCII."""
        return self.start if self.size <= _SHORT else self.sample


def see_encoding(source: Source, given: FileFormat, *, guess: bool = False) -> Encoding:
    """The encoding of a text.

    Args:
        source: the text.
        given: what is said of it: an encoding that is given is taken as it is.
        guess: whether one may be guessed that is not certain, for somebody to look at.

    Raises:
        TaskError: the file cannot be read, is no text, or its encoding is not certain, or not likely enough.
    """
    if given.encoding:
        return Encoding(given.encoding)
    with open_bytes(source, given) as stream:
        head = stream.read(4)
    if marked := byte_order(head):
        return Encoding(marked)
    seen = _walk(source, given)
    if sum(seen.nuls) > _NULS * seen.size:
        return _wide(source, seen)
    shifted = _shifted(seen.telling) if seen.is_utf8 and seen.escapes and not seen.sequences else None
    if seen.is_utf8 and shifted is None:
        return Encoding(UTF8)
    if not guess:
        likely = shifted or Encoding("cp1252")
        with contextlib.suppress(TaskError):
            likely = shifted or _guess(source, seen.telling)
        raise TaskError(not_in_encoding(source, given, UTF8, likely.name, likely.sample))
    if shifted:
        return shifted
    if seen.sequences > seen.broken:
        raise TaskError(
            f"{source} is UTF-8 text but for {seen.broken} of its bytes: expected one encoding. Mend or leave out what "
            'is not, or read it all as another: encoding = "cp1252" in the task file, --encoding cp1252 of a command.'
        )
    return _guess(source, seen.telling)


def _walk(source: Source, given: FileFormat) -> _Bytes:
    """Look at every byte of a text, a block at a time."""
    seen = _Bytes()
    decoder = codecs.getincrementaldecoder(UTF8)("strict")
    counter = codecs.getincrementaldecoder(UTF8)("surrogateescape")
    rest = b""
    unbroken = 0  # bytes since the last line end
    with open_bytes(source, given) as stream:
        while True:
            block = stream.read(_BLOCK)
            seen.nuls = (
                seen.nuls[0] + block[seen.size % 2 :: 2].count(0),
                seen.nuls[1] + block[1 - seen.size % 2 :: 2].count(0),
            )
            end = block.rfind(b"\n")
            unbroken = len(block) - end - 1 if end >= 0 else unbroken + len(block)
            # A character has four bytes at most: what is longer is refused here, and not after a walk over all of it.
            if unbroken > 4 * given.max_row:
                raise TaskError(too_long(f"{source}, at byte {seen.size:,}", given.max_row))
            seen.size += len(block)
            seen.start += block[: max(0, _SHORT - len(seen.start))]
            seen.escapes += block.count(b"\x1b$")
            if seen.is_utf8:
                try:
                    decoder.decode(block, final=not block)
                except UnicodeDecodeError:
                    seen.is_utf8 = False
            if not block.isascii() or seen.escapes:
                text = counter.decode(block, final=not block)
                broken = len(re.findall("[\udc80-\udcff]", text))
                seen.broken += broken
                seen.sequences += len(re.findall(r"[^\x00-\x7f]", text)) - broken
                lines = (rest + block).split(b"\n")
                rest = lines.pop()[-_BLOCK:] if block else b""
                if len(seen.sample) < _SAMPLE:
                    telling = b"\n".join(line for line in lines if not line.isascii() or b"\x1b" in line)
                    seen.sample += telling[: _SAMPLE - len(seen.sample)] + b"\n"
            else:
                rest = b""
            if not block:
                break
    if not seen.is_utf8 and len(seen.sample) < 1000 and rest:
        seen.sample += rest[:_SAMPLE]
    return seen


def _wide(source: Source, seen: _Bytes) -> Encoding:
    """UTF-16 without a byte-order mark, by where its zero bytes are."""
    even, odd = seen.nuls
    if max(even, odd) > 20 * min(even, odd) and seen.size % 2 == 0:
        return Encoding("utf-16-be" if even > odd else "utf-16-le")
    raise TaskError(f"{source} is no text: {even + odd} of its {seen.size} bytes are zero. Give a file of rows.")


def _shifted(sample: bytes) -> Encoding | None:
    """ISO 2022, whose letters are ASCII between escapes that go out of it and back."""
    if b"\x1b(B" not in sample:
        return None
    for name in ("iso2022_jp", "iso2022_jp_2", "iso2022_kr"):
        text = _decoded(sample, name)
        if text is not None and not text.isascii() and "\x1b" not in text:
            return Encoding(name, _telling(text))
    return None


def _guess(source: Source, sample: bytes) -> Encoding:
    """The encoding that is likely for lines that are not UTF-8."""
    plain = _decoded(sample, "cp1252")
    if plain is not None:
        odd = {letter for letter in plain if not letter.isascii()}
        if odd and odd <= set(_PRINT) and not _BETWEEN_LETTERS.search(plain):
            return Encoding("cp1252", _telling(plain))
    import chardet
    from charset_normalizer import from_bytes

    first = chardet.detect(sample)["encoding"]
    text = _decoded(sample, first) if first else None
    possible = [str(match) for match in from_bytes(sample)]
    # What Windows-1252 would read too is more often that than one of its siblings, unless there is much of it.
    is_sure = text == plain or plain not in possible or sample.count(b"\n") >= _MUCH
    if first and text is not None and ((text in possible and is_sure) or (text == plain and _is_western(text))):
        return Encoding(_sibling(codecs.lookup(first).name, sample, text), _telling(text))
    guesses = {}
    for name in filter(None, (first, "cp1252", getattr(from_bytes(sample).best(), "encoding", ""))):
        if (decoded := _decoded(sample, name)) is not None:
            guesses.setdefault(codecs.lookup(name).name, _telling(decoded))
    listed = ", ".join(f"{name} ({word!r})" for name, word in guesses.items()) or "none"
    raise TaskError(
        f"{source} is not UTF-8 text, and too little of it is telling to say what else: possible {listed}. Save it as "
        "UTF-8, or name the encoding: --encoding of a command, encoding in the task file."
    )


def _is_western(text: str) -> bool:
    """Whether every letter that is not ASCII is one of western Europe's, beside one that is."""
    spots = list(re.finditer(r"[^\x00-\x7f]", text))
    beside = re.compile(r"[a-zA-Z]")
    return all(
        spot[0] in _PRINT
        or (spot[0] in _WESTERN and beside.search(text[max(0, spot.start() - 1) : spot.end() + 1]) is not None)
        for spot in spots
    )


def _sibling(name: str, sample: bytes, text: str) -> str:
    """Windows' form of an encoding of ISO 8859, which has more signs, where it reads the same."""
    wider = _WINDOWS.get(name, name)
    return wider if _decoded(sample, wider) == text else name


def _decoded(sample: bytes, encoding: str) -> str | None:
    """Bytes as text, or None where they are none in this encoding."""
    try:
        return sample.decode(encoding)
    except (UnicodeError, LookupError):
        return None


def _telling(text: str) -> str:
    """The first word with a letter that is not ASCII."""
    return next((word for word in re.split(r'[\s,;"|]+', text) if not word.isascii()), "")[:30]
