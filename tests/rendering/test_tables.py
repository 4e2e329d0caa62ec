"""Tables as Markdown, and cells as people read them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spot.rendering.tables import cell_text, size_text, table_text

TABLE = {"columns": ["arm", "score (%)", "steps"], "rows": [["plain", 86.66, 36], ["frozen", None, 0]]}


@pytest.mark.parametrize(("count", "text"), [(7, "7 bytes"), (40_000, "40.0 kB"), (91e6, "91.0 MB"), (3e9, "3.0 GB")])
def test_bytes_are_shown_for_people(count, text):
    assert size_text(int(count)) == text


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "-"), (86.66, "86.7"), (-0.04, "-0.0"), (36, "36"), ("", ""), ("0.123", "0.123")]
)
def test_a_cell_as_people_read_it(cell, text: str):
    assert cell_text(cell) == text


def test_a_markdown_table_is_aligned():
    expected = """\
| arm    | score (%) | steps |
| ------ | --------: | ----: |
| plain  |      86.7 |    36 |
| frozen |         - |     0 |"""
    assert table_text(**TABLE) == expected


def test_a_cell_holds_no_letter_that_a_terminal_obeys():
    text = table_text(["name"], [["\x1b[2J \ud800 \u202e"]])
    assert text.encode() and r"\x1b[2J \ud800 \u202e" in text


def test_a_markdown_table_without_rows():
    assert table_text(["a", "b"], []) == "| a   | b   |\n| --- | --- |"


CELLS = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False, width=32) | st.text(max_size=20)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_no_cell_breaks_a_markdown_table(rows: list[tuple]):
    lines = table_text(["first", "second"], rows).splitlines()
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
