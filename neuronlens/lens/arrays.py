"""Arrays and labels as a run's activations of one site, and what is fitted on them by the names of options."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from neuronlens.activations.moments import statistics_of
from neuronlens.config.compose import compose
from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.nodes import node, where
from neuronlens.config.parts import build
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError, unknown
from neuronlens.ranges.base import RangeEstimator
from neuronlens.records import ActivationRanges, ActivationSet, BoolArray, FloatArray, Site
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.dprime import with_second_score
from neuronlens.saliency.ranking import NeuronRanking

SITE = Site(0)
"""Where the arrays come from plays no part; what is fitted is recorded under one site."""
Parameters = Mapping[str, Any] | None


@cache
def defaults() -> Config:
    """Return the configuration's own values, composed once in a process."""
    return compose(["sweep=single"])


class OnActivations(TransformerMixin, BaseEstimator):
    """What all of them do: read arrays and labels as a run's activations of one site."""

    def __sklearn_tags__(self) -> Tags:
        """Return what scikit-learn may expect: labels are needed, one per sample."""
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = True
        return tags

    def _recorded(self, X: ArrayLike, y: ArrayLike | None) -> ActivationSet:  # noqa: N803
        values, labels = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds 1 class, '{self.classes_[0]}', expected 2 or more: a concept shows against others."
            )
        concepts = tuple(map(str, self.classes_))
        moments = statistics_of(values, index, len(concepts))
        ids = tuple(map(str, range(len(index))))
        return ActivationSet(SITE, values, index, concepts, ids, moments, fingerprint(["arrays", values.shape]))

    def _values(self, X: ArrayLike) -> FloatArray:  # noqa: N803
        check_is_fitted(self)
        values: FloatArray = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return values

    def _place(self, concept: Any) -> int:
        """Return the place of one of the classes.

        Raises:
            ConfigError: it is none, with the nearest.
        """
        found = np.flatnonzero(self.classes_ == concept)
        if not len(found):
            raise ConfigError(unknown("concept", str(concept), map(str, self.classes_)))
        return int(found[0])


def ranking_of(found: ActivationSet, name: str, parameters: Parameters) -> NeuronRanking:
    """Return the neurons' ranking by the option of this name, as a run makes it."""
    ranker: Ranker = _built("saliency", name, parameters)
    return with_second_score(ranker.rank(found), found.statistics)


def ranges_of(found: ActivationSet, name: str, tau: float | None, parameters: Parameters) -> ActivationRanges:
    """Return the ranges that the option of this name fits; `tau` None takes its own width."""
    own = {} if tau is None else {"tau": float(tau)}
    estimator: RangeEstimator = _built("range", name, {**(parameters or {}), **own})
    return estimator.fit(found)


def _built(group: str, name: str, parameters: Parameters) -> Any:
    return build({**node(defaults(), group, name), **(parameters or {})}, where(group, name))


def selected(ranking: NeuronRanking, top_fraction: float, top_count: int | None) -> BoolArray:
    """Return which neurons are salient `[concept, neuron]`: the count where there is one, else the fraction."""
    return (
        ranking.selected(top_count=top_count) if top_count is not None else ranking.selected(top_fraction=top_fraction)
    )


def inside(values: FloatArray, lower: FloatArray, upper: FloatArray) -> BoolArray:
    """Return whether each value lies in one of a concept's intervals `[sample, concept, neuron]`."""
    wide = values[:, None, None]
    return np.asarray(((wide >= lower) & (wide <= upper)).any(axis=2))
