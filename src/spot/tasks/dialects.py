"""See how a table of text is written: delimiter, quotation marks, blanks behind delimiters, header.

A reading is right only where it accounts for every line: each record has as many cells as the first, no quotation mark
stays open, and no cell swallows lines that are rows by themselves. Where two delimiters pass, clevercsv decides between
them; where it disagrees with the ending of the name, nobody does, and the file is refused.
"""

import contextlib
import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from spot.errors import TaskError
from spot.tasks.formats import FileFormat, Source, too_long

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
TRIED = tuple(DELIMITERS)
QUOTE = '"'
USUAL_NAMES = frozenset(
    "text texts sentence sentences review reviews content body comment tweet title headline description message "
    "question passage premise hypothesis sentence1 sentence2 inputs input prompt source context label labels class "
    "category target targets sentiment intent topic answer output completion score rating stars id idx index name date "
    "text_label label_text".split()
)

_SAMPLE_LINES = 2000
_SAMPLE_SIZE = 1 << 20  # characters
_ARBITER_SIZE = 20_000  # characters for clevercsv, which takes 0.05 s for them
_MANY = 200  # values of a column beyond which it is no class
_SEP = re.compile(r'"?sep=(.)"?\r?\n?')
_NUMBER = re.compile(r"\s*[-+]?\d[\d.,]*([eE][-+]?\d+)?\s*")
_SPACED_QUOTE = re.compile(r'\s+".*"\s*', re.DOTALL)
_SENTENCE = re.compile(r"\S+(\s+\S+){2,}[.!?]\s*|\S+(\s+\S+){9,}", re.DOTALL)

Lines = Callable[[], Iterable[str]]


@dataclass(frozen=True)
class Dialect:
    """How the cells of a table are parted.

    Attributes:
        delimiter: between cells.
        quote: the mark that encloses a cell; empty where marks are text.
        skip_space: whether blanks behind a delimiter are no part of a cell.
    """

    delimiter: str
    quote: str = QUOTE
    skip_space: bool = False


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the first row of a table is.

    Attributes:
        is_header: whether it names the columns.
        reason: why it does or does not; empty where nothing speaks for either, and it is taken for names.
    """

    is_header: bool
    reason: str = ""


@dataclass
class Audit:
    """What a reading of a table accounts for.

    Attributes:
        dialect: the reading.
        columns: cells of a record.
        records: the header among them.
        lines, continued, blank: lines in all, those that go on with a record, and empty ones.
        rows: the first records, for a look at the header.
        failure: why the reading does not account for every line; empty where it does.
        swallowed: (first line, last line) of records whose lines would each be a row by themselves.
        unclear: the same of records whose lines have as many cells as rows, with other values.
        spaced: cells that hold a blank and then quotation marks around all the rest.
        opened, enclosed: cells that begin with the mark, and those of them that also end with it.
        single: whether some column holds nothing but cells between single quotation marks.
    """

    dialect: Dialect
    columns: int = 0
    records: int = 0
    lines: int = 0
    continued: int = 0
    blank: int = 0
    rows: list[list[str]] = field(default_factory=list)
    failure: str = ""
    swallowed: list[tuple[int, int]] = field(default_factory=list)
    unclear: list[tuple[int, int]] = field(default_factory=list)
    spaced: int = 0
    opened: int = 0
    enclosed: int = 0
    single: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the reading accounts for every line."""
        return not (self.failure or self.swallowed or self.unclear) and self.records > 0


def records(
    lines: Iterable[str], dialect: Dialect, limit: int, where: str
) -> Iterator[tuple[int, list[str], list[str]]]:
    """The records of a table with the number of their last line and their lines; blank lines give no cells.

    Args:
        lines: of the table, with their ends.
        dialect: how cells are parted.
        limit: characters that a record may have.
        where: the file, for messages.

    Raises:
        TaskError: a record is too long.
        csv.Error: a quotation mark stands where none may; it names the line.
    """
    csv.field_size_limit(max(csv.field_size_limit(), limit))
    pending: list[str] = []
    size = 0

    def watched() -> Iterator[str]:
        nonlocal size
        for line in lines:
            pending.append(line)
            size += len(line)
            if size > limit:
                raise TaskError(too_long(f"{where}, line {reader.line_num + 2 - len(pending)}", limit))
            yield line

    reader = csv.reader(
        watched(),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        skipinitialspace=dialect.skip_space,
        strict=True,
    )
    try:
        for cells in reader:
            own = pending[:]
            pending.clear()
            size = 0
            yield reader.line_num, cells, own
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from error


