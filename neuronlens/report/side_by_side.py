"""What `neuronlens compare` does: reads finished runs, prints and writes how they differ and which claims they bear out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from neuronlens.execution.console import wide_console
from neuronlens.report.claims.claims import write_claims
from neuronlens.report.compare.compare import compare
from neuronlens.report.compare.runs import read_runs
from neuronlens.report.compare.write import console_tables, write_comparison

HOME = Path("outputs") / "compare"


def put_side_by_side(paths: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Print the comparison of finished runs, the first being the reference, and write it with the claims page.

    Args:
        output: the folder to write; `outputs/compare/<date_time>` where it is None.

    Returns:
        The files written: compare and claims, each as .md, .csv and .tex.

    Raises:
        NeuronLensError: a folder given twice.
        OutputError: not the folder of a finished run, or `output` cannot be written.
    """
    runs = read_runs(paths)
    comparison = compare(runs)
    folder = output or HOME / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    written = [*write_comparison(comparison, folder), *write_claims([run.folder for run in runs], folder)]
    console = wide_console()
    for sentence in comparison.remarks:
        console.print(f"- {sentence}", markup=False, highlight=False)
    for table in console_tables(comparison):
        console.print(table)
    for path in written:
        console.print(str(path), soft_wrap=True, markup=False)
    return written
