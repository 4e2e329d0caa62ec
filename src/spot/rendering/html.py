"""The report: one HTML file that needs nothing else, and tables as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NotRequired, TypedDict

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

Cell = str | int | float | None


class Table(TypedDict):
    """Rows under headings.

    Attributes:
        columns: the headings, units included.
        rows: one cell a column; numbers have one decimal where they have any, and None is a dash.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Section(TypedDict):
    """One part of a page, under its own heading.

    Attributes:
        heading: what it is about.
        text: paragraphs, with an empty line between two.
        table: stands after the text.
        svg: a picture of `spot.rendering.plots`, taken as it is: never text from anywhere else.
    """

    heading: str
    text: NotRequired[str]
    table: NotRequired[Table]
    svg: NotRequired[str]


class Page(TypedDict):
    """What a report says.

    Attributes:
        title: the heading of the page.
        verdict: the result in one sentence.
        facts: (name, value) pairs that stand directly below.
        sections: the rest, in order.
        command: the command line that makes this report again.
    """

    title: str
    verdict: str
    facts: NotRequired[Sequence[tuple[str, Cell]]]
    sections: NotRequired[Sequence[Section]]
    command: NotRequired[str]


def render(page: Page | Mapping[str, Any]) -> str:
    """Make the HTML of a report: one file without scripts, external files or the time of day.

    Args:
        page: as `Page` describes; all of its text is escaped.

    Returns:
        The whole file as text; equal pages give equal text.
    """
    return _template().render(page=page)


def table_text(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Write a table as Markdown, its columns aligned so that it also reads as plain text.

    Args:
        columns: the headings.
        rows: one cell a column.

    Returns:
        Lines without a line end after the last.
    """
    rows = [list(row) for row in rows]
    right = _numeric(columns, rows)
    lines = [[_one_line(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * (width - 1) + (":" if at_right else "-") for width, at_right in zip(widths, right, strict=True)]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(line, widths, right, strict=True)
        )
        + " |"
        for line in lines
    )


def _shown(cell: Cell) -> str:
    """A cell as people read it."""
    if cell is None:
        return "-"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def _one_line(cell: Cell) -> str:
    """A cell that breaks no Markdown table."""
    return " ".join(_shown(cell).replace("|", "\\|").split())


def _numeric(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Whether each column holds numbers, which stand on the right."""
    filled = [[row[place] for row in rows if row[place] is not None] for place in range(len(columns))]
    return [bool(cells) and all(isinstance(cell, int | float) for cell in cells) for cells in filled]


def _paragraphs(text: str) -> list[str]:
    """Split text at its empty lines."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]


@cache
def _template() -> Template:
    """The page's template, read once."""
    environment = Environment(
        loader=PackageLoader("spot.rendering"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(shown=_shown, paragraphs=_paragraphs, numeric=_numeric)
    return environment.get_template("report.html.j2")
