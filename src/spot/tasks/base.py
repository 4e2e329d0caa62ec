"""What a task is: rows of text with label words, which of them train, select and report, and row files."""

import csv
import gzip
import heapq
import io
import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TextIO

from spot.errors import TaskError, did_you_mean

SPLITS = ("train", "validation", "test")
ROW_FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".arrow", ".feather", ".ipc")

Rows = Iterator[tuple[int, dict[str, Any]]]

_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")
_ENOUGH = 10  # names listed in full in a message
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Example:
    """One row, all text.

    Attributes:
        id: names the row inside its task, such as `train/12`.
        inputs: what the model reads, in the form `sentence: ...`.
        answers: the accepted answers, the first one is trained on; a label word where the task has labels.
        group: rows of one group stand together, such as all questions on one passage; empty for no group.
        texts: the raw text fields, for finding equal rows.
    """

    id: str
    inputs: str
    answers: tuple[str, ...]
    group: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A named task over text.

    Attributes:
        name: such as `glue/sst2`.
        load: reads one split, as a stream of rows; refuses a split that is not in `splits`.
        splits: some of train, validation, test.
        labels: the label words; empty for open answers.
        metrics: names from `spot.metrics.METRICS`.
        revision: changes when the rows or their form change; empty where unknown.
        title: one line for people.
    """

    name: str
    load: Callable[[str], Iterator[Example]]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    revision: str = ""
    title: str = ""


@dataclass(frozen=True)
class Roles:
    """The rows that train, those that choose (steps, settings, sources) and those that are only reported."""

    train: tuple[Example, ...]
    select: tuple[Example, ...]
    report: tuple[Example, ...]


def roles(task: Task, train_rows: int | None, select_rows: int | None, report_rows: int | None, seed: int) -> Roles:
    """Decide which rows train, select and report; no text is in two of the three.

    Validation rows select and test rows report. Without a test split half of validation does, by hash; without
    a validation split a fifth of train selects; of a lone train split 60 % train, 20 % select and 20 % report.
    The seed only samples: the parts themselves are the same under every seed, so a row that selects under one
    seed never reports under another. A text that occurs in several parts stays in the last of train, select
    and report that has it, and rows of one group are never parted by a hash.

    Args:
        task: where the rows come from.
        train_rows: at most this many train, sampled without replacement; None for all.
        select_rows: at most this many select; None for all.
        report_rows: at most this many report; None for all.
        seed: of the samples. A smaller sample is a part of a larger one with the same seed.

    Returns:
        The rows of each role in the order of their file.

    Raises:
        TaskError: there is no train split, or a role would be empty.
    """
    train, select, report = _parts(task)
    reported = {text_key(row) for row in report}
    select = [row for row in select if text_key(row) not in reported]
    held_out = reported | {text_key(row) for row in select}
    train = [row for row in train if text_key(row) not in held_out]
    chosen = {
        "train": _sample(train, train_rows, f"{seed}/train"),
        "select": _sample(select, select_rows, f"{seed}/select"),
        "report": _sample(report, report_rows, f"{seed}/report"),
    }
    for role, limit in zip(chosen, (train_rows, select_rows, report_rows), strict=True):
        if not chosen[role]:
            counts = zip(chosen, map(len, (train, select, report)), strict=True)
            found = ", ".join(f"{count} to {name}" for name, count in counts)
            asked = "" if limit is None else f" and {limit} were asked for"
            raise TaskError(
                f"{task.name} has no row left to {role}: found {found}{asked}; each role needs at least one row of its "
                f"own text. Ask for at least 1 row, or give more rows (splits here: {', '.join(task.splits)})."
            )
    return Roles(**chosen)


def text_key(example: Example) -> str:
    """What two rows share when their texts are equal but for spacing, case and punctuation."""
    return "\x1f".join(_letters(text) for text in example.texts or (example.inputs,))


def data_digest(examples: Iterable[Example]) -> str:
    """Sixteen hex digits over what the rows say, in their order: inputs, answers, groups; ids don't count."""
    digest = blake2b(digest_size=8)
    for row in examples:
        digest.update(json.dumps([row.inputs, row.answers, row.group]).encode() + b"\n")
    return digest.hexdigest()


