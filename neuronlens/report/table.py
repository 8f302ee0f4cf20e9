"""Tables for papers and pages: one record, written as Markdown, CSV and LaTeX (booktabs)."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from neuronlens.errors import ConfigError, unknown
from neuronlens.report.render.latex import escape
from neuronlens.storage.files import write_atomically

MISSING = "-"
PORTRAIT = 80
"""Characters of a row that a portrait page holds at small size."""
LANDSCAPE = 190
"""And a landscape page at script size."""


@dataclass(frozen=True)
class PaperColumn:
    """How one column of a table's frame is shown to people.

    Attributes:
        name: the frame's column; where `interval` is set `<name>_low` and `<name>_high` stand behind the value.
        heading: over the column.
        group: a second heading over neighbouring columns of the same group; empty for none.
        format: of a number, as Python's `format` takes it (`.3f`, `+.3f`, `.0%`, `d`); text is shown as it is.
        best: which value is printed bold, `high` or `low`; ties as printed are all bold; empty for none.
        rivals: a word; columns that share it compete within each row. Empty: the rows of a row group compete.
        wrap_cm: width in LaTeX of a column of long text, which is then broken into lines; 0 for none.
    """

    name: str
    heading: str
    group: str = ""
    format: str = ""
    interval: bool = False
    best: Literal["", "high", "low"] = ""
    rivals: str = ""
    wrap_cm: float = 0.0


@dataclass(frozen=True)
class PaperTable:
    """A table and how it is laid out.

    Attributes:
        name: stem of the files and the LaTeX label (`tab:<name>`): letters, digits, `-`, `_` and `.`.
        title: its heading in Markdown, the first words of its caption in LaTeX.
        caption: what is shown; one paragraph.
        frame: raw numbers and text in tidy columns, all of which go to the CSV; rows in the order shown.
        columns: those shown, left to right.
        row_groups: the first shown columns' names whose value is printed once per run of equal rows (model, dataset);
            a rule is drawn where the first of them changes.
        notes: below the table, one paragraph each.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[PaperColumn, ...]
    row_groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the layout against the frame.

        Raises:
            ConfigError: a column that the frame does not hold, a name that is no file stem, misplaced row groups.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ConfigError(f"A table's name is a file stem of letters, digits, '-', '_' and '.'; got '{self.name}'.")
        if not self.columns:
            raise ConfigError(f"Table '{self.name}' shows no column. Expected one PaperColumn or more.")
        for column in self.columns:
            ends = [f"{column.name}_low", f"{column.name}_high"] if column.interval else []
            for needed in (column.name, *ends):
                if needed not in self.frame.columns:
                    raise ConfigError(unknown(f"column of table '{self.name}'", needed, map(str, self.frame.columns)))
        first = tuple(column.name for column in self.columns[: len(self.row_groups)])
        if first != tuple(self.row_groups):
            raise ConfigError(f"Row groups are the first columns shown; got {self.row_groups}, expected {first}.")


@dataclass(frozen=True)
class _Cell:
    """A cell as text: the value, the interval behind it, and whether the value stands out or repeats the one above."""

    value: str
    behind: str = ""
    bold: bool = False
    repeats: bool = False


def as_text(table: PaperTable) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows as plain text, for a terminal; a group's heading leads its columns'."""
    headings = [f"{column.group}: {column.heading}" if column.group else column.heading for column in table.columns]
    rows = [["" if cell.repeats else f"{cell.value} {cell.behind}".rstrip() for cell in row] for row in _cells(table)]
    return headings, rows


def to_markdown(table: PaperTable) -> str:
    """Return the table as a Markdown section: title, caption, table, notes; a group's heading leads its columns'."""
    headings, _ = as_text(table)
    lines = ["| " + " | ".join(_marked(heading) for heading in headings) + " |"]
    lines.append("|" + "|".join("---:" if number else "---" for number in _numeric(table)) + "|")
    for row in _cells(table):
        lines.append("| " + " | ".join(_markdown_cell(cell) for cell in row) + " |")
    parts = [f"## {_marked(table.title)}", _marked(table.caption), "\n".join(lines), *map(_marked, table.notes)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(table: PaperTable) -> str:
    """Return every column of the table's frame as CSV, numbers at full precision, nulls empty."""
    plain = str(table.frame.to_csv(index=False, lineterminator="\n"))
    if "\r" not in plain:
        return plain
    # The csv module leaves a lone carriage return unquoted, where readers take it for the end of a row.
    return str(table.frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))