def is_blank(cells: Sequence[str], columns: int) -> bool:
    """Whether a record is a blank line: no cells, or one of blanks where there should be several."""
    # The last character is what DOS ended files with.
    return not cells or (len(cells) == 1 < columns and not cells[0].strip(" \t\r\n\x1a"))


def sep_line(line: str) -> str:
    """The delimiter that the first line of a table may name for Excel (`sep=;`), or nothing."""
    match = _SEP.fullmatch(line)
    return match[1] if match else ""


def audit(lines: Iterable[str], dialect: Dialect, limit: int, where: str, is_whole: bool) -> Audit:
    """Account for every line of a table under a reading.

    Args:
        lines: of the table, or the first ones.
        dialect: the reading.
        limit: characters that a record may have.
        where: the file, for messages.
        is_whole: whether the lines are all there are; else a record may stay open at their end.

    Raises:
        TaskError: a record is too long.
    """
    result = Audit(dialect)
    values: list[set[str] | None] = []
    suspects: list[tuple[int, list[list[str]]]] = []
    number = wrapped = 0
    single: list[bool] = []
    try:
        for number, cells, own in records(lines, dialect, limit, where):
            result.lines = number
            if number == 1 and sep_line(own[0]):
                continue
            if is_blank(cells, result.columns):
                result.blank += 1
                continue
            if not result.records:
                result.columns = len(cells)
                values, single = [set() for _ in cells], [True for _ in cells]
            elif len(cells) != result.columns:
                result.failure = f"line {number} has {len(cells)} cells, the first row {result.columns}"
                return result
            result.records += 1
            if len(result.rows) < _SAMPLE_LINES:
                result.rows.append(cells)
            result.continued += len(own) - 1
            wrapped += len(own) > 1
            for column, cell in enumerate(cells):
                seen = values[column]
                if seen is not None:
                    seen.add(cell)
                    if len(seen) > _MANY:
                        values[column] = None
                if not dialect.quote and result.records > 1:
                    _count_marks(result, cell)
                    single[column] &= len(cell) > 1 and cell[0] == cell[-1] == "'"
                elif dialect.quote and '"' in cell and not dialect.skip_space and _SPACED_QUOTE.fullmatch(cell):
                    result.spaced += 1
            if len(own) > 1 and dialect.quote and (parts := _rows_inside(own, dialect, result.columns)):
                suspects.append((number, parts))
    except csv.Error as error:
        if is_whole or "unexpected end of data" not in str(error):
            result.failure = str(error)
    result.single = not dialect.quote and result.records > 2 and any(single)
    for last, parts in suspects:
        place = (last - len(parts) + 1, last)
        if _are_rows(parts, values):
            result.swallowed.append(place)
        elif _may_be_rows(parts, dialect.delimiter):
            result.unclear.append(place)
    # Where most cells of several lines are none of this kind, one of them is so by chance.
    if len(result.unclear) * 2 < wrapped:
        result.unclear.clear()
    return result


def choose(
    lines: Lines, given: FileFormat, usual: str, source: Source, expected: Collection[str] = ()
) -> tuple[Audit, bool]:
    """The reading of a table that accounts for every line.

    Args:
        lines: begins to read the table from its start.
        given: what is said of the table: only the rest is seen.
        usual: the delimiter that the name of the file speaks for.
        source: the file, for messages.
        expected: names of columns, if any are known: a reading whose header has them is preferred.

    Returns:
        The reading, and whether it is right; where none is, it is the usual one, whose rows say what is wrong.

    Raises:
        TaskError: cells swallow rows, two delimiters part the table equally well, or a row is too long.
    """
    sample, is_whole = _sample(lines)
    if not given.delimiter and sample and (named := sep_line(sample[0])):
        given = replace(given, delimiter=named)
    # A character that stands nowhere parts nothing.
    delimiters = [given.delimiter] if given.delimiter else list(dict.fromkeys((usual, *TRIED)))
    if not given.delimiter:
        delimiters = [mark for mark in delimiters if mark == usual or any(mark in line for line in sample[:50])]
    audits: dict[str, Audit] = {}
    for mark in delimiters:
        audits[mark] = _best(lines, sample, is_whole, given, mark, source)
    right = [mark for mark, seen in audits.items() if seen.is_right]
    several = [mark for mark in right if audits[mark].columns > 1]
    named = [mark for mark in several or right if set(expected) & set(_names(audits[mark]))]
    candidates = named[:1] or several
    if len(candidates) > 1:
        candidates = [_arbiter(sample, candidates, usual, source)]
    if candidates:
        return audits[candidates[0]], True
    if swallowing := [seen for seen in audits.values() if (seen.swallowed or seen.unclear) and not seen.failure]:
        raise TaskError(_swallows(source, swallowing[0]))
    if right:
        return audits[right[0]], True
    return audits[delimiters[0]], False


