"""Recognise what a file of rows is by its content, and open it: unpacked as a stream, within bounds.

The ending of a name decides only where content leaves it open: whether the comma or the tab is tried first, and what an
empty file was meant to be.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from spot.errors import TaskError, did_you_mean

MAX_ROW = 10_000_000  # characters of a row: a whole book, and some 40 MB of memory
MAX_RATIO = 250  # bytes unpacked of one that is packed; text packs by 3 to 20, tables of few values by 100
MAX_UNPACKED = 16 << 20  # bytes that may come of anything, however well it was packed
MAX_INPUT = 1 << 30  # bytes of standard input, which is held in memory

FORMATS = ("csv", "tsv", "jsonl", "json", "xlsx", "parquet", "arrow", "txt")
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "txt",
}
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
TABLES = ("csv", "tsv")
BINARY = ("xlsx", "parquet", "arrow")

_HEAD = 1 << 16
_MAGIC = ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zst"), (b"PK", "zip"))
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = (  # what often stands where rows were expected: how it begins, what it is, the way out
    (b"\xd0\xcf\x11\xe0", "an Excel file of the old kind (.xls)", "Save it as .xlsx or CSV."),
    (b"%PDF", "a PDF", "Give a file of rows, such as CSV."),
    (b"SQLite format 3", "a SQLite database", "Write the rows of a table into CSV."),
    (b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    (b"\x7fELF", "a program", "Give a file of rows, such as CSV."),
    (b"Rar!", "a RAR archive", "Unpack it and give the file of rows."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it and give the file of rows."),
    (b"FEA1", "a Feather file of version 1", "Write the rows again, such as in Parquet."),
    (b"\x93NUMPY", "an array of numpy", "Give a file of rows, such as CSV."),
)
_HTML = re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """How a file of rows is read; what is left out is seen in the file.

    Attributes:
        format: one of `FORMATS`; empty to see it.
        encoding: of text; empty to see it.
        delimiter: one character between the cells of a table; empty to see it.
        quotes: the mark that encloses cells of a table; empty where marks are text; None to see it.
        skip_space: whether blanks behind a delimiter are no part of the cell; None to see it.
        header: whether the first row of a table names its columns, which are `column_1` and so on without; None to see.
        sheet: of a workbook; empty for its only one.
        max_row: characters that a row may have.
        max_ratio: bytes that may come of one packed byte.
    """

    format: str = ""
    encoding: str = ""
    delimiter: str = ""
    quotes: str | None = None
    skip_space: bool | None = None
    header: bool | None = None
    sheet: str = ""
    max_row: int = MAX_ROW
    max_ratio: int = MAX_RATIO


UNSAID = FileFormat()


@dataclass(frozen=True)
class Source:
    """Where the bytes of rows are.

    Attributes:
        path: of the file.
        data: the bytes themselves, of standard input.
    """

    path: Path
    data: bytes | None = None

    def __str__(self) -> str:
        """How messages call it."""
        return str(self.path) if self.data is None else "standard input"

    @classmethod
    def of(cls, place: "Path | Source") -> "Source":
        """A source of a path; a source stays what it is."""
        return place if isinstance(place, Source) else cls(place)


@dataclass(frozen=True)
class Content:
    """What a file is.

    Attributes:
        format: one of `FORMATS`.
        packing: `gz`, `bz2`, `xz`, `zst` or `zip`; empty where the file is plain.
        is_known: whether content or name say the format, rather than nothing at all.
    """

    format: str
    packing: str = ""
    is_known: bool = True


def form_mistakes(form: FileFormat) -> list[str]:
    """What is wrong with what somebody says of a file."""
    mistakes = []
    if form.format and form.format not in FORMATS:
        mistakes.append(f"format is {form.format!r}; {did_you_mean(form.format, FORMATS)}")
    if form.encoding and not codec_name(form.encoding):
        mistakes.append(f"no encoding {form.encoding!r} of text; common ones: utf-8, utf-16, cp1252, latin-1")
    if form.delimiter and (len(form.delimiter) != 1 or form.delimiter in '\r\n"'):
        mistakes.append(f"delimiter is {form.delimiter!r}, expected one character, such as ';' or a tab, '\\t'")
    if form.quotes not in (None, "", '"', "'") or (form.quotes and form.quotes == form.delimiter):
        mistakes.append(f'quotes is {form.quotes!r}, expected true, false or the mark "\'"')
    for name, value in (("max_row", form.max_row), ("max_ratio", form.max_ratio)):
        if not 1 <= value <= 1 << 40:
            mistakes.append(f"{name} is {value}, expected 1 or more")
    return mistakes


def check_form(form: FileFormat) -> None:
    """Refuse what is wrong of what a command says of a file.

    Raises:
        TaskError: something is; all of it in one message.
    """
    if mistakes := form_mistakes(form):
        raise TaskError("; ".join(mistakes) + ("" if mistakes[-1].endswith("?") else "."))


def codec_name(encoding: str) -> str:
    """Python's name for an encoding of text; empty where there is none."""
    try:
        "a".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        return ""


