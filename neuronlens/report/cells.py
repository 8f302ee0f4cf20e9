"""A table's cells as text, before any markup: what each renderer starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.report.table import Column, Table

MISSING = "-"


@dataclass(frozen=True)
class Cell:
    """A cell as text: the value, the interval behind it, and whether the value stands out or repeats the one above."""

    value: str
    behind: str = ""
    bold: bool = False
    repeats: bool = False

    @property
    def text(self) -> str:
        """Value and interval; nothing where the value repeats the one above."""
        return "" if self.repeats else self.whole

    @property
    def whole(self) -> str:
        """Value and interval, repeated or not."""
        return f"{self.value} {self.behind}".rstrip()


def cells(table: Table) -> list[list[Cell]]:
    """Return the shown cells `[row][column]`."""
    records = table.frame.to_dict("records")
    shown = [[_text(row, column) for column in table.columns] for row in records]
    bold = _best(table, records, shown)
    rows: list[list[Cell]] = []
    for line, row in enumerate(records):
        found: list[Cell] = []
        repeats = line > 0
        for place, column in enumerate(table.columns):
            repeats = repeats and place < len(table.row_groups) and shown[line][place] == shown[line - 1][place]
            found.append(Cell(shown[line][place], _interval(row, column), (line, place) in bold, repeats))
        rows.append(found)
    return rows


def rules(table: Table) -> list[bool]:
    """Return before which rows a rule is drawn."""
    if not table.ruled:
        return [bool(table.row_groups) and line > 0 and not row[0].repeats for line, row in enumerate(cells(table))]
    names = list(table.ruled)
    keys = table.frame[names].astype(object).where(table.frame[names].notna(), None).to_numpy().tolist()
    return [line > 0 and keys[line] != keys[line - 1] for line in range(len(keys))]


def texts(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows as plain text; a group's heading leads its columns'."""
    return [column.title for column in table.columns], [[cell.text for cell in row] for row in cells(table)]


def _text(row: dict[str, Any], column: Column) -> str:
    if pd.isna(row[column.name]) and column.otherwise and pd.notna(row[column.otherwise]):
        return str(row[column.otherwise])
    return formatted(row[column.name], column.format)


def formatted(value: Any, form: str) -> str:
    """Return a value as text: numbers in the format, text as it is, a dash for null.

    >>> formatted(0.5, ".0%"), formatted(3.0, "d"), formatted(2.50, ""), formatted("text", ".3f"), formatted(None, "")
    ('50%', '3', '2.5', 'text', '-')
    """
    if pd.isna(value):
        return MISSING
    if isinstance(value, (str, bool, np.bool_)):
        return str(value)
    if isinstance(value, float):  # a column of whole numbers with a null is one of floats to pandas
        return format(value, form.replace("d", ".0f") or "g")
    return format(value, form)


def _interval(row: dict[str, Any], column: Column) -> str:
    if not column.interval or pd.isna(row[column.name]):
        return ""
    low, high = (formatted(row[f"{column.name}_{end}"], column.format) for end in ("low", "high"))
    return "" if low == high == MISSING else f"[{low}, {high}]"


def _best(table: Table, records: list[dict[str, Any]], shown: list[list[str]]) -> set[tuple[int, int]]:
    """Return the (row, column) of every cell that is the best of two or more that compete."""
    contests: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for place, column in enumerate(table.columns):
        for line, row in enumerate(records):
            if column.best and pd.notna(row[column.name]):
                among = tuple(shown[line][: len(table.row_groups)])
                contest = ("row", column.rivals, line) if column.rivals else ("column", place, *among)
                contests.setdefault(contest, []).append((line, place))
    found = set()
    for contenders in contests.values():
        column = table.columns[contenders[0][1]]
        choose = max if column.best == "high" else min
        line, place = choose(contenders, key=lambda at: records[at[0]][table.columns[at[1]].name])
        equal = {at for at in contenders if shown[at[0]][at[1]] == shown[line][place]}
        found |= equal if len(equal) < len(contenders) else set()  # where all are equal none stands out
    return found
