"""Tables as LaTeX floats; `booktabs` is the only package that they need, and their text is pure ASCII."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from neuronlens.report.cells import MISSING, Cell, cells, rules
from neuronlens.report.render.latex_text import escape
from neuronlens.report.table import Column, Table, is_number

PORTRAIT = 80
"""Characters of a row that a portrait page holds at small size."""
LANDSCAPE = 190
"""And a landscape page at script size."""
ROWS_ON_A_PAGE = 36


def to_latex(table: Table) -> str:
    """Return the table as a float.

    A table wider than a portrait page at small size is set in script size or less with narrow gaps, and its first line
    asks for landscape.
    """
    characters = _characters(table)
    wide, size = characters > PORTRAIT, "tiny" if characters > LANDSCAPE else "scriptsize"
    aligned = "".join(
        f"p{{{column.wrap_cm:g}cm}}" if column.wrap_cm else "r" if right else "l"
        for column, right in zip(table.columns, table.right_aligned, strict=True)
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
        *_groups(table.columns),
        _row(escape(column.heading) for column in table.columns),
        r"\midrule",
        *_body(table),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escape(note)}}}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def pages(table: Table, rows: int = ROWS_ON_A_PAGE) -> list[Table]:
    """Return a table cut into numbered ones of at most so many rows, for a float cannot pass the end of a page."""
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


def _characters(table: Table) -> int:
    """Return about how many characters a row is wide."""
    headings = [column.heading for column in table.columns]
    rows = [[cell.whole for cell in row] for row in cells(table)]
    return sum(max(map(len, column)) + 2 for column in zip(headings, *rows, strict=True))


def _row(entries: Iterable[str]) -> str:
    return " & ".join(entries) + r" \\"


def _groups(columns: tuple[Column, ...]) -> list[str]:
    """Return the line of group headings and the rules under them; nothing where no column has a group."""
    if not any(column.group for column in columns):
        return []
    headings, lines, first = [], [], 1
    for group, run in itertools.groupby(columns, key=lambda column: column.group):
        width = len(list(run))
        if group:
            headings.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
            lines.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        else:
            headings += [""] * width
        first += width
    return [_row(headings), "".join(lines)]


def _body(table: Table) -> Iterator[str]:
    numbers = [is_number(column, table.frame) for column in table.columns]
    for row, ruled in zip(cells(table), rules(table), strict=True):
        if ruled:
            yield r"\midrule"
        yield _row(
            _cell(cell, column, number) for cell, column, number in zip(row, table.columns, numbers, strict=True)
        )


def _cell(cell: Cell, column: Column, number: bool) -> str:
    if cell.repeats:
        return ""
    value = "--" if cell.value == MISSING else _minus(cell.value) if number else escape(cell.value)
    value = rf"\textbf{{{value}}}" if cell.bold else value
    value += f" {_minus(cell.behind)}" if cell.behind else ""
    return rf"\rightskip=0pt plus 1fil\relax {value}" if column.wrap_cm else value  # ragged; \raggedright takes \\ away


def _minus(number: str) -> str:
    return escape(number).replace("{[}", "[").replace("-", "$-$")
