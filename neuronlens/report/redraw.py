"""Draws a finished run's tables, figures and page again, from its files alone."""

from __future__ import annotations

from pathlib import Path

from neuronlens.execution.console import wide_console
from neuronlens.measures.intervals import Bootstrap
from neuronlens.report.drawing import draw_run
from neuronlens.report.message import message
from neuronlens.report.render.console import MOST_LINES, to_console
from neuronlens.report.tables.comparison import headline_table
from neuronlens.report.tables.document import write_tables
from neuronlens.report.tables.summary import summarise
from neuronlens.results.folder import RunFolder


def redraw(path: Path) -> None:
    """Write the tables, `summary.json`, `report.html` and the figures of a run folder again, and print its comparison.

    The tau of the comparison and the intervals are those of the run's own config. Without the extra `report` the page and
    the figures are left out, with the sentence that says so.

    Raises:
        OutputError: not the folder of a finished run.
    """
    folder = RunFolder(path)
    manifest, table = folder.read_manifest(), folder.read_results()
    config = manifest.known_config
    folder.claim()
    bootstrap, tau = Bootstrap.of(config), config.headline_tau
    write_tables(folder, table, config)
    folder.write_summary(summarise(table, config))
    drawn, left_out = draw_run(folder, table, manifest, bootstrap)
    console = wide_console()
    if manifest.unknown_settings:
        left = ", ".join(manifest.unknown_settings)
        console.print(f"This version of neuronlens does not know these settings of the run: {left}.", markup=False)
    if len(table.comparison):
        console.print(to_console(headline_table(table, tau, bootstrap), most=MOST_LINES, rest="table.md"))
    console.print(message(table, config), markup=False, highlight=False)
    for written in (*drawn[:1], path / "table.md", *drawn[1:], *left_out):
        console.print(str(written), soft_wrap=True, markup=False)
