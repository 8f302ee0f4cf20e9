"""Sweeps one group of sites: the grid, then finer doses where a wanted erasure is first reached."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from neuronlens.activations.extract import Extraction
from neuronlens.config.schema import Config
from neuronlens.edits.fitting import Fitted
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import BoolArray, Cell, IntArray, Site
from neuronlens.storage.cache import Store
from neuronlens.sweep.doses import Split, dose_curves, search
from neuronlens.sweep.evaluator import Outcomes
from neuronlens.sweep.runner import SiteRunner, SiteSweep, Splits


def sweep_group(
    config: Config,
    loaded: LoadedModel,
    sites: tuple[Site, ...],
    fitted: Mapping[Site, Fitted],
    splits: Splits,
    store: Store | None = None,
) -> SiteSweep:
    """Return the outcomes of every cell at one group of sites, with finer doses where `evaluation.refine` asks for them.

    Cells that cannot be fitted are set aside with their reason.

    Args:
        store: where outcomes are kept and found again; None keeps nothing.
    """
    runner = SiteRunner(config, loaded, sites, fitted, splits, store)
    found = runner.run(runner.grid(), announce=True)
    return replace(found, finer=_finer(runner, found) if config.evaluation.refine else None)


def _finer(runner: SiteRunner, grid: SiteSweep) -> SiteSweep | None:
    """Return the doses found by the search on test, and on select where operating points are chosen there."""
    evaluation = runner.config.evaluation
    curves = dose_curves(grid.cells, grid.n_neurons, len(grid.sites))
    reads = [_Reading(runner.splits.test, grid.sites[0], grid.samples)]
    if grid.select is not None and runner.splits.select is not None:
        reads.append(_Reading(runner.splits.select, grid.sites[0]))
    _add(reads, grid)
    parts: list[SiteSweep] = []

    def evaluate(cells: list[Cell]) -> Collection[Cell]:
        """Run cells, keep their sweep and read how far they erase."""
        part = runner.run(cells)
        _add(reads, part)
        parts.append(part)
        return part.skipped

    finer = search(
        curves,
        [read.split for read in reads],
        evaluation.erasure_levels,
        most=evaluation.refine_cells,
        evaluate=evaluate,
    )
    if not finer.cells:
        return None
    selected = [part.select for part in parts if part.select is not None]
    return replace(
        grid,
        cells=finer.cells,
        skipped={},
        n_neurons={cell: number for part in parts for cell, number in part.n_neurons.items()},
        outcomes=Outcomes.joined([part.outcomes for part in parts]),
        select=Outcomes.joined(selected) if selected else None,
        offered=finer.asked[1] if selected else None,
    )


class _Reading:
    """One split and which of its samples belong to which concept."""

    def __init__(self, extraction: Extraction, site: Site, samples: IntArray | None = None) -> None:
        activations = extraction.activations[site]
        assert extraction.prediction is not None, "every split that is swept is run to the head"
        labels, right = activations.labels, extraction.prediction == activations.labels
        if samples is not None:
            labels, right = labels[samples], right[samples]
        self.members: list[BoolArray] = [labels == concept for concept in range(len(activations.concepts))]
        base = np.array([right[own].mean() if own.any() else np.nan for own in self.members])
        self.split = Split(base, {})

    def add(self, cells: Sequence[Cell], outcomes: Outcomes) -> None:
        """Keep how far cells erase their own concept."""
        for place, cell in enumerate(cells):
            own = self.members[cell[1]]
            accuracy = outcomes.correct[place, own].mean() if own.any() else np.nan
            self.split.drops[cell] = float(self.split.base[cell[1]] - accuracy)


def _add(reads: Sequence[_Reading], sweep: SiteSweep) -> None:
    """Keep how far a sweep's cells erase, on test and, where there is one, on select."""
    for read, outcomes in zip(reads, (sweep.outcomes, sweep.select), strict=False):
        assert outcomes is not None, "a split that is searched is swept"
        read.add(sweep.cells, outcomes)