def see_header(rows: Sequence[Sequence[str]], expected: Collection[str] = ()) -> Header:
    """Whether the first row of a table names its columns.

    Args:
        rows: the first ones of the table.
        expected: names of columns, if any are known.
    """
    if not rows:
        return Header(is_header=True)
    first, others = rows[0], rows[1:]
    names = [cell.strip() for cell in first]
    if known := [name for name in first if name in expected]:
        return Header(is_header=True, reason=f"it holds {known[0]!r}")
    if expected and all(re.fullmatch(r"column_\d+", name) for name in expected):
        return Header(is_header=False, reason=f"columns are called {sorted(expected)[0]!r} and so on")
    if not others:
        return Header(is_header=True)
    if usual := [name for name in names if name.lower() in USUAL_NAMES]:
        return Header(is_header=True, reason=f"it holds {usual[0]!r}")
    # What pandas writes for a table whose columns have no names.
    if [name for name in names if name] == [str(number) for number in range(len([name for name in names if name]))]:
        return Header(is_header=True, reason="it counts the columns")
    for column, cell in enumerate(names):
        below = [row[column].strip() for row in others if row != first]
        filled = [value for value in below if value]
        if cell and cell in filled:
            return Header(
                is_header=False, reason=f"{cell!r} stands below it again, in row {1 + _row_of(others, column, cell)}"
            )
        if filled and _NUMBER.fullmatch(cell) and all(map(_NUMBER.fullmatch, filled)):
            return Header(is_header=False, reason=f"{cell!r} is a number like those below it")
        asks = cell.endswith("?") and sum(value.endswith("?") for value in filled) * 2 < len(filled)  # as a survey does
        if (
            not asks
            and _SENTENCE.fullmatch(cell)
            and sum(bool(_SENTENCE.fullmatch(value)) for value in filled) * 2 >= len(below)
        ):
            return Header(is_header=False, reason=f"{cell[:40]!r} is a sentence like those below it")
        is_long = sum(len(value.split()) > 2 for value in filled) * 2 > len(below)
        if not asks and is_long and len(cell.split()) > 2 and not USUAL_NAMES & set(cell.lower().split()):
            return Header(is_header=False, reason=f"{cell[:40]!r} has several words like those below it")
    return Header(is_header=True)


def column_names(header: Sequence[str]) -> list[str]:
    """The names of columns: a blank one is called by its place."""
    names = [name.lstrip("\ufeff") for name in header]
    return [name if name.strip() else f"column_{number}" for number, name in enumerate(names, start=1)]


def _row_of(rows: Sequence[Sequence[str]], column: int, value: str) -> int:
    """The number of the first row, from 1, that holds a value."""
    return next(number for number, row in enumerate(rows, start=1) if row[column].strip() == value)


def _names(seen: Audit) -> list[str]:
    """The cells of a table's first row."""
    return seen.rows[0] if seen.rows else []


def _sample(lines: Lines) -> tuple[list[str], bool]:
    """The first lines of a table, and whether they are all of it."""
    sample: list[str] = []
    size = 0
    stream = iter(lines())
    for line in islice(stream, _SAMPLE_LINES):
        sample.append(line)
        size += len(line)
        if size > _SAMPLE_SIZE:
            break
    return sample, next(stream, None) is None


