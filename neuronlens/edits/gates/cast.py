"""The condition of conditional activation steering (CAST): one decision per prompt by a cosine.

IBM's activation-steering (Lee et al. 2024, arXiv 2409.05907), `leash_layer.py` and `malleable_model.py`, read second-hand:
c is the first principal component of the concept's states against the rest, P = c c' / c'c, and the condition holds where
cos(h, tanh(P h)) is past a threshold, h the mean of the prompt's tokens; threshold and side by a grid on F1. The score is
close to abs(cos(h, c)), so which side of c a state lies on is lost: that is the method.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from neuronlens.config.rules import at_least
from neuronlens.edits.contrast import require_contrast
from neuronlens.edits.gates.base import Decides, Evidence, Gate
from neuronlens.edits.gates.joint import chosen_on
from neuronlens.records import BoolArray, FloatArray


class CastGate(Gate):
    """Open for a whole sample where the cosine of its mean with its own projection is past a threshold."""

    grain = "sample"
    reads_range = False
    reads_ranking = False
    needs_select = True

    def __init__(self, *, steps: Annotated[int, at_least(2, most=1_000_000)] = 1000) -> None:
        """Try `steps` thresholds, evenly between the smallest and the largest score of the select split, on both sides."""
        self.steps = int(steps)

    def opening(self, evidence: Evidence) -> Decides:
        """Return the condition with the threshold and side of highest F1 on the select split.

        Raises:
            ActivationError: the concept or all others have no sample to fit on or to choose on.
        """
        import torch  # here, so that a config is checked without it

        from neuronlens.edits.gates.decisions import Cosine

        select, member = chosen_on(evidence)
        found = evidence.activations
        require_contrast(found.statistics, evidence.concept)
        direction = condition_direction(found.values, found.labels == evidence.concept)
        condition = Cosine(torch.from_numpy(direction), 0.0, True, over="prompt")
        threshold, above = best_f1(condition.scores(select.values), member, self.steps)
        return replace(condition, threshold=threshold, above=above)


def condition_direction(values: FloatArray, member: BoolArray) -> FloatArray:
    """Return the first principal component of two classes about the middle of their means, each class of equal weight.

    Its sign is such that the concept lies further along it. `[neuron]` float64, of length 1.

    Args:
        values: `[sample, neuron]`; not modified.
        member: which samples carry the concept; some must, and some must not.
    """
    wide = values.astype(np.float64)
    here, there = wide[member].mean(axis=0), wide[~member].mean(axis=0)
    weights = np.where(member, 1 / member.sum(), 1 / (~member).sum())
    centred = (wide - (here + there) / 2) * np.sqrt(weights)[:, None]
    direction: FloatArray = np.linalg.svd(centred, full_matrices=False)[2][0]
    return direction if direction @ (here - there) >= 0 else -direction


def best_f1(scores: FloatArray, member: BoolArray, steps: int) -> tuple[float, bool]:
    """Return the threshold of highest F1 on an even grid, and whether above it is open; of equals the first, above first.

    Args:
        scores: `[sample]`.
        member: which samples carry the concept.
        steps: thresholds tried, from the smallest score to the largest.

    >>> best_f1(np.array([0.0, 1.0, 4.0]), np.array([False, False, True]), 5)
    (1.0, True)
    """
    grid = np.linspace(scores.min(), scores.max(), steps)
    best: tuple[float, float, bool] = (-1.0, float(grid[0]), True)
    for above in (True, False):
        ordered, own = np.sort(scores), np.sort(scores[member])
        side: Literal["left", "right"] = "right" if above else "left"
        opened, hits = np.searchsorted(ordered, grid, side=side), np.searchsorted(own, grid, side=side)
        if above:
            opened, hits = len(scores) - opened, len(own) - hits
        quality = 2 * hits / (opened + len(own))
        place = int(np.argmax(quality))
        if quality[place] > best[0]:
            best = float(quality[place]), float(grid[place]), above
    return best[1], best[2]
