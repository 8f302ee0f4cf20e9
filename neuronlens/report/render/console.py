"""Tables for a terminal."""

from __future__ import annotations

from dataclasses import replace

from rich.table import Table as RichTable
from rich.text import Text

from neuronlens.errors import printable
from neuronlens.report.cells import rules, texts
from neuronlens.report.table import Table

MOST_LINES = 30
"""Rows of a table that a terminal lists; the files have all."""
NARROWEST = 16
"""Characters that a column of text keeps, however narrow the terminal."""


def to_console(table: Table, *, most: int | None = None, rest: str = "") -> RichTable:
    """Return the table for a terminal, without its caption and notes.

    Args:
        most: rows shown; None shows all.
        rest: where the rows that are left out can be read.
    """
    left = len(table.frame) - most if most is not None else 0
    cut = replace(table, frame=table.frame.iloc[:most])
    headings, rows = texts(cut)
    shown = RichTable(
        title=Text(printable(table.title)), title_justify="left", caption=f"{left} more in {rest}" if left > 0 else None
    )
    for place, (column, right) in enumerate(zip(cut.columns, cut.right_aligned, strict=True)):
        longest = max((len(row[place]) for row in rows), default=0)
        heading = headings[place].replace(": ", "\n") if column.group else headings[place]
        shown.add_column(
            Text(printable(heading)),
            justify="right" if right else "left",
            no_wrap=right,
            min_width=min(longest, NARROWEST),
        )
    for row, ruled in zip(rows, rules(cut), strict=True):
        if ruled:
            shown.add_section()
        shown.add_row(
            *(Text(printable(text), column.styles.get(text, "")) for text, column in zip(row, cut.columns, strict=True))
        )
    return shown
