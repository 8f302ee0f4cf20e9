"""What a site's fit split gives: rankings and ranges by name, under the true labels and under a control's."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from neuronlens.activations.subsets import with_labels
from neuronlens.config.knobs import names, widths
from neuronlens.config.nodes import part
from neuronlens.config.schema import Config
from neuronlens.errors import ActivationError
from neuronlens.ranges.base import RangeEstimator, WidthEstimator
from neuronlens.records import ActivationRanges, ActivationSet
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.dprime import with_second_score
from neuronlens.saliency.ranking import NeuronRanking


@dataclass(frozen=True)
class Fitted:
    """Rankings and ranges at one site.

    Attributes:
        activations: the samples they were fitted on.
        rankings: by saliency name.
        ranges: by (range name, tau); tau is None for a range without one.
        failed: `failure` of a ranking or range that the data refused -> the reason, for the results (TRAPS 10).
    """

    activations: ActivationSet
    rankings: Mapping[str, NeuronRanking]
    ranges: Mapping[tuple[str, float | None], ActivationRanges]
    failed: Mapping[str, str] = field(default_factory=dict)


def failure(group: str, name: str) -> str:
    """Return the key of `Fitted.failed` for an option: a ranker and a range may have one name."""
    return f"{group}.{name}"


def fit_site(config: Config, activations: ActivationSet) -> Fitted:
    """Return every ranking and range that the run's grids name, fitted on these activations."""
    rankings, failed = rank(config, activations)
    ranges, refused = fit_ranges(config, activations)
    return Fitted(activations, rankings, ranges, failed | refused)


def rank(config: Config, activations: ActivationSet) -> tuple[dict[str, NeuronRanking], dict[str, str]]:
    """Return the rankings that the run's grids name, and the reasons of those that the data refused."""
    rankings, failed = {}, {}
    for name in names(config, "saliency"):
        ranker: Ranker = part(config, "saliency", name)
        try:
            rankings[name] = with_second_score(ranker.rank(activations), activations.statistics)
        except ActivationError as error:
            failed[failure("saliency", name)] = str(error)
    return rankings, failed


def fit_ranges(
    config: Config, activations: ActivationSet
) -> tuple[dict[tuple[str, float | None], ActivationRanges], dict[str, str]]:
    """Return the ranges that the run's grids name at their widths, and the reasons of those that the data refused."""
    ranges: dict[tuple[str, float | None], ActivationRanges] = {}
    failed = {}
    for name in names(config, "range"):
        try:
            ranges |= {(name, tau): fitted for tau, fitted in _fit_range(config, name, activations)}
        except ActivationError as error:
            failed[failure("range", name)] = str(error)
    return ranges, failed


def _fit_range(config: Config, name: str, activations: ActivationSet) -> list[tuple[float | None, ActivationRanges]]:
    """Return one range per width, all widths from one fit."""
    taus = [tau for tau in widths(config, name) if tau is not None]
    if not taus:
        estimator: RangeEstimator = part(config, "range", name)
        return [(None, estimator.fit(activations))]
    wide: WidthEstimator = part(config, "range", name)
    return list(zip(taus, wide.fit_widths(activations, taus), strict=True))


def other_concept(concepts: Sequence[str], concept: int, seed: int) -> int | None:
    """Return the concept whose ranges the control `other_concept` takes: drawn by seed and name, never the concept itself.

    None where there is no other one.

    >>> [other_concept(("a", "b", "c"), concept, 0) for concept in range(3)]
    [1, 2, 0]
    """
    others = [place for place in range(len(concepts)) if place != concept]
    if not others:
        return None
    generator = np.random.default_rng([seed, zlib.crc32(concepts[concept].encode())])
    return others[int(generator.integers(len(others)))]


def shuffled_labels(activations: ActivationSet, seed: int) -> ActivationSet:
    """Return the activations with their labels dealt anew: a control that keeps everything but the concept.

    Tokens were read under shuffled labels of their texts beforehand.
    """
    if activations.streamed is not None or activations.shuffled is not None:
        assert activations.shuffled is not None, "shuffled labels are streamed where that control is asked for"
        return activations.shuffled
    order = np.random.default_rng([seed, len(activations.labels)]).permutation(len(activations.labels))
    return with_labels(activations, activations.labels[order], f"shuffled {seed}")
