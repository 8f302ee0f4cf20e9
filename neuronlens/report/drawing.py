"""Draws a finished run's figures and page where the libraries for them are installed, and says what is missing where not."""

from __future__ import annotations

from pathlib import Path

from neuronlens.config.extras import to_install
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest


def draw_run(
    folder: RunFolder, table: ResultTable, manifest: Manifest, bootstrap: Bootstrap
) -> tuple[list[Path], list[str]]:
    """Write `report.html` and `figures/` of a run folder whose tables and arrays are written.

    Args:
        bootstrap: of the intervals over concepts.

    Returns:
        The files to look at, the page first, and a sentence on what was left out; one of the two is empty.
    """
    left_out = to_install("Left out: report.html and figures/. Drawing them", "report")
    if left_out:
        return [], [f"{left_out}, then neuronlens report {folder.path}"]
    from neuronlens.report.figures.draw import draw
    from neuronlens.report.page.write import write_page

    drawn = draw(folder, table, bootstrap, manifest.known_config.headline_tau)
    return [write_page(folder, table, manifest, bootstrap), *drawn], []
