"""Write tables as Markdown that also reads as plain text, and single cells as people read them."""

from collections.abc import Iterable, Sequence
from typing import TypedDict

from spot.storage.text import printable

Cell = str | int | float | None


class Table(TypedDict):
    """Rows under headings.

    Attributes:
        columns: the headings, units included.
        rows: one cell a column, each shown by `cell_text`.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def cell_text(cell: object) -> str:
    """A cell as people read it: None as a dash, a number with one decimal where it has any."""
    if cell is None:
        return "-"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def size_text(count: int) -> str:
    """Bytes for people."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def table_text(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Write a table as Markdown, its columns aligned so that it also reads as plain text.

    Args:
        columns: the headings.
        rows: one cell a column.

    Returns:
        Lines without a line end after the last.
    """
    rows = [list(row) for row in rows]
    numeric = numeric_columns(columns, rows)
    lines = [[_one_line(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * (width - 1) + (":" if on_right else "-") for width, on_right in zip(widths, numeric, strict=True)]
    lines.insert(1, rule)
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if on_right else cell.ljust(width)
            for cell, width, on_right in zip(line, widths, numeric, strict=True)
        )
        + " |"
        for line in lines
    )


def numeric_columns(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Whether each column holds numbers, which stand on the right."""
    filled = [[row[place] for row in rows if row[place] is not None] for place in range(len(columns))]
    return [bool(cells) and all(isinstance(cell, int | float) for cell in cells) for cells in filled]


def _one_line(cell: Cell) -> str:
    """A cell that breaks no Markdown table."""
    return printable(" ".join(cell_text(cell).replace("|", "\\|").split()))
