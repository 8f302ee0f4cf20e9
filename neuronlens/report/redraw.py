"""Draws a finished run's tables, figures and page again, from its files alone."""

from __future__ import annotations

from pathlib import Path

from neuronlens.execution.console import wide_console
from neuronlens.measures.intervals import Bootstrap
from neuronlens.report.figures.draw import draw
from neuronlens.report.page.write import write_page
from neuronlens.report.render.console import to_console
from neuronlens.report.tables.comparison import headline_table, verdict
from neuronlens.report.tables.document import markdown
from neuronlens.report.tables.summary import summarise
from neuronlens.results.folder import RunFolder


def redraw(path: Path) -> None:
    """Write `table.md`, `summary.json`, `report.html` and the figures of a run folder again, and print its comparison.

    The tau of the verdict and the intervals are those of the run's own config.

    Raises:
        OutputError: not the folder of a finished run.
    """
    folder = RunFolder(path)
    table, manifest = folder.read_results(), folder.read_record("manifest.json")
    folder.claim()
    bootstrap = Bootstrap.recorded(manifest)
    tau = manifest["config"]["range"].get("tau")
    tau = None if tau is None else float(tau)  # an infinite one is text in JSON
    folder.write_text("table.md", markdown(table, tau, bootstrap))
    folder.write_record("summary.json", summarise(table, tau, bootstrap))
    drawn = draw(folder, table, bootstrap)
    page = write_page(folder, table, manifest, bootstrap)
    console = wide_console()
    console.print(to_console(headline_table(table, tau, bootstrap)))
    console.print(verdict(table, tau))
    for written in (page, path / "table.md", *drawn):
        console.print(str(written), soft_wrap=True)
