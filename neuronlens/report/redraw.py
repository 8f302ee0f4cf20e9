"""Draws a finished run's tables, figures and page again, from its files alone."""

from __future__ import annotations

from pathlib import Path

from neuronlens.execution.console import wide_console
from neuronlens.report.drawing import draw_run
from neuronlens.report.tables import console_table, markdown, summarise, verdict
from neuronlens.results.folder import RunFolder


def redraw(path: Path) -> None:
    """Write `table.md`, `summary.json`, `report.html` and the figures of a run folder again, and print its comparison.

    Without the extra `report` the page and the figures are left out, with the sentence that says so.

    Raises:
        OutputError: not the folder of a finished run.
    """
    folder = RunFolder(path)
    table, manifest = folder.read_results(), folder.read_record("manifest.json")
    config = manifest["config"]
    folder.claim()
    tau = config["range"].get("tau")
    tau = None if tau is None else float(tau)  # an infinite one is text in JSON
    folder.write_text("table.md", markdown(table, tau))
    folder.write_record("summary.json", summarise(table, tau, int(table.base["concepts"])))
    level, seed = config["evaluation"]["level"], config["seed"]
    drawn, left_out = draw_run(folder, table, manifest, level=level, seed=seed)
    console = wide_console()
    console.print(console_table(table, tau))
    console.print(verdict(table, tau))
    for written in (*drawn[:1], path / "table.md", *drawn[1:], *left_out):
        console.print(str(written), soft_wrap=True, markup=False)
