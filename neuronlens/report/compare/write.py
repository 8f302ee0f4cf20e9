"""A comparison of runs as files and for a terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.table import Table as RichTable

from neuronlens.report.compare.compare import Comparison
from neuronlens.report.render.console import to_console
from neuronlens.report.render.files import floats, write_texts
from neuronlens.report.render.markdown import to_markdown

ROWS_ON_A_SCREEN = 12


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `compare.md`, `compare.csv` (all tables, tidy, the table's name in `part`) and `compare.tex`; return their paths.

    Raises:
        OutputError: the folder cannot be written.
    """
    remarks = "\n".join(f"- {sentence}" for sentence in comparison.remarks)
    frames = [table.frame.assign(part=table.name.removeprefix("compare-")) for table in comparison.tables[1:]]
    whole = pd.concat(frames, ignore_index=True)
    whole = whole[["part", *(name for name in whole.columns if name != "part")]]
    found = {
        "md": "\n".join(["# Runs compared", "", remarks, "", *map(to_markdown, comparison.tables)]),
        "csv": whole.to_csv(index=False),
        "tex": floats(comparison.tables),
    }
    return write_texts(found, folder, "compare")


def console_tables(comparison: Comparison) -> list[RichTable]:
    """Return the comparison for a terminal: long tables cut, without the means behind each difference."""
    found = []
    for table in comparison.tables:
        kept = tuple(column for column in table.columns if not column.name.endswith(("_reference", "_run")))
        found.append(to_console(replace(table, columns=kept), most=ROWS_ON_A_SCREEN, rest="compare.md"))
    return found
