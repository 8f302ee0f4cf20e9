"""Writes and reads the tables of a run folder."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from neuronlens.errors import OutputError, reason
from neuronlens.measures.columns import RESULTS
from neuronlens.records import ResultTable
from neuronlens.storage.files import write_atomically, write_json

OPTIONAL = ("general", "doses", "budget", "budget_comparison", "budget_methods")
"""Tables of `ResultTable` that a run may lack."""


def write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a table as `<name>.parquet`."""
    write_atomically(folder / f"{name}.parquet", table.to_parquet(index=False))


def read_table(folder: Path, name: str) -> pd.DataFrame | None:
    """Return the table of `<name>.parquet`, or None where the run has none."""
    path = folder / f"{name}.parquet"
    return pd.read_parquet(path) if path.is_file() else None


def _completed(folder: Path, name: str) -> pd.DataFrame | None:
    """Return a table with the columns of today's results, null where an older version did not write them."""
    found = read_table(folder, name)
    return None if found is None else RESULTS.completed(found)


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""


def quoted(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in whose texts no spreadsheet finds a formula: an apostrophe stands in front of each that would be one.

    >>> quoted(pd.DataFrame({"concept": ["=1+1", "a"], "kl": [-1.0, 2.0]}))["concept"].tolist()
    ["'=1+1", 'a']
    """
    return table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell)


def write_results(folder: Path, table: ResultTable, *, safe_csv: bool = False) -> None:
    """Write every table of the results as parquet, the rows as CSV too, and the unedited model's means."""
    write_table(folder, "results", table.rows)
    write_atomically(
        folder / "results.csv", (quoted(table.rows) if safe_csv else table.rows).to_csv(index=False).encode()
    )
    write_table(folder, "matched", table.matched)
    write_table(folder, "comparison", table.comparison)
    write_table(folder, "methods", table.methods)
    if len(table.operating_points):
        write_table(folder, "operating_points", table.operating_points)
    for name in OPTIONAL:
        found = getattr(table, name)
        if found is not None:
            write_table(folder, name, found)
    write_json(folder / "base.json", table.base)


def read_results(folder: Path) -> ResultTable:
    """Return the tables of a finished run.

    Raises:
        OutputError: not a run folder, or not finished.
    """
    absent = [name for name in ("base.json", "results.parquet") if not (folder / name).is_file()]
    if absent:
        raise OutputError(f"'{folder}' is not the folder of a finished run: it holds no {' and no '.join(absent)}.")
    try:
        base = json.loads((folder / "base.json").read_text())
        if not isinstance(base, dict):
            raise ValueError("base.json holds no JSON object")
        always = [
            RESULTS.completed(pd.read_parquet(folder / f"{name}.parquet"))
            for name in ("results", "matched", "comparison", "methods")
        ]
        points = _completed(folder, "operating_points")
        optional = {name: _completed(folder, name) for name in OPTIONAL}
    except (OSError, ValueError) as error:
        raise OutputError(
            f"'{folder}' is not the folder of a finished run: {reason(error)}. Expected results.parquet and base.json in it."
        ) from error
    rows, matched, comparison, methods = always
    points = pd.DataFrame() if points is None else points
    return ResultTable(rows, matched, comparison, methods, points, base, **optional)
