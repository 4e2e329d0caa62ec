"""A table is read as it was written: every line is accounted for, or the file is refused."""

from pathlib import Path

import pytest

from spot.errors import TaskError
from spot.tasks.dialects import Dialect, audit, choose, column_names, counted, records, see_header, sep_line
from spot.tasks.formats import UNSAID, FileFormat, Source


def chosen(text: str, usual: str = ",", given: FileFormat = UNSAID, expected: tuple[str, ...] = ()):
    lines = text.splitlines(keepends=True)
    seen, is_right = choose(lambda: iter(lines), given, usual, Source(Path("x.csv")), expected)
    return seen.dialect, is_right, seen.records


SWALLOW = (
    'text{0}label\n"the soup{0}bad\nand nobody{0}bad\nuntil we left."{0}bad\nbread{0}good\n'
    '"again{0}good\nthey said."{0}good\n'
)


@pytest.mark.parametrize(
    ("text", "usual", "dialect", "count"),
    [
        ("text,label\na,x\nb,y\n", ",", Dialect(","), 3),
        ("text;label\nthe lamp broke, twice;bad\nnice;good\n", ",", Dialect(";"), 3),
        ("text;label\nthe lamp broke twice;bad\nnice;good\n", ",", Dialect(";"), 3),
        ("text\tlabel\na, b\tx\nb\ty\n", ",", Dialect("\t"), 3),
        ("text|label\na|x\n", ",", Dialect("|"), 2),
        ("sep=;\ntext;label\na, b;x\n", ",", Dialect(";"), 2),
        ('id, "text", label\n1, "warm, dry", good\n', ",", Dialect(",", '"', True), 2),
        ('id, "text", label\n1, "warm", good\n', ",", Dialect(",", '"', True), 2),
        ("text, label\nwarm, good\n", ",", Dialect(","), 2),
        ("text,label\n'a, b','x'\n'c','y'\n", ",", Dialect(",", "'"), 3),
        ("text,label\n'tis warm,x\nrock 'n' roll,y\n", ",", Dialect(","), 3),
        (SWALLOW.format("\t"), "\t", Dialect("\t", ""), 7),
        (SWALLOW.format(","), ",", Dialect(",", ""), 7),
        ('text\tlabel\n"Great" film\tx\nplain\ty\n', "\t", Dialect("\t", ""), 3),
        ('text\tlabel\n"Great"\tx\nplain\ty\n', "\t", Dialect("\t"), 3),
        ('text,label\n"Dear Sir,\nI like it",good\nplain,bad\nother,good\n', ",", Dialect(","), 4),
        ('text,label\n"He said ""go, now""\nand left",bad\nplain,good\n', ",", Dialect(","), 3),
        ("text\nonly one, with commas\nplain\n", ",", Dialect(","), 2),
        ("text\nonly one\nplain\n", ",", Dialect(","), 3),
    ],
)
def test_case11_12_33_delimiter_and_marks_are_those_that_account_for_every_line(text, usual, dialect, count):
    found, is_right, number = chosen(text, usual)
    if is_right:
        assert (found, number) == (dialect, count)
    else:
        assert found == dialect, "a table that no reading fits is left to the reader, with the usual one"


def test_quotation_marks_that_swallow_rows_are_refused_where_they_also_enclose():
    text = SWALLOW.format(",") + '"a, b",good\n'
    with pytest.raises(TaskError, match=r"lines 2 to 4: a quotation mark opens a cell.*quotes = false.*--no-quotes"):
        chosen(text)
    assert chosen(text, given=FileFormat(quotes='"'))[1:] == (True, 5), "who says it is right is believed"


@pytest.mark.parametrize("mark", [",", "\t"])
def test_quotation_marks_that_may_swallow_rows_are_refused(mark):
    text = f'text{mark}label\n"a b{mark}bad\nb c{mark}bad\nc d"{mark}good\nd e{mark}good\n'
    with pytest.raises(TaskError, match="lines 2 to 4: a quotation mark opens a cell"):
        chosen(text, mark)
    assert chosen(text, mark, FileFormat(quotes=""))[2] == 5
    assert chosen(text, mark, FileFormat(quotes='"'))[2] == 3
    many = text + "".join(f'"Dear Sir{mark}\nthe {n}th"{mark}good\n' for n in range(9))
    assert chosen(many, mark)[1:] == (True, 12), "among many cells of several lines one is so by chance"


