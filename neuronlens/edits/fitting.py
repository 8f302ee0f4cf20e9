"""What a site's fit split gives: rankings and ranges by name, under the true labels and under a control's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neuronlens.activations.subsets import with_labels
from neuronlens.config.parts import build, nodes, widths
from neuronlens.config.schema import Config
from neuronlens.errors import ActivationError
from neuronlens.records import ActivationRanges, ActivationSet, NeuronRanking


@dataclass(frozen=True)
class Fitted:
    """Rankings and ranges at one site.

    Attributes:
        activations: the samples they were fitted on.
        rankings: by saliency name.
        ranges: by (range name, tau); tau is None for a range without one.
        failed: name of a ranking or range that the data refused -> the reason, for the results (TRAPS 10).
    """

    activations: ActivationSet
    rankings: Mapping[str, NeuronRanking]
    ranges: Mapping[tuple[str, float | None], ActivationRanges]
    failed: Mapping[str, str] = field(default_factory=dict)


def fit_site(config: Config, activations: ActivationSet) -> Fitted:
    """Return every ranking and range that the run's grids name, fitted on these activations."""
    rankings, failed = rank(config, activations)
    ranges, refused = fit_ranges(config, activations)
    return Fitted(activations, rankings, ranges, failed | refused)


def rank(config: Config, activations: ActivationSet) -> tuple[dict[str, NeuronRanking], dict[str, str]]:
    """Return the rankings that the run's grids name, and the reasons of those that the data refused."""
    rankings, failed = {}, {}
    for name, node in nodes(config, "saliency").items():
        try:
            rankings[name] = build(node, "saliency").rank(activations)
        except ActivationError as error:
            failed[name] = str(error)
    return rankings, failed


def fit_ranges(
    config: Config, activations: ActivationSet
) -> tuple[dict[tuple[str, float | None], ActivationRanges], dict[str, str]]:
    """Return the ranges that the run's grids name at their widths, and the reasons of those that the data refused."""
    ranges, failed = {}, {}
    for name, node in nodes(config, "range").items():
        try:
            for fitted in _fit_range(node, activations, widths(config, node)):
                ranges[name, fitted.tau] = fitted
        except ActivationError as error:
            failed[name] = str(error)
    return ranges, failed


def _fit_range(node: Mapping[str, Any], activations: ActivationSet, taus: list[float | None]) -> list[ActivationRanges]:
    estimator = build(node, "range")
    if taus == [None]:
        return [estimator.fit(activations)]
    if hasattr(estimator, "fit_widths"):
        return estimator.fit_widths(activations, taus)
    return [build(node, "range", tau=tau).fit(activations) for tau in taus]


def shuffled_labels(activations: ActivationSet, seed: int) -> ActivationSet:
    """Return the activations with their labels dealt anew: a control that keeps everything but the concept."""
    order = np.random.default_rng([seed, len(activations.labels)]).permutation(len(activations.labels))
    return with_labels(activations, activations.labels[order], f"shuffled {seed}")
