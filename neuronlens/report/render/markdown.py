"""Tables as Markdown that shows their text as it is."""

from __future__ import annotations

import re

from neuronlens.report.cells import Cell, cells
from neuronlens.report.table import Table


def to_markdown(table: Table) -> str:
    """Return the table as a section: title, caption, table, notes; a group's heading leads its columns'."""
    caption = [marked(paragraph) for paragraph in table.caption.split("\n\n")]
    parts = [f"## {marked(table.title)}", *caption, grid(table), *map(marked, table.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def grid(table: Table) -> str:
    """Return headings and rows alone, without a line end behind the last."""
    lines = ["| " + " | ".join(marked(column.title) for column in table.columns) + " |"]
    lines.append("|" + "|".join("---:" if right else "---" for right in table.right_aligned) + "|")
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in cells(table)]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    if cell.repeats:
        return ""
    value = marked(cell.value)
    return (f"**{value}**" if cell.bold else value) + (f" {cell.behind}" if cell.behind else "")


def marked(text: str) -> str:
    r"""Return text that Markdown shows as it is, on one line and within one table cell.

    Brackets are left alone where no link can come of them, so that a heading reads well in the file too.

    >>> print(marked("difference [95 %]"), marked("[a](b)"), marked("*x* | _y_"))
    difference [95 %] \[a\](b) \*x\* \| \_y\_
    """
    line = re.sub(r"([\\`*|])|(?<![^\W_])(_)|(_)(?![^\W_])", lambda found: "\\" + found[0], " ".join(text.split()))
    if re.search(r"\][\[(:]|\[\^|!\[", line):
        line = re.sub(r"[\[\]]", lambda found: "\\" + found[0], line)
    return re.sub(r"&(?=#?\w+;)", "&amp;", line).replace("<", "&lt;")
