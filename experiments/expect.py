"""Writes a finished run's table of methods as the expected figures of an experiment."""

from __future__ import annotations

import sys
from pathlib import Path

import neuronlens as nl

HERE = Path(__file__).resolve().parent / "expected"


def main(run_folder: str, name: str) -> None:
    """Write `expected/<name>.csv` from a run folder, four significant digits."""
    methods = nl.RunFolder(Path(run_folder)).read_results().methods
    path = HERE / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    methods.dropna(axis=1, how="all").to_csv(path, index=False, float_format="%.4g")
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
