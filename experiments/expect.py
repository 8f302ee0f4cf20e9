"""Writes a finished run's figures as the expected ones of an experiment."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

import neuronlens as nl

HERE = Path(__file__).resolve().parent / "expected"
KNOBS = ["layer", "gate", "range", "tau", "edit", "top_fraction"]
DROPS = [f"{side}_{what}_drop" for side in ("concept", "complement") for what in ("accuracy", "confidence")]


def main(run_folder: str, name: str) -> None:
    """Write `expected/<name>.csv` (methods at matched erasure) from a run folder, four significant digits.

    Where the run measured general ability, `<name>-general.csv` beside it has that, and `<name>-cells.csv` the drops of
    every cell, means over concepts with their 95 % bootstrap intervals over concepts.
    """
    folder = nl.RunFolder(Path(run_folder))
    table = folder.read_results()
    HERE.mkdir(exist_ok=True)
    _write(table.methods.dropna(axis=1, how="all"), name)
    if table.general is not None:
        _write(pd.DataFrame(folder.read_summary()["general"]).dropna(axis=1, how="all"), f"{name}-general")
        _write(_cells(table.rows), f"{name}-cells")


def _cells(rows: pd.DataFrame) -> pd.DataFrame:
    done = rows[rows["skipped"].isna()]
    base = done[done["edit"] == "none"]
    found = [{"edit": "none", "concepts": len(base), "base_accuracy": base["concept_accuracy"].mean()}]
    for key, own in done[done["edit"] != "none"].groupby(KNOBS, dropna=False):
        row = dict(zip(KNOBS, key, strict=True)) | {"concepts": len(own)}
        drawn = np.random.default_rng(0).integers(len(own), size=(1000, len(own)))
        for name in DROPS:
            values = own[name].to_numpy()
            low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
            row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        found.append(row)
    return pd.DataFrame(found)


def _write(table: pd.DataFrame, name: str) -> None:
    path = HERE / f"{name}.csv"
    table.to_csv(path, index=False, float_format="%.4g")
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