def _best(lines: Lines, sample: list[str], is_whole: bool, given: FileFormat, mark: str, source: Source) -> Audit:
    """The best reading of a table with one delimiter: tried on the first lines, then on all of them."""

    def look(dialect: Dialect) -> Audit:
        seen = audit(sample, dialect, given.max_row, str(source), is_whole)
        if seen.failure or is_whole:
            return seen
        return audit(lines(), dialect, given.max_row, str(source), is_whole=True)

    spaces = [given.skip_space] if given.skip_space is not None else [False, True]
    if given.quotes is not None:
        tried = [look(Dialect(mark, given.quotes, skip)) for skip in spaces]
        right = [seen for seen in tried if not seen.failure]
        best = right[-1] if right and right[0].spaced else (right or tried)[0]
        # Who says how quotation marks are meant is taken at their word.
        best.swallowed, best.unclear = [], []
        return best
    quoted = look(Dialect(mark, QUOTE, bool(given.skip_space)))
    if quoted.is_right and not quoted.spaced:
        has_single = any("'" in line for line in sample)
        plain = look(Dialect(mark, "", bool(given.skip_space))) if has_single else quoted
        if not plain.single:
            return quoted
        between = look(Dialect(mark, "'", bool(given.skip_space)))
        return between if between.is_right else quoted
    if given.skip_space is None:
        skipped = look(Dialect(mark, QUOTE, True))
        if skipped.is_right and (skipped.columns > 1 or quoted.spaced):
            return skipped
    if quoted.is_right:
        return quoted
    if quoted.unclear and not quoted.swallowed and not quoted.failure:
        return quoted
    plain = look(Dialect(mark, "", bool(given.skip_space)))
    # Where most cells that open with a mark close with it, marks enclose, and a row is damaged.
    if plain.is_right and plain.enclosed * 2 <= plain.opened:
        return plain
    if sum(line.startswith("'") or f"{mark}'" in line for line in sample) * 2 > len(sample):
        between = look(Dialect(mark, "'", bool(given.skip_space)))
        if between.is_right and between.columns > 1:
            return between
    return quoted


def _count_marks(result: Audit, cell: str) -> None:
    """Count cells that open with a quotation mark, and those that close with it too."""
    if cell.startswith(QUOTE):
        result.opened += 1
        result.enclosed += len(cell) > 1 and cell.endswith(QUOTE)


def _rows_inside(lines: Sequence[str], dialect: Dialect, columns: int) -> list[list[str]]:
    """The lines of a record as rows, where each would be one by itself; else nothing."""
    if columns < 2:
        return []
    parts = [line.rstrip("\r\n").split(dialect.delimiter) for line in lines]
    return parts if all(len(part) == columns for part in parts) else []


def _are_rows(parts: Sequence[Sequence[str]], values: Sequence[set[str] | None]) -> bool:
    """Whether the lines of a record hold, in some column of few values, nothing but such values."""
    return any(
        known is not None and len(known) > 1 and all(part[column] in known for part in parts)
        for column, known in enumerate(values)
    )


def _may_be_rows(parts: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Whether the lines of a record could be rows: no cell is blank, nor begins with a blank, as prose does."""
    return all(
        cell.strip() and (delimiter == "\t" or not column or not cell[0].isspace())
        for part in parts
        for column, cell in enumerate(part)
    )


def _arbiter(sample: Sequence[str], candidates: Sequence[str], usual: str, source: Source) -> str:
    """The delimiter that clevercsv holds for right, of several that part a table evenly."""
    import clevercsv

    text = "".join(sample)[:_ARBITER_SIZE]
    choice = ""
    with contextlib.suppress(clevercsv.Error):  # a zero byte, or quotation marks that it cannot follow
        dialect = clevercsv.Detector().detect(text[: text.rfind("\n") + 1] or text, delimiters=list(candidates))
        choice = getattr(dialect, "delimiter", "")
    if choice in candidates and (choice == usual or usual not in candidates):
        return choice
    names = " and ".join(DELIMITERS.get(mark, repr(mark)) for mark in candidates)
    raise TaskError(
        f"{source}: {names} both part every line into equally many cells, so nothing says which is meant. Say it: "
        'delimiter = ";" in the task file, --delimiter of a command.'
    )


def _swallows(source: Source, seen: Audit) -> str:
    """The message for quotation marks that swallow rows."""
    places = [*seen.swallowed, *seen.unclear]
    first, last = places[0]
    more = f", and {len(places) - 1} more such" if len(places) > 1 else ""
    return (
        f"{source}, lines {first} to {last}: a quotation mark opens a cell that holds all of them, and each looks like "
        f"a row of its own{more}. Write a mark that is text twice inside quotation marks; or say how marks are meant: "
        "quotes = false in the task file or --no-quotes where they are text, quotes = true or --quotes where it is so."
    )


def counted(seen: Audit, header: bool) -> str:
    """What became of the lines of a table, in words."""
    rows = seen.records - header
    parts = [f"{rows} rows in {seen.lines} lines"]
    if seen.continued:
        parts.append(f"{seen.continued} of them go on with a cell")
    if seen.blank:
        parts.append(f"{seen.blank} are blank")
    return ", ".join(parts)
