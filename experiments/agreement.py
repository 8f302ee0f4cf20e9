"""Holds tables against the expected ones: every figure with an interval has to lie within the expected interval."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

import neuronlens as nl

TOLERANCE = 5e-4
"""Expected figures are kept with four significant digits; a difference in the last of them is none."""


def keep_expected(tables: Path, expected: Path) -> None:
    """Write every table's CSV as the expected one, four significant digits."""
    shutil.rmtree(expected, ignore_errors=True)
    expected.mkdir(parents=True)
    for path in sorted(tables.glob("*.csv")):
        pd.read_csv(path).to_csv(expected / path.name, index=False, float_format="%.4g")


def agreement(tables: Path, expected: Path) -> tuple[str, int]:
    """Return a sentence on how tables agree with the expected ones, and how many figures do not."""
    if not expected.is_dir():
        return f"There are no expected figures in {expected}; keep=true writes them.", 0
    inside, outside = 0, []
    for path in sorted(expected.glob("*.csv")):
        found, missed = compared(pd.read_csv(tables / path.name), pd.read_csv(path))
        inside += found
        outside += [f"{path.stem}: {entry}" for entry in missed]
    summary = f"{inside} of {inside + len(outside)} figures lie within their expected intervals ({expected})"
    return "\n".join([summary, *outside[:20]]), len(outside)


def compared(now: pd.DataFrame, expected: pd.DataFrame) -> tuple[int, list[str]]:
    """Return how many figures lie within the expected interval, and those that do not, one by one.

    Rows are found by their text columns and the knobs; a row that is not there any more is listed too.
    """
    measured = [name.removesuffix("_low") for name in expected if name.endswith("_low")]
    knobs = [name for name in KNOBS if name not in measured]
    keys = [name for name in expected if not pd.api.types.is_numeric_dtype(expected[name]) or name in knobs]
    rows = {_key(row, keys): row for row in now.to_dict("records")}
    inside, outside = 0, []
    for row in expected.to_dict("records"):
        key = _key(row, keys)
        if key not in rows:
            outside.append(f"no row {key}")
            continue
        for name in measured:
            low, high, value = row[f"{name}_low"], row[f"{name}_high"], rows[key][name]
            if pd.isna(low):  # nothing is expected where there was no interval
                continue
            slack = TOLERANCE * max(abs(low), abs(high))
            if low - slack <= value <= high + slack:
                inside += 1
            else:
                outside.append(f"{key} {name} {value:.4g}, expected [{low:.4g}, {high:.4g}]")
    return inside, outside


KNOBS = (*nl.RESULTS.method, "neurons", "erased", "budget")


def _key(row: dict[str, object], keys: list[str]) -> tuple[str, ...]:
    return tuple(f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]) for name in keys)
