"""Read rows of Parquet, Arrow and Excel, and of the folders that `datasets` saves, with every value checked.

A file may come from a stranger: what pyarrow reads is validated in full before a value is looked at, as damaged offsets
would else lead outside its memory, and a workbook is measured before its cells are laid out.
"""

import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from spot.errors import TaskError
from spot.tasks.formats import MAX_INPUT, MAX_UNPACKED, FileFormat, Source, open_bytes, open_plain, packing_of

if TYPE_CHECKING:
    import pyarrow

MAGIC = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")
BATCH = 1000  # rows of Parquet that are read at once
MAX_CELLS = 50_000_000  # of a workbook, blank ones among them: some 2 GB

STATE = "state.json"  # of a folder that `save_to_disk` wrote
DICT = "dataset_dict.json"  # of a folder of such folders

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.(arrow|parquet)")
_CELL = re.compile(rb'<(?:\w+:)?c\b[^>]*?\br="([A-Z]{1,3})(\d{1,7})"')
_MAX_JSON = 10 << 20  # bytes of a folder's own JSON


@dataclass(frozen=True)
class Odd:
    """A value that Python has no word for, such as a time beyond the year 9999.

    Attributes:
        kind: of the value.
    """

    kind: str

    def __repr__(self) -> str:
        """How messages show it."""
        return f"<a value of the kind {self.kind} that cannot be read>"


def is_data_folder(path: Path) -> bool:
    """Whether a path is a folder that may hold saved rows."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def saved_splits(path: Path) -> tuple[str, ...]:
    """The splits of a folder that a `DatasetDict` was saved in; none of another.

    Raises:
        TaskError: it does not say its splits.
    """
    try:
        if not (path / DICT).is_file():
            return ()
    except (OSError, ValueError):
        return ()
    splits = _read_json(path / DICT).get("splits")
    if not isinstance(splits, list) or not all(isinstance(name, str) and _is_plain_name(name) for name in splits):
        raise TaskError(
            f"{path / DICT} holds {splits!r:.60} for splits: expected a list of names. Save the rows again."
        )
    return tuple(splits)


def class_names(place: Path | Source, form: FileFormat, kind: str = "") -> dict[str, tuple[str, ...]]:
    """The names of the classes that columns hold by number, as `datasets` writes them beside Arrow and Parquet.

    Args:
        place: the file or folder.
        form: how it is read.
        kind: `arrow` or `parquet`; any other holds no names.

    Returns:
        Column -> names, in the order of their numbers.

    Raises:
        TaskError: the file cannot be read.
    """
    source = Source.of(place)
    folder = source.data is None and is_data_folder(source.path)
    if not folder and kind not in ("arrow", "parquet"):
        return {}
    first = Source(_shards(source.path)[0]) if folder else source
    with _batches(first, form, kind or _kind_of(first.path)) as (schema, _):
        return _names_in(schema)


def arrow_rows(source: Source, form: FileFormat, kind: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream the rows of Arrow or Parquet, or of a folder of them, a batch at a time.

    Args:
        source: the file or folder.
        form: its bounds.
        kind: `arrow` or `parquet`, of a file.

    Yields:
        The row's number from 1 and its columns.

    Raises:
        TaskError: the file is missing, empty, damaged or of another kind.
    """
    folder = source.data is None and is_data_folder(source.path)
    sources = [Source(path) for path in _shards(source.path)] if folder else [source]
    number = 0
    columns: list[str] | None = None
    for part in sources:
        with _batches(part, form, kind or _kind_of(part.path)) as (schema, batches):
            if doubled := [name for name, count in Counter(schema.names).items() if count > 1]:
                raise TaskError(
                    f"{part}: column {doubled[0]!r} stands in the header more than once. Rename the columns."
                )
            if columns is not None and columns != schema.names:
                raise TaskError(
                    f"{part} has the columns {schema.names}, and the files before it {columns}: expected one kind."
                )
            columns = schema.names
            for batch in batches:
                cells = [_values(batch.column(place)) for place in range(batch.num_columns)]
                for row in zip(*cells, strict=True):
                    number += 1
                    yield number, dict(zip(schema.names, row, strict=True))


