"""A sweep to be timed: cells fitted on one extraction and evaluated on another's stored states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import neuronlens as nl
from neuronlens import (
    Cell,
    Config,
    EditBuilder,
    Extraction,
    Fitted,
    GaussianRange,
    Knobs,
    LoadedModel,
    MaxSaliency,
    SweepEvaluator,
)

TAU = 2.5


def range_masks(concepts: int, count: int, tau: float = TAU) -> list[Cell]:
    """Return `count` cells that zero the concept's range in more and more neurons, all concepts in turn."""
    fractions = -(-count // concepts)
    knobs = [
        Knobs(
            saliency="max",
            top_fraction=(step + 1) / (fractions + 1),
            range="gaussian",
            tau=tau,
            gate="range",
            edit="zero",
            strength=1.0,
        )
        for step in range(fractions)
    ]
    return [(entry, concept) for entry in knobs for concept in range(concepts)][:count]


def sweep_of(
    loaded: LoadedModel,
    fit: Extraction,
    test: Extraction,
    layer: int,
    cells: Sequence[Cell],
    *,
    positions: str,
    tokens_per_forward: int,
    taus: Sequence[float] = (TAU,),
    config: Config | None = None,
) -> SweepEvaluator:
    """Return the evaluator of `cells` at a block's output, with ranges of every tau fitted on `fit`.

    Args:
        config: names the parameters of edits and gates; None for their own.
    """
    site = nl.Site(layer)
    found = fit.activations[site]
    ranges: dict[Any, Any] = {("gaussian", tau): GaussianRange(tau=tau).fit(found) for tau in taus}
    builder = EditBuilder(config or Config(), {"none": Fitted(found, {"max": MaxSaliency().rank(found)}, ranges)})
    assert test.log_probabilities is not None
    assert test.prediction is not None
    return SweepEvaluator(
        loaded,
        test.states[layer],
        {site: builder},
        cells,
        labels=test.activations[site].labels,
        base_log_probabilities=test.log_probabilities,
        base_prediction=test.prediction,
        edit_positions=positions,
        tokens_per_forward=tokens_per_forward,
    )
