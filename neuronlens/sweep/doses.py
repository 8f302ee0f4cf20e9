"""Where along a method's doses a concept is first erased far enough, and the dose to try next for a closer answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuronlens.records import Cell, FloatArray, Knobs

TOLERANCE = 1e-9
"""Shares that differ by less are equal: they are counts over counts, and their differences differ by rounding alone."""
CLOSE_ENOUGH = 0.01
"""Share of the base accuracy: two doses whose erasure differs by no more are not looked between."""
STRENGTH_STEP = 1e-3
"""Strengths that differ by less, relative to the grid's largest, are not looked between."""


def first_reached(values: FloatArray, wanted: float) -> int | None:
    """Return the place of the first value that is at least `wanted`, equal within rounding; None where there is none.

    >>> first_reached(np.array([0.1, 0.9 - 0.6, 0.5]), 0.3), first_reached(np.array([0.1]), 0.3)
    (1, None)
    """
    reached = np.flatnonzero(np.asarray(values) >= wanted - TOLERANCE)
    return int(reached[0]) if len(reached) else None


@dataclass(frozen=True)
class DoseCurve:
    """One method's cells of one concept along their dose.

    Attributes:
        knobs: of one of its cells.
        concept: its index.
        counts: whether the dose is a number of neurons (per site, or over all sites where these are ranked as one); else
            it is the strength.
        grid: the grid's cells by dose.
    """

    knobs: Knobs
    concept: int
    counts: bool
    grid: Mapping[float, Cell]

    def at(self, dose: float) -> Cell:
        """Return the method's cell at another dose."""
        if self.counts:
            return replace(self.knobs, top_fraction=None, top_count=int(dose)), self.concept
        return replace(self.knobs, strength=float(dose)), self.concept

    def between(self, low: float, high: float) -> float | None:
        """Return the dose in the middle of two, or None where these are too close to look between."""
        if self.counts:
            return float((low + high) // 2) if high - low > 1 else None
        largest = max(abs(dose) for dose in self.grid)
        return (low + high) / 2 if high - low > STRENGTH_STEP * largest else None


def dose_curves(cells: Sequence[Cell], n_neurons: Mapping[Cell, int], sites: int) -> list[DoseCurve]:
    """Return the curves of a grid's cells that have several doses, as `measures.matched.curves` tells doses from methods.

    The dose is the number of neurons where that varies over a method's cells, and strength is then part of the method;
    else it is the strength.

    Args:
        cells: those that were evaluated.
        n_neurons: by cell, over all sites.
        sites: how many are edited at once.
    """
    methods: dict[Knobs, list[Cell]] = {}
    for cell in cells:
        methods.setdefault(replace(cell[0], top_fraction=None, top_count=None, strength=0.0), []).append(cell)
    found = []
    for method, own in methods.items():
        counts = len({n_neurons[cell] for cell in own}) > 1
        curves: dict[tuple[float | int, int], dict[float, Cell]] = {}
        for cell in own:
            number = n_neurons[cell] if method.scope == "model" else n_neurons[cell] // sites
            apart, dose = (cell[0].strength, number) if counts else (n_neurons[cell], cell[0].strength)
            curves.setdefault((apart, cell[1]), {}).setdefault(float(dose), cell)
        for (_, concept), grid in curves.items():
            if len(grid) > 1:
                found.append(DoseCurve(next(iter(grid.values()))[0], concept, counts, grid))
    return found


@dataclass(frozen=True)
class Split:
    """How far cells erase on one split.

    Attributes:
        base: unedited accuracy `[concept]`; NaN where a concept has no sample.
        drops: concept accuracy drop by cell.
    """

    base: FloatArray
    drops: dict[Cell, float]


def next_dose(
    curve: DoseCurve, points: Mapping[float, Cell], split: Split, level: float, refused: Collection[Cell]
) -> float | None:
    """Return the dose to evaluate for a closer look at where a level is first reached; None where it is close enough.

    The doses on either side of the first crossing are halved until their erasure differs by at most `CLOSE_ENOUGH` of the
    base accuracy, or no dose lies between them. Where one sample is more than that, the dose at which it falls is found.

    Args:
        points: the curve's cells by dose that the split's search may look at.
        level: share of the base accuracy, in (0, 1].
        refused: cells that cannot be evaluated.
    """
    base = split.base[curve.concept]
    doses = sorted(points)
    if not base > 0 or doses[0] <= 0:  # the unedited model is dose 0
        return None
    drops = np.array([0.0, *(split.drops[points[dose]] for dose in doses)])
    after = first_reached(drops, level * base)
    if not after:
        return None
    if drops[after] - drops[after - 1] <= CLOSE_ENOUGH * base + TOLERANCE:
        return None
    dose = curve.between(doses[after - 2] if after > 1 else 0.0, doses[after - 1])
    return None if dose is None or curve.at(dose) in refused else dose


@dataclass(frozen=True)
class FinerDoses:
    """What a search evaluated.

    Attributes:
        cells: in the order in which they were evaluated.
        asked: the cells that each split's search asked for.
    """

    cells: list[Cell]
    asked: list[frozenset[Cell]]


def search(
    curves: Sequence[DoseCurve],
    splits: Sequence[Split],
    levels: Sequence[float],
    *,
    most: int,
    evaluate: Callable[[list[Cell]], Collection[Cell]],
) -> FinerDoses:
    """Return the doses evaluated between those of the grid, for every curve, split and level at once.

    Each round evaluates the next dose of every search that is not close enough, all in one call; no cell twice.

    Args:
        splits: each searched by itself, with the drops of every cell of the curves.
        most: cells that one curve may get.
        evaluate: evaluates cells, adds their drops to every split, and returns those that could not be evaluated.
    """
    seen = [[dict(curve.grid) for curve in curves] for _ in splits]
    asked: list[dict[Cell, None]] = [{} for _ in splits]
    done: dict[Cell, None] = {}
    refused: set[Cell] = set()
    spent = [0] * len(curves)
    while True:
        new: dict[Cell, None] = {}
        moved = False
        for place, curve in enumerate(curves):
            for points, split, own in zip(seen, splits, asked, strict=True):
                doses = dict.fromkeys(next_dose(curve, points[place], split, level, refused) for level in levels)
                for dose in doses:
                    cell = None if dose is None else curve.at(dose)
                    if dose is None or cell is None:
                        continue
                    if cell not in done:
                        if cell not in new and spent[place] >= most:
                            continue
                        spent[place] += cell not in new
                        new[cell] = None
                    own[cell] = None
                    points[place][dose] = cell
                    moved = True
        if not moved:
            return FinerDoses(list(done), [frozenset(own) - refused for own in asked])
        if new:
            refused |= set(evaluate(list(new)))
            done |= {cell: None for cell in new if cell not in refused}
        seen = [
            [{dose: cell for dose, cell in points.items() if cell not in refused} for points in own] for own in seen
        ]