def workbook_rows(source: Source, form: FileFormat) -> Iterator[list[str]]:
    """The rows of a sheet of an Excel workbook, as texts; blank rows are passed over.

    Whole numbers are spelled without a point, times as ISO 8601 does.

    Raises:
        TaskError: the workbook is damaged, has several sheets with rows of which none is named, or is too large.
    """
    from python_calamine import CalamineError, CalamineWorkbook

    _measure(source, form)
    try:
        with open_plain(source) as stream:
            book = CalamineWorkbook.from_filelike(stream)
            names = [form.sheet] if form.sheet else book.sheet_names
            if form.sheet and form.sheet not in book.sheet_names:
                raise TaskError(
                    f"{source} has no sheet {form.sheet!r}; it has {', '.join(map(repr, book.sheet_names))}."
                )
            sheets = {name: book.get_sheet_by_name(name).to_python() for name in names}
    except (CalamineError, OSError, ValueError) as error:
        raise TaskError(f"{source} is a damaged workbook: {error}. Save it again.") from error
    except BaseException as error:  # Rust's panics are no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise TaskError(f"{source} is a damaged workbook: {error}. Save it again.") from error
    filled = {name: rows for name, rows in sheets.items() if any(map(_is_filled, rows))}
    if len(filled) > 1:
        raise TaskError(
            f"{source} has rows in {len(filled)} sheets, {', '.join(map(repr, filled))}: expected one. Name it: "
            f"sheet = {json.dumps(next(iter(filled)))} in the task file, --sheet of a command."
        )
    rows = [[_spelled(cell) for cell in row] for row in next(iter(filled.values()), []) if _is_filled(row)]
    width = max((max(place for place, cell in enumerate(row, start=1) if cell.strip()) for row in rows), default=0)
    for row in rows:
        if sum(map(len, row)) > form.max_row:
            raise TaskError(f"{source}: a row has more than {form.max_row:,} characters. Cut it, or raise max_row.")
    if len(rows) > 1 and width > 1 and sum(bool(cell.strip()) for cell in rows[0]) == 1 and form.header is None:
        raise TaskError(
            f"{source}: its first row has one cell, {next(filter(str.strip, rows[0]))[:40]!r}, like a title above the "
            "table: expected the names of the columns. Delete what stands above them."
        )
    return (row[:width] for row in rows)


@contextmanager
def _batches(
    source: Source, form: FileFormat, kind: str
) -> Iterator[tuple["pyarrow.Schema", Iterator["pyarrow.RecordBatch"]]]:
    """The schema and the batches of a file, each one validated."""
    import pyarrow

    what = "Parquet" if kind == "parquet" else "Arrow IPC file or stream"
    try:
        with open_bytes(source, form) as stream:
            if not stream.read(1):
                name = "Parquet" if kind == "parquet" else "Arrow"
                raise TaskError(f"{source} is empty: expected {name} rows. Give a file that holds rows.")
        with _opened(source, form) as (file, size):
            schema, batches = _parquet(file) if kind == "parquet" else _arrow(file)
            yield schema, _validated(batches, source, form, size)
    except TaskError:
        raise
    except OSError as error:
        raise TaskError(f"cannot read {source}: {error}. Give a file that you may read, and that is whole.") from error
    # Damaged bytes make pyarrow raise whatever they lead to: its own errors, UnicodeDecodeError, SystemError, ...
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, MemoryError) and not isinstance(error, pyarrow.ArrowException):
            reason = "it asks for more memory than there is"
        raise TaskError(
            f"{source} is no {what}, or is damaged: {reason}. Write the rows again, such as in JSONL."
        ) from error


@contextmanager
def _opened(source: Source, form: FileFormat) -> Iterator[tuple["pyarrow.NativeFile", int]]:
    """A file as pyarrow reads it, and its size in bytes."""
    import pyarrow

    from_memory = source.data
    if packing_of(source):
        with open_bytes(source, form) as stream:
            head = stream.read(6)
            if not head.startswith(MAGIC):  # nor is the rest unpacked then
                raise TaskError(f"{source} holds neither Parquet nor Arrow, or is damaged. Write the rows again.")
            from_memory = head + stream.read(MAX_INPUT)  # packed as a whole: there is no other way to its end
    if from_memory is not None:
        yield pyarrow.BufferReader(from_memory), len(from_memory)
        return
    with pyarrow.OSFile(str(source.path), "rb") as file:
        yield file, file.size()


def _parquet(file: "pyarrow.NativeFile") -> tuple["pyarrow.Schema", Iterator["pyarrow.RecordBatch"]]:
    """Schema and batches of a Parquet file."""
    from pyarrow import parquet

    reader = parquet.ParquetFile(file, page_checksum_verification=True)
    return reader.schema_arrow, reader.iter_batches(BATCH, use_threads=False)


def _arrow(file: "pyarrow.NativeFile") -> tuple["pyarrow.Schema", Iterator["pyarrow.RecordBatch"]]:
    """Schema and batches of an Arrow IPC file or stream."""
    import pyarrow

    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    if not is_file:
        reader = pyarrow.ipc.open_stream(file)
        return reader.schema, iter(reader)
    reader = pyarrow.ipc.open_file(file)
    return reader.schema, map(reader.get_batch, range(reader.num_record_batches))


def _validated(
    batches: Iterator["pyarrow.RecordBatch"], source: Source, form: FileFormat, size: int
) -> Iterator["pyarrow.RecordBatch"]:
    """Batches whose offsets lead inside their memory and whose texts are UTF-8, up to the bound of what is packed."""
    unpacked = 0
    for batch in batches:
        batch.validate(full=True)
        unpacked += batch.nbytes
        if unpacked > MAX_UNPACKED and unpacked > form.max_ratio * size:
            raise TaskError(
                f"{source} unpacks to more than {form.max_ratio} times its size, as no file of texts does. If it is "
                "right, raise the bound: max_ratio in the task file, --max-ratio of a command."
            )
        yield batch


