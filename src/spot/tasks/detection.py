"""See how a file of rows is read, all of it: what is said of the file stands, the rest is found in it and checked.

`see` gives a `FileFormat` without gaps, by which `readers.read_rows` reads the file, and says in words what was seen.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from spot.tasks.binary_rows import is_data_folder, workbook_rows
from spot.tasks.dialects import DELIMITERS, Header, choose, counted, see_header
from spot.tasks.encodings import Encoding, see_encoding
from spot.tasks.formats import BINARY, TABLES, UNSAID, FileFormat, Source, ending_format, open_text, recognise
from spot.tasks.readers import text_of

_LOOK = 2000  # rows of a workbook by which its header is told
_UTF8 = Encoding("utf-8")
_NAMES = Header(is_header=True)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How a file is read, and what shows it.

    Attributes:
        form: without gaps.
        packing: as in `formats.Content`.
        encoding: of text, with a word that shows whether it is right.
        header: of a table or sheet.
        count: what became of the lines of a table, in words; empty for other files.
        is_usual: whether the name of the file, UTF-8 and the common way of writing tables say all this too.
    """

    form: FileFormat
    packing: str = ""
    encoding: Encoding = _UTF8
    header: Header = _NAMES
    count: str = ""
    is_usual: bool = True

    @property
    def words(self) -> tuple[str, ...]:
        """What was seen, one thing a sentence."""
        form = self.form
        packed = f", packed as {self.packing}" if self.packing else ""
        if form.format not in (*TABLES, "jsonl", "json", "txt"):
            words = [f"read as {form.format}{packed}"]
        else:
            sample = f" (guessed: a word of it is {self.encoding.sample!r})" if self.encoding.sample else ""
            words = [f"read as {form.format}{packed}, encoding {form.encoding}{sample}"]
        if form.format in TABLES:
            marks = f"cells between {form.quotes} marks" if form.quotes else "quotation marks are text"
            spaces = ", blanks behind delimiters passed over" if form.skip_space else ""
            words.append(
                f"{DELIMITERS.get(form.delimiter, repr(form.delimiter))} between cells, {marks}{spaces}: {self.count}"
            )
        if not form.header:
            words.append(f"no header, as {self.header.reason or 'is said'}: the columns are called column_1 and so on")
        elif form.format in (*TABLES, "xlsx") and not self.header.reason:
            words.append("the first row was taken for the names of the columns; say header = false where it is a row")
        return tuple(words)


def see(
    place: Path | Source,
    given: FileFormat = UNSAID,
    expected: Collection[str] = (),
    *,
    guess: bool = False,
    plain: bool = False,
) -> Seen:
    """See how a file of rows is read.

    Args:
        place: the file, or a folder of `datasets`.
        given: what is said of it.
        expected: names of columns, where any are known: they tell a header and a delimiter.
        guess: whether an encoding may be guessed that is not certain, for somebody to look at; else it is refused.
        plain: whether a file called `.txt` is a text a line; else it is a table like another.

    Raises:
        TaskError: the file cannot be read or holds no rows, two readings of it would do, or quotation marks swallow
            rows. A table that no reading fits is left to `read_rows`, which names the row.
    """
    source = Source.of(place)
    if source.data is None and is_data_folder(source.path):
        return Seen(form=replace(given, format="arrow", encoding="utf-8", header=True))
    content = recognise(source, given)
    if content.format in BINARY:
        header = Header(is_header=True)
        if content.format == "xlsx" and given.header is None:
            rows = workbook_rows(source, given)
            header = see_header(list(islice(rows, _LOOK)), expected)
        elif given.header is not None:
            header = Header(is_header=given.header, reason="it is said")
        form = replace(given, format=content.format, encoding="utf-8", header=header.is_header)
        return Seen(form=form, packing=content.packing, header=header)
    encoding = see_encoding(source, given, guess=guess)
    kind = "csv" if content.format == "txt" and not plain and not given.format else content.format
    form = replace(given, format=kind, encoding=encoding.name)
    if kind not in TABLES:
        form = replace(form, header=True)
        return Seen(form=form, packing=content.packing, encoding=encoding, is_usual=_as_named(source, form))
    usual = "\t" if kind == "tsv" else ","

    def lines() -> Iterator[str]:
        with open_text(source, form) as text:
            yield from text_of(text, form)

    audit, is_right = choose(lines, form, usual, source, expected)
    header = (
        Header(is_header=given.header, reason="it is said")
        if given.header is not None
        else see_header(audit.rows, expected)
    )
    dialect = audit.dialect
    form = replace(
        form,
        format="tsv" if dialect.delimiter == "\t" else "csv",
        delimiter=dialect.delimiter,
        quotes=dialect.quote,
        skip_space=dialect.skip_space,
        header=header.is_header,
    )
    common = dialect.delimiter == usual and dialect.quote == '"' and not dialect.skip_space and header.is_header
    return Seen(
        form=form,
        packing=content.packing,
        encoding=encoding,
        header=header,
        count=counted(audit, header.is_header) if is_right else "",
        is_usual=not is_right or (common and _as_named(source, form)),
    )


def _as_named(source: Source, form: FileFormat) -> bool:
    """Whether a file is what its name says."""
    return form.encoding == "utf-8" and (source.data is not None or ending_format(source.path) in ("", form.format))
