"""Selection over several layers at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuronlens.errors import ActivationError, ShapeError
from neuronlens.records import BoolArray
from neuronlens.saliency.ranking import NeuronRanking


def salient_sets(
    rankings: Mapping[int, NeuronRanking],
    *,
    scope: str,
    top_fraction: float | None = None,
    top_count: int | None = None,
) -> dict[int, BoolArray]:
    """Return which neurons are salient per layer `[concept, neuron]`: of each layer, or of all as one (`scope: model`)."""
    counts: dict[str, Any] = {"top_fraction": top_fraction, "top_count": top_count}
    if scope == "model":
        return rank_together(rankings, **counts)
    return {layer: ranking.selected(**counts) for layer, ranking in rankings.items()}


def rank_together(
    rankings: Mapping[int, NeuronRanking], *, top_fraction: float | None = None, top_count: int | None = None
) -> dict[int, BoolArray]:
    """Return which neurons are salient when all layers are ranked as one (SPEC section 2, `scope: model`).

    The count is floor(p D) with D the neurons of *all* layers; ties
    break by the second score, then by lot. Scores of
    different layers are compared as they are: of the rankers, `auroc`, `dprime` and `random` have no unit, while `max`
    and `probeless` favour the layers whose activations are large.

    Args:
        rankings: one per layer, of the same ranker and concepts; layers may differ in width.

    Returns:
        `[concept, neuron]` per layer, in ascending order of layers.

    Raises:
        ActivationError: no layers, a count above the number of neurons, or neither or both of the knobs given.
        ShapeError: the rankings name different concepts.
    """
    if not rankings:
        raise ActivationError("No rankings to select from. Give at least one layer.")
    layers = sorted(rankings)
    first = rankings[layers[0]]
    for layer in layers:
        if rankings[layer].concepts != first.concepts:
            raise ShapeError(
                f"Layer {layer} ranks concepts {rankings[layer].concepts}, layer {layers[0]} {first.concepts}. "
                "Expected the same ones in the same order."
            )
    scores = np.concatenate([rankings[layer].scores for layer in layers], axis=1)
    seconds = (rankings[layer].second for layer in layers)
    parts = [
        np.zeros_like(rankings[layer].scores) if own is None else own
        for layer, own in zip(layers, seconds, strict=True)
    ]
    together = NeuronRanking(first.name, scores, first.concepts, np.concatenate(parts, axis=1))
    chosen = together.selected(top_fraction=top_fraction, top_count=top_count)
    ends = np.cumsum([rankings[layer].scores.shape[1] for layer in layers])
    return dict(zip(layers, np.split(chosen, ends[:-1], axis=1), strict=True))