def ending_format(path: Path) -> str:
    """The format that a name ends in, endings of packed files apart; empty for another ending."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return ENDINGS.get(Path(name).suffix, "")


def standard_input(stream: BinaryIO) -> Source:
    """All of standard input, so that it can be looked at and then read.

    Raises:
        TaskError: there is more of it than may be held in memory.
    """
    data = stream.read(MAX_INPUT + 1)
    if len(data) > MAX_INPUT:
        raise TaskError(
            f"standard input holds more than {MAX_INPUT:,} bytes: expected rows that fit into memory. Write them into "
            "a file and name that."
        )
    return Source(Path("/dev/stdin"), data)


def recognise(place: Path | Source, given: FileFormat = UNSAID) -> Content:
    """See what a file is.

    Args:
        place: the file.
        given: what is said of it; a format that is given is taken as it is.

    Raises:
        TaskError: the file cannot be read, is nothing that holds rows, or holds several files.
    """
    source = Source.of(place)
    ending = ending_format(source.path) if source.data is None else ""
    packing = packing_of(source)
    if packing == "zip" and _is_workbook(source):
        return Content("xlsx")
    with open_bytes(source, given, packing) as stream:
        head = stream.read(_HEAD)
    if given.format:
        return Content(given.format, packing)
    _check_foreign(source, head)
    if head.startswith(b"PAR1"):
        return Content("parquet", packing)
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return Content("arrow", packing)
    if ending in BINARY and _is_lines(head):
        ending = ""
    if ending in BINARY or not head.strip():
        return Content(ending or "csv", packing, is_known=bool(ending))
    form = _text_format(head, ending)
    return Content(form or ending or "csv", packing, is_known=bool(form or ending))


@contextmanager
def open_bytes(place: Path | Source, given: FileFormat = UNSAID, packing: str | None = None) -> Iterator[BinaryIO]:
    """Open the bytes of a file, unpacked.

    Args:
        place: the file.
        given: its bounds.
        packing: as in `Content`; None to see it.

    Yields:
        The stream; it refuses to unpack more than the bounds allow.

    Raises:
        TaskError: the file cannot be read, is no regular file, is damaged, or holds several files.
    """
    source = Source.of(place)
    packing = packing_of(source) if packing is None else packing
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(open_plain(source))
            if not packing:
                yield raw
                return
            unpacked = stack.enter_context(_unpacked(source, raw, packing))
            bounded = _Bounded(unpacked, raw, source, given.max_ratio)
            yield cast(BinaryIO, stack.enter_context(io.BufferedReader(bounded, _HEAD)))
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise TaskError(
            f"{source} is damaged: {error}. It is packed as {packing}; make or fetch the file again."
        ) from error
    except (RuntimeError, NotImplementedError) as error:  # a zip file with a password, or packed by a rare method
        if packing != "zip":
            raise
        raise TaskError(f"{source} cannot be unpacked: {error}. Unpack it and give the file in it.") from error
    except OSError as error:
        if packing and error.errno is None:
            message = f"{source} is damaged: {error}. It is packed as {packing}; make or fetch the file again."
            raise TaskError(message) from error
        raise TaskError(cannot_read(source, error)) from error


@contextmanager
def open_text(place: Path | Source, given: FileFormat = UNSAID) -> Iterator[TextIO]:
    """Open a text for reading, unpacked, line ends as they are; a byte-order mark is passed over.

    Yields:
        The stream of text.

    Raises:
        TaskError: the file cannot be read, is damaged or is not in its encoding, UTF-8 where none is given.
    """
    encoding = given.encoding or "utf-8"
    try:
        with open_bytes(place, given) as binary:
            codec = "utf-8-sig" if encoding == "utf-8" else encoding
            with io.TextIOWrapper(binary, codec, newline="") as text:
                yield text
    except UnicodeError as error:
        raise TaskError(not_in_encoding(Source.of(place), given, encoding)) from error


def bounded_lines(text: TextIO, place: Path | Source, limit: int) -> Iterator[str]:
    """The lines of a text with their ends.

    Raises:
        TaskError: a line has more than `limit` characters.
    """
    number = 0
    while line := text.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise TaskError(too_long(f"{Source.of(place)}, line {number}", limit))
        yield line


def too_long(where: str, limit: int) -> str:
    """The message for a row beyond its bound."""
    return (
        f"{where}: longer than {limit:,} characters, which is no row of a text. Cut it, or raise the bound: max_row in "
        "the task file, --max-row of a command."
    )


def open_plain(source: Source) -> BinaryIO:
    """Open the bytes of a file as they are.

    Raises:
        TaskError: the file cannot be read, or is no regular file.
    """
    if source.data is not None:
        return io.BytesIO(source.data)
    try:
        # Without O_NONBLOCK a pipe would wait for a writer before it can be seen to be one.
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TaskError(cannot_read(source, error)) from error
    except ValueError as error:  # a zero byte, or half a surrogate pair
        raise TaskError(
            f"{str(source)!r} is no path here ({error}): expected a file with rows. Check it, or set PYTHONUTF8=1 "
            "where its letters are the reason."
        ) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"
    mend = "Name the file in it." if stat.S_ISDIR(mode) else "Copy it into a file, or give it to standard input."
    raise TaskError(f"{source} is {what}: expected a regular file with rows. {mend}")


def cannot_read(place: Path | Source, error: OSError) -> str:
    """The message for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{place} does not exist: expected a file with rows. Check the path."
    return f"cannot read {place}: {error.strerror or error}. Give a file that you may read."


