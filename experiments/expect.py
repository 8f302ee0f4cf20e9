"""Writes a finished run's figures as the expected ones of an experiment."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import neuronlens as nl

HERE = Path(__file__).resolve().parent / "expected"
DROPS = [name for name in nl.RESULTS.measures if name.endswith("_drop")]


def main(run_folder: str, name: str) -> None:
    """Write `expected/<name>.csv` (methods at matched erasure) from a run folder, four significant digits.

    Where the run measured general ability, `<name>-general.csv` beside it has that, and `<name>-cells.csv` the drops of
    every cell, means over concepts with their intervals over concepts.
    """
    folder = nl.RunFolder(Path(run_folder))
    table = folder.read_results()
    HERE.mkdir(exist_ok=True)
    _write(table.methods.dropna(axis=1, how="all"), name)
    if table.general is not None:
        _write(pd.DataFrame(folder.read_summary()["general"]).dropna(axis=1, how="all"), f"{name}-general")
        bootstrap = nl.Bootstrap.of(folder.read_manifest().known_config)
        _write(_cells(table.rows, bootstrap), f"{name}-cells")


def _cells(rows: pd.DataFrame, bootstrap: nl.Bootstrap) -> pd.DataFrame:
    done = rows[rows["skipped"].isna()]
    base = done[done["edit"] == "none"]
    found = [{"edit": "none", "concepts": len(base), "base_accuracy": base["concept_accuracy"].mean()}]
    edited = done[done["edit"] != "none"]
    swept = [knob for knob in nl.RESULTS.method if edited[knob].nunique(dropna=False) > 1]
    knobs = [knob for knob in swept if knob not in ("layers", "n_neurons")]
    for key, own in edited.groupby(knobs, dropna=False):
        row = dict(zip(knobs, key, strict=True)) | {"concepts": len(own)}
        for name in DROPS:
            row |= bootstrap.of_mean(own[name].to_numpy()).columns(name)
        found.append(row)
    return pd.DataFrame(found)


def _write(table: pd.DataFrame, name: str) -> None:
    path = HERE / f"{name}.csv"
    table.to_csv(path, index=False, float_format="%.4g")
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
