"""The figures of a run, drawn from its files alone."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.report.figures.grid import DPI
from neuronlens.report.figures.held_out import firing_rates, overlaps
from neuronlens.report.figures.methods import layers_by_tau, methods
from neuronlens.report.figures.neurons import neurons, quantiles
from neuronlens.report.figures.tradeoff import tradeoff
from neuronlens.results.folder import RunFolder


def draw(folder: RunFolder, table: ResultTable, bootstrap: Bootstrap, tau: float | None = None) -> list[Path]:
    """Draw every figure of a run as PNG and SVG, none of them over 6,000 px, and return the paths of the PNGs.

    Args:
        bootstrap: of the intervals over concepts.
        tau: the configured one, whose range mask has the range's own colour.
    """
    figures = {"tradeoff": tradeoff(table.rows, bootstrap, tau), "neurons": neurons(folder), "qq": quantiles(folder)}
    diagnostics, overlap = folder.read_diagnostics()
    if len(diagnostics):
        figures["firing"] = firing_rates(diagnostics)
    if len(overlap):
        figures["overlap"] = overlaps(overlap)
    if len(table.methods):
        figures["methods"] = methods(table.methods, tau)
        square = layers_by_tau(table.methods)
        if square is not None:
            figures["layers_by_tau"] = square
    drawn = []
    # The same run draws the same bytes: no date, ids within the file from a salt of ours. Text stays text, to be edited.
    with rc_context({"svg.hashsalt": "neuronlens", "svg.fonttype": "none"}):
        for name, figure in figures.items():
            path = folder.figures / f"{name}.png"
            figure.savefig(path, dpi=DPI)
            figure.set_layout_engine("none")  # laid out once; the second file takes the same places
            figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
            drawn.append(path)
    return drawn