def byte_order(head: bytes) -> str:
    """The encoding that a byte-order mark names, or nothing."""
    return next((name for mark, name in _BOMS if head.startswith(mark)), "")


class _Bounded(io.RawIOBase):
    """A stream that is unpacked, up to a bound on what may come of a packed byte."""

    def __init__(self, unpacked: BinaryIO, raw: BinaryIO, source: Source, ratio: int):
        self._unpacked, self._raw, self._source, self._ratio = unpacked, raw, source, ratio
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader gives a memoryview
        data = self._unpacked.read(len(buffer))
        self._count += len(data)
        if self._count > MAX_UNPACKED and self._count > self._ratio * max(1, self._raw.tell()):
            raise TaskError(
                f"{self._source} unpacks to more than {self._ratio} times its size, as no file of texts does. If it is "
                "right, unpack it yourself, or raise the bound: max_ratio in the task file, --max-ratio of a command."
            )
        buffer[: len(data)] = data
        return len(data)


def packing_of(source: Source) -> str:
    """How a file is packed, by its first bytes; empty where it is plain.

    Raises:
        TaskError: the file cannot be read, or is not packed as its name says.
    """
    try:
        with open_plain(source) as raw:
            head = raw.read(16)
    except OSError as error:
        raise TaskError(cannot_read(source, error)) from error
    packing = next((name for magic, name in _MAGIC if head.startswith(magic)), "")
    if (packing == "bz2" and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90")) or (
        packing == "zip" and head[2:4] not in (b"\x03\x04", b"\x05\x06", b"\x07\x08")
    ):
        return ""
    if not packing and source.path.name.lower().endswith(PACKED) and head and source.data is None:
        kind = source.path.suffix
        raise TaskError(f"{source} is damaged: it ends in {kind} and is not packed so. Rename it, or make it again.")
    return packing


@contextmanager
def _unpacked(source: Source, raw: BinaryIO, packing: str) -> Iterator[BinaryIO]:
    """The bytes that are packed in a file."""
    openers: dict[str, Callable[[BinaryIO], AbstractContextManager[object]]] = {
        "gz": lambda stream: gzip.GzipFile(fileobj=stream),
        "bz2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "zst": _zstandard,
    }
    if packing in openers:
        with openers[packing](raw) as stream:
            yield cast(BinaryIO, stream)
        return
    with zipfile.ZipFile(raw) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        # What a Mac adds beside each file.
        names = [name for name in names if not name.startswith("__MACOSX/")]
        if len(names) != 1:
            listed = ", ".join(map(repr, names[:10])) or "none"
            raise TaskError(
                f"{source} holds {len(names)} files ({listed}): expected one. Unpack it and give the file of rows."
            )
        with archive.open(names[0]) as stream:
            yield cast(BinaryIO, stream)