def check_split(name: str, split: str, splits: Collection[str]) -> None:
    """Refuse a split that a task does not have.

    Raises:
        TaskError: the split is unknown; names those there are.
    """
    if split not in splits:
        raise TaskError(f"{name} has no split {split!r}; {did_you_mean(split, splits)}")


def some(names: Iterable[object]) -> str:
    """The first ten names for a message, quoted, and how many more there are."""
    shown = [repr(name) for name in names]
    more = f" and {len(shown) - _ENOUGH} more" if len(shown) > _ENOUGH else ""
    return ", ".join(shown[:_ENOUGH]) + more


def json_rows(path: Path, encoding: str = "utf-8") -> Rows:
    """Stream the rows of a JSON-lines file; blank lines are passed over.

    Args:
        path: the file, `.gz` or plain.
        encoding: of its text.

    Yields:
        The line number from 1 and the row.

    Raises:
        TaskError: the file is missing, empty, damaged or in another encoding, or a line holds no JSON object.
    """
    found = False
    with open_text(path, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                message = f"{path}, line {number}: not JSON ({error}); expected one JSON object a line."
                raise TaskError(message) from error
            if not isinstance(row, dict):
                raise TaskError(f"{path}, line {number}: found {line.strip()[:40]!r}, expected a JSON object.")
            found = True
            yield number, row
    if not found:
        raise TaskError(f"{path} is empty: expected one JSON object a line. Give a file that holds rows.")


def read_rows(path: Path, encoding: str = "utf-8", quotes: bool = True) -> Rows:
    """Stream the rows of a file in the format that its name ends in.

    Yields:
        The row's number from 1, the header not counted (the line number in JSON lines), and its columns.

    Raises:
        TaskError: the file is missing, empty, damaged, in another encoding or in no known format.
    """
    kind = row_format(path)
    if kind in (".jsonl", ".ndjson"):
        return json_rows(path, encoding)
    if kind in (".csv", ".tsv"):
        return _table_rows(path, encoding, "," if kind == ".csv" else "\t", quotes)
    if kind in ROW_FORMATS and path.suffix.lower() != ".gz":
        return _arrow_rows(path)
    raise TaskError(f"{path}: no known format of rows; expected {', '.join(ROW_FORMATS)} (texts also with .gz).")


def row_format(path: Path) -> str:
    """The last part of a file's name, such as `.csv`, without `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def text_field(row: dict[str, Any], field: str, place: str) -> str:
    """One text of a row.

    Args:
        row: field names and values.
        field: the name wanted.
        place: the file and the row, for messages.

    Raises:
        TaskError: the field is missing, holds something else than text, or half a surrogate pair.
    """
    if field not in row:
        raise TaskError(f"{place} has no field {field!r}; it has {some(row)}.")
    value = row[field]
    if not isinstance(value, str):
        raise TaskError(f"{place}: field {field!r} holds {value!r:.60}, expected text. Mend the row or leave it out.")
    if _SURROGATE.search(value):
        raise TaskError(f"{place}: field {field!r} holds half a surrogate pair, which is no text. Mend the row.")
    return value


@contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[TextIO]:
    r"""Open rows for reading, `.gz` or plain, line ends as they are; a byte-order mark is passed over.

    Yields:
        The stream of text.

    Raises:
        TaskError: the file cannot be read, is damaged or is not in this encoding.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as binary:
            codec = "utf-8-sig" if encoding == "utf-8" else encoding
            with io.TextIOWrapper(binary, codec, newline="") as text:
                yield text
    except UnicodeError as error:
        raise TaskError(_not_in_encoding(path, encoding)) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TaskError(f"{path} is damaged: {error}. It ends in .gz; make or fetch the file again.") from error
    except OSError as error:
        raise TaskError(cannot_read(path, error)) from error


def cannot_read(path: Path, error: OSError) -> str:
    """The message for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: expected a file with rows. Check the path."
    return f"cannot read {path}: {error.strerror or error}. Give a file that you may read."


def _table_rows(path: Path, encoding: str, delimiter: str, quotes: bool) -> Rows:
    """Stream CSV or TSV under a header; blank lines are passed over."""
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    with open_text(path, encoding) as lines:
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            records = filter(None, reader)
            header = next(records, None)
            if header is None:
                raise TaskError(f"{path} is empty: expected a header and rows. Give a file that holds rows.")
            _check_header(path, header)
            for number, cells in enumerate(records, start=1):
                if len(cells) != len(header):
                    raise TaskError(
                        f"{path}, row {number} (line {reader.line_num}): found {len(cells)} cells, the header has "
                        f"{len(header)}. Mend the row; a cell that holds a {'comma' if delimiter == ',' else 'tab'} "
                        "needs quotation marks around it."
                    )
                yield number, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise TaskError(
                f"{path}, line {reader.line_num}: {error}. A quotation mark inside a quoted cell is written twice; "
                "where marks are plain text, write quotes = false in the task file."
            ) from error


def _arrow_rows(path: Path) -> Rows:
    """Stream an Arrow IPC file or stream, a batch at a time."""
    import pyarrow

    try:
        if not path.stat().st_size:
            raise TaskError(f"{path} is empty: expected Arrow rows. Give a file that holds rows.")
        with pyarrow.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
            _check_header(path, reader.schema.names)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise TaskError(
            f"{path} is no Arrow IPC file or stream, or is damaged: {error}. Write the rows again, such as in JSONL."
        ) from error
    except OSError as error:
        raise TaskError(cannot_read(path, error)) from error


def _check_header(path: Path, header: list[str]) -> None:
    """Refuse columns that share a name."""
    if doubled := [name for name, count in Counter(header).items() if count > 1]:
        raise TaskError(f"{path}: column {some(doubled)} stands in the header more than once. Rename the columns.")


def _not_in_encoding(path: Path, encoding: str) -> str:
    """Say where a file stops being text in its encoding; reads it again, as this ends the command anyway."""
    data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    where = ""
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f": byte 0x{data[error.start]:02x} at offset {error.start}, line {line}"
    except UnicodeError as error:
        where = f": {error}"
    return (
        f"{path} is not {encoding} text{where}. Save it as UTF-8, or name its encoding in the task file, for example "
        'encoding = "cp1252".'
    )


def _parts(task: Task) -> tuple[list[Example], list[Example], list[Example]]:
    """All rows that may train, select and report, before equal texts are taken out and samples are drawn."""
    if "train" not in task.splits:
        raise TaskError(f"{task.name} has no train split; it has {some(task.splits)}. Give rows to train on.")
    train = list(task.load("train"))
    if "validation" in task.splits:
        select = list(task.load("validation"))
        if "test" in task.splits:
            return train, select, list(task.load("test"))
        select, report = _carve(select, (0.5,))
        return train, select, report
    if "test" in task.splits:
        train, select = _carve(train, (0.8,))
        return train, select, list(task.load("test"))
    train, select, report = _carve(train, (0.6, 0.8))
    return train, select, report


def _carve(rows: Iterable[Example], bounds: tuple[float, ...]) -> list[list[Example]]:
    """Cut rows into parts by a hash in [0, 1) of their group or text: row order and other rows don't matter."""
    parts: list[list[Example]] = [[] for _ in range(len(bounds) + 1)]
    for row in rows:
        share = int.from_bytes(_hash(row.group or text_key(row))) / 2**64
        parts[sum(share >= bound for bound in bounds)].append(row)
    return parts


def _sample(rows: list[Example], limit: int | None, salt: str) -> tuple[Example, ...]:
    """Draw rows without replacement: those with the smallest salted hashes of their ids, in their old order."""
    if limit is None or limit >= len(rows):
        return tuple(rows)
    ranked = heapq.nsmallest(limit, range(len(rows)), key=lambda number: _hash(f"{salt}/{rows[number].id}"))
    return tuple(rows[number] for number in sorted(ranked))


def _hash(text: str) -> bytes:
    """Eight bytes that are the same on every machine, unlike Python's own hash."""
    return blake2b(text.encode(), digest_size=8).digest()


def _letters(text: str) -> str:
    """A text's lower-cased letters and digits; the words themselves where it has none, such as `:-)`."""
    kept = _NOT_LETTER_OR_DIGIT.sub("", unicodedata.normalize("NFKC", text).lower())
    return kept or " ".join(text.split())