def _values(column: "pyarrow.Array") -> Sequence[Any]:
    """The values of a column; those that Python has no word for are odd."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, SystemError, TypeError, ArithmeticError, LookupError):
        values: list[Any] = []
    for cell in column:
        try:
            values.append(cell.as_py())
        except (ValueError, OverflowError, SystemError, TypeError, ArithmeticError, LookupError):
            values.append(Odd(str(column.type)))
    return values


def _names_in(schema: "pyarrow.Schema") -> dict[str, tuple[str, ...]]:
    """Column -> names of its classes, where the schema of `datasets` has them."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    names = {
        column: feature["names"]
        for column, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }
    return {
        column: tuple(words)
        for column, words in names.items()
        if isinstance(words, list) and all(isinstance(word, str) for word in words) and len(set(words)) == len(words)
    }


def _shards(folder: Path) -> list[Path]:
    """The files of rows in a folder, in order, none of them missing."""
    if saved_splits(folder):
        names = ", ".join(map(repr, saved_splits(folder)))
        raise TaskError(f'{folder} holds the splits {names}: name one, such as rows = {{ train = "{folder}/train" }}.')
    if (folder / STATE).is_file():
        files = _read_json(folder / STATE).get("_data_files")
        names = (
            [file.get("filename") if isinstance(file, dict) else None for file in files]
            if isinstance(files, list)
            else []
        )
        if not names or not all(isinstance(name, str) and _is_plain_name(name) for name in names):
            raise TaskError(f"{folder / STATE} names no files of rows. Save the rows again with save_to_disk.")
        return [folder / str(name) for name in names]
    try:
        present = sorted(path.name for path in folder.iterdir() if path.suffix in (".arrow", ".parquet"))
    except OSError as error:
        raise TaskError(f"cannot read {folder}: {error.strerror}. Give a folder that you may read.") from error
    shards = [match for name in present if (match := _SHARD.fullmatch(name))]
    families = {(match[1], match[3], match[4]) for match in shards}
    if not shards or len(families) > 1 or len(shards) < len(present):
        listed = ", ".join(map(repr, present[:10])) or "none"
        raise TaskError(
            f"{folder} is a folder: expected one that save_to_disk wrote, or the parts of one set such as "
            f"train-00000-of-00002.parquet; found files of rows: {listed}. Name the file of rows in it."
        )
    if [int(match[2]) for match in shards] != list(range(int(shards[0][3]))):
        raise TaskError(f"{folder} holds {len(shards)} of the {int(shards[0][3])} parts of its rows. Fetch the others.")
    return [folder / match[0] for match in shards]


def _is_plain_name(name: str) -> bool:
    """Whether a name leads to something in its folder and nowhere else."""
    return bool(name) and name not in (".", "..") and not set("/\\\0") & set(name)


def _kind_of(path: Path) -> str:
    """Whether a part of a folder is `parquet` or `arrow`."""
    return "parquet" if path.suffix == ".parquet" else "arrow"


def _read_json(path: Path) -> Mapping[str, Any]:
    """The object in a small JSON file."""
    try:
        with open_plain(Source(path)) as file:
            value = json.loads(file.read(_MAX_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise TaskError(f"{path} cannot be read ({error}): expected a JSON object. Save the rows again.") from error
    if not isinstance(value, dict):
        raise TaskError(f"{path} holds {value!r:.60}: expected a JSON object. Save the rows again.")
    return value


def _measure(source: Source, form: FileFormat) -> None:
    """Refuse a workbook that would not fit into memory: its cells are laid out as a full rectangle."""
    try:
        with open_plain(source) as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            unpacked, packed = (
                sum(getattr(entry, name) for entry in entries) for name in ("file_size", "compress_size")
            )
            if unpacked > MAX_UNPACKED and unpacked > form.max_ratio * max(1, packed):
                raise TaskError(f"{source} unpacks to more than {form.max_ratio} times its size. Save it as CSV.")
            for entry in entries:
                if entry.filename.startswith("xl/worksheets/"):
                    with archive.open(entry) as sheet:
                        _check_extent(source, sheet)  # type: ignore[arg-type]  # IO[bytes] that is read alone
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        raise TaskError(f"{source} is a damaged workbook: {error}. Save it again.") from error
    except Exception as error:
        if type(error).__module__ != "zlib":
            raise
        raise TaskError(f"{source} is a damaged workbook: {error}. Save it again.") from error


def _check_extent(source: Source, sheet: BinaryIO) -> None:
    """Refuse a sheet whose outermost cells are too far apart."""
    wide, high, rest = 0, 0, b""
    while block := sheet.read(1 << 20):
        text = rest + block
        for letters, row in _CELL.findall(text):
            column = 0
            for letter in letters:
                column = column * 26 + letter - 64
            wide, high = max(wide, column), max(high, int(row))
        if wide * high > MAX_CELLS:
            raise TaskError(f"{source}: a sheet of {high:,} rows and {wide:,} columns is too large. Save it as CSV.")
        rest = text[-200:]


def _is_filled(row: Sequence[object]) -> bool:
    """Whether a row of a sheet holds anything."""
    return any(cell is not None and str(cell).strip() for cell in row)


def _spelled(cell: object) -> str:
    """A cell of a sheet as text."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return "" if cell is None else str(cell)