def to_latex(table: PaperTable) -> str:
    """Return the table as a LaTeX float; `booktabs` is the only package it needs, and its text is pure ASCII.

    A table wider than a portrait page at small size is set in script size or less with narrow gaps, and says that it wants
    landscape.
    """
    characters = _characters(table)
    wide, size = characters > PORTRAIT, "tiny" if characters > LANDSCAPE else "scriptsize"
    aligned = "".join(
        f"p{{{column.wrap_cm:g}cm}}" if column.wrap_cm else "r" if number else "l"
        for column, number in zip(table.columns, _numeric(table), strict=True)
    )
    lines = [
        "% needs \\usepackage{booktabs}" + ("; wide: in landscape or as sidewaystable" if wide else ""),
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{\textbf{{{escape(table.title)}.}} {escape(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        r"\par\medskip" + (rf"\{size}\setlength{{\tabcolsep}}{{3pt}}" if wide else r"\small"),
        rf"\begin{{tabular}}{{@{{}}{aligned}@{{}}}}",
        r"\toprule",
        *_latex_groups(table.columns),
        _latex_row(escape(column.heading) for column in table.columns),
        r"\midrule",
        *_latex_body(table),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape(note)}}}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def pages(table: PaperTable, rows: int = 36) -> list[PaperTable]:
    """Return a table cut into numbered ones of at most so many rows, for LaTeX, where a float cannot pass a page."""
    starts = range(0, len(table.frame), rows)
    if len(starts) < 2:
        return [table]
    return [
        replace(
            table,
            name=f"{table.name}-{number}",
            title=f"{table.title} ({number} of {len(starts)})",
            frame=table.frame.iloc[start : start + rows],
        )
        for number, start in enumerate(starts, 1)
    ]


def _characters(table: PaperTable) -> int:
    """Return about how many characters a row is wide."""
    headings = [column.heading for column in table.columns]
    rows = [[f"{cell.value} {cell.behind}".rstrip() for cell in row] for row in _cells(table)]
    return sum(max(map(len, texts)) + 2 for texts in zip(headings, *rows, strict=True))


def write(table: PaperTable, folder: Path) -> list[Path]:
    """Write `<name>.md`, `<name>.csv` and `<name>.tex` into a folder, each atomically, and return their paths.

    The LaTeX of a long table is several floats, one to a page.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    latex = "\n".join(to_latex(page) for page in pages(table))
    for ending, text in (("md", to_markdown(table)), ("csv", to_csv(table)), ("tex", latex)):
        path = Path(folder) / f"{table.name}.{ending}"
        write_atomically(path, text.encode())
        written.append(path)
    return written


def _numeric(table: PaperTable) -> list[bool]:
    return [
        bool(column.format) or column.interval or pd.api.types.is_numeric_dtype(table.frame[column.name])
        for column in table.columns
    ]


def _cells(table: PaperTable) -> list[list[_Cell]]:
    """Return the shown cells as text, `[row][column]`, before any markup."""
    records = table.frame.to_dict("records")
    shown = [[_text(row[column.name], column.format) for column in table.columns] for row in records]
    bold = _best(table, records, shown)
    rows: list[list[_Cell]] = []
    for line, row in enumerate(records):
        cells: list[_Cell] = []
        repeats = line > 0
        for place, column in enumerate(table.columns):
            repeats = repeats and place < len(table.row_groups) and shown[line][place] == shown[line - 1][place]
            cells.append(_Cell(shown[line][place], _interval(row, column), (line, place) in bold, repeats))
        rows.append(cells)
    return rows


def _text(value: Any, form: str) -> str:
    if pd.isna(value):
        return MISSING
    if isinstance(value, (str, bool, np.bool_)):
        return str(value)
    if isinstance(value, float):  # a column of whole numbers with a null is one of floats to pandas
        return format(value, form.replace("d", ".0f") or "g")
    return format(value, form)


def _interval(row: dict[str, Any], column: PaperColumn) -> str:
    if not column.interval or pd.isna(row[column.name]):
        return ""
    low, high = (_text(row[f"{column.name}_{end}"], column.format) for end in ("low", "high"))
    return "" if low == high == MISSING else f"[{low}, {high}]"


def _best(table: PaperTable, records: list[dict[str, Any]], shown: list[list[str]]) -> set[tuple[int, int]]:
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


def _marked(text: str) -> str:
    """Return text that Markdown shows as it is, on one line and within one table cell."""
    line = re.sub(r"([\\`*\[\]|])|(?<![^\W_])(_)|(_)(?![^\W_])", lambda found: "\\" + found[0], " ".join(text.split()))
    return re.sub(r"&(?=#?\w+;)", "&amp;", line).replace("<", "&lt;")


def _markdown_cell(cell: _Cell) -> str:
    if cell.repeats:
        return ""
    value = _marked(cell.value)
    return (f"**{value}**" if cell.bold else value) + (f" {cell.behind}" if cell.behind else "")


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_groups(columns: tuple[PaperColumn, ...]) -> list[str]:
    """Return the line of group headings and the rules under them; nothing where no column has a group."""
    if not any(column.group for column in columns):
        return []
    cells, rules, first = [], [], 1
    for group, run in itertools.groupby(columns, key=lambda column: column.group):
        width = len(list(run))
        if group:
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
            rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        else:
            cells += [""] * width
        first += width
    return [_latex_row(cells), "".join(rules)]


def _latex_body(table: PaperTable) -> Iterator[str]:
    numeric = _numeric(table)
    for line, row in enumerate(_cells(table)):
        if line and table.row_groups and not row[0].repeats:
            yield r"\midrule"
        yield _latex_row(
            _latex_cell(cell, column, number) for cell, column, number in zip(row, table.columns, numeric, strict=True)
        )


def _latex_cell(cell: _Cell, column: PaperColumn, number: bool) -> str:
    if cell.repeats:
        return ""
    value = "--" if cell.value == MISSING else _minus(cell.value) if number else escape(cell.value)
    value = rf"\textbf{{{value}}}" if cell.bold else value
    value += f" {_minus(cell.behind)}" if cell.behind else ""
    return rf"\rightskip=0pt plus 1fil\relax {value}" if column.wrap_cm else value  # ragged; \raggedright takes \\ away


def _minus(number: str) -> str:
    return escape(number).replace("{[}", "[").replace("-", "$-$")