def test_a_damaged_row_among_quoted_ones_is_not_read_as_if_marks_were_text():
    text = "text,label\n" + '"quite good",x\n' * 9 + '"odd" one,y\n'
    assert chosen(text)[:2] == (Dialect(","), False)


def test_two_delimiters_that_both_fit_are_refused_unless_a_library_or_a_name_decides():
    text = "3,5;gut\n4,2;schlecht\n1,7;gut\n"
    with pytest.raises(TaskError, match=r"comma and semicolon both part.*--delimiter"):
        chosen(text)
    assert chosen(text, given=FileFormat(delimiter=";"))[0] == Dialect(";")
    assert chosen("text,a;label\nb,c;d\n", expected=("label",))[0] == Dialect(";")


@pytest.mark.parametrize(
    ("rows", "expected", "is_header"),
    [
        ([["1", "Team wins cup"], ["2", "Bank cuts"], ["1", "Coach leaves"]], (), False),
        ([["good", "The bread was warm."], ["bad", "It rained for days."]], (), False),
        ([["text", "label"], ["text", "x"]], (), True),
        ([["phrase", "kind"], ["a b", "x"], ["c d", "y"]], (), True),
        ([["0", "1"], ["a warm day", "1"], ["b", "0"]], (), True),
        ([["", "0", "1"], ["0", "a", "x"], ["1", "b", "y"]], (), True),
        ([["7", "a warm day"], ["8", "cold"]], (), False),
        ([["How was the food at our place?", "kind"], ["It was very good.", "x"], ["It was too cold.", "y"]], (), True),
        ([["a", "good"], ["b", "good"]], ("good",), True),
        ([["a", "b"], ["c", "d"]], ("column_1",), False),
        ([["only", "names"]], (), True),
        ([["a warm wet day", "good"], ["a cold wet day", "bad"], ["no day at all", "fine"]], (), False),
        ([["free text comment", "kind"], ["a cold wet day", "bad"], ["no day at all", "fine"]], (), True),
    ],
)
def test_case16_a_first_row_that_is_like_the_others_is_a_row(rows, expected, is_header):
    header = see_header(rows, expected)
    assert header.is_header == is_header
    assert header.reason or is_header


def test_records_say_where_they_are_and_are_bounded():
    lines = ["a,b\n", '"c\n', 'd",e\n', "\n"]
    assert list(records(lines, Dialect(","), 99, "x")) == [
        (1, ["a", "b"], lines[:1]),
        (3, ["c\nd", "e"], lines[1:3]),
        (4, [], ["\n"]),
    ]
    with pytest.raises(TaskError, match="x, line 2: longer than 5 characters"):
        list(records(lines, Dialect(","), 5, "x"))


def test_an_audit_counts_every_line():
    lines = ["a,b\n", "\n", '"c\n', 'd",e\n', "  \n", "f,g"]
    seen = audit(lines, Dialect(","), 99, "x", is_whole=True)
    assert (seen.records, seen.continued, seen.blank, seen.lines) == (3, 1, 2, 6)
    assert seen.is_right and seen.records + seen.continued + seen.blank == seen.lines
    assert counted(seen, True) == "2 rows in 6 lines, 1 of them go on with a cell, 2 are blank"
    assert "line 2 has 1 cells" in audit(["a,b\n", "c\n"], Dialect(","), 99, "x", is_whole=True).failure
    assert "unexpected end" in audit(["a,b\n", '"c\n'], Dialect(","), 99, "x", is_whole=True).failure
    assert audit(["a,b\n", '"c\n'], Dialect(","), 99, "x", is_whole=False).is_right


def test_case13_blank_names_are_called_by_their_place():
    assert column_names(["v1", "v2", "", " "]) == ["v1", "v2", "column_3", "column_4"]
    assert column_names(["\ufefftext"]) == ["text"]
    assert (sep_line("sep=;\r\n"), sep_line("sep=;;"), sep_line("text")) == (";", "", "")