def _zstandard(raw: BinaryIO) -> AbstractContextManager[object]:
    """The bytes that are packed by Zstandard, which pyarrow brings along."""
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")


def _is_workbook(source: Source) -> bool:
    """Whether a zip file is an Excel workbook; another kind of document is refused."""
    try:
        with open_plain(source) as raw, zipfile.ZipFile(raw) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
        raise TaskError(f"{source} is damaged: {error}. It is packed as zip; make or fetch the file again.") from error
    if any(name.startswith("xl/") for name in names):
        return True
    if "mimetype" in names or "[Content_Types].xml" in names:
        raise TaskError(f"{source} is a document and no table: expected rows. Save them as .xlsx or CSV.")
    return False


def _check_foreign(source: Source, head: bytes) -> None:
    """Refuse what is known to hold no rows."""
    kinds = [(kind, mend) for magic, kind, mend in _FOREIGN if head.startswith(magic)]
    if head[257:262] == b"ustar":
        kinds = [("a tar archive", "Unpack it and give the file of rows.")]
    elif _HTML.match(head):
        kinds = [("a web page", "Fetch the file itself; a link to its raw form is often beside it.")]
    elif any(head.startswith(magic) for magic, name in _MAGIC[:1] + _MAGIC[2:4]):
        kinds = [("packed twice", "Unpack it once.")]
    for kind, mend in kinds:
        raise TaskError(f"{source} is {kind}: expected rows. {mend}")


def _text_format(head: bytes, ending: str) -> str:
    """The format that a text begins with, or nothing where it is a table or lines."""
    text = head.decode(byte_order(head) or "latin-1", "ignore").lstrip("\ufeff\xef\xbb\xbf \t\r\n")
    if ending == "json":
        return "jsonl" if text.startswith("{") else "json"
    if ending == "jsonl":
        return "json" if text.startswith("[") and _begins_array(text) else "jsonl"
    if text.startswith("[") and _begins_array(text):
        return "json"
    if text.startswith("{"):
        try:
            line = text.splitlines()[0]
            return "jsonl" if len(line) > _HEAD // 2 or isinstance(json.loads(line), dict) else ""
        except (ValueError, RecursionError):
            return "jsonl" if re.match(r'\{\s*"', text) and not ending else ""
    return ""


def _is_lines(head: bytes) -> bool:
    """Whether bytes are lines of text, whatever a name promises."""
    return b"\n" in head.strip() and b"\0" not in head and _is_utf8(head[: head.rfind(b"\n")])


def _is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeError:
        return False
    return True


def _begins_array(text: str) -> bool:
    """Whether a text begins as an array of objects does, and no line of an array alone."""
    return text[1:].lstrip()[:1] in ("{", "]", "")


def not_in_encoding(source: Source, given: FileFormat, encoding: str, likely: str = "cp1252", word: str = "") -> str:
    """Say where a text stops being in its encoding; reads it again, as this ends the command anyway.

    Args:
        source: the text.
        given: its bounds.
        encoding: that it is not in.
        likely: one that it may be in.
        word: as it reads then.
    """
    where, offset, line = "", 0, 1
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with open_bytes(source, given) as stream:
            while True:
                block = stream.read(1 << 20)
                pending = decoder.getstate()[0]
                try:
                    decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    data = pending + block
                    line += data.count(b"\n", len(pending), error.start)
                    place = offset - len(pending) + error.start
                    where = f": byte 0x{data[error.start]:02x} at offset {place}, line {line}"
                    break
                if not block:
                    break
                offset += len(block)
                line += block.count(b"\n")
    except (UnicodeError, TaskError) as error:
        where = f": {error}"
    return (
        f"{source} is not {encoding} text{where}. Save it as UTF-8, or name its encoding in the task file, for example "
        f'encoding = "{likely}"{f", by which a word of it is {word!r}" if word else ""}; a command has --encoding.'
    )
