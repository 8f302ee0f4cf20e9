"""Rankers, ranges, gates and erasers with scikit-learn's manners, on arrays `[sample, neuron]` and labels `[sample]`.

Each is fitted as a run fits it: `fit(X, y)` gives what a run of the same options has at one site. Labels may be names or
numbers; `classes_` are the concepts, sorted. Names of options are those of the configuration (docs/SPEC.md, sections 2 to 4).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OneToOneFeatureMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from neuronlens.config.nodes import part
from neuronlens.edits.base import EditBatch
from neuronlens.edits.fitting import Fitted
from neuronlens.edits.gates.base import Evidence, Score
from neuronlens.lens.arrays import SITE, OnActivations, Parameters, defaults, inside, ranges_of, ranking_of, selected
from neuronlens.lens.cells import CellKnobs, Cells
from neuronlens.lens.order import InOrder
from neuronlens.records import BoolArray, FloatArray


class SaliencySelector(SelectorMixin, OnActivations):
    """Keeps the neurons that are salient for one concept, or for any.

    Args:
        saliency: an option of the group.
        top_fraction, top_count: how many neurons of each concept; the count where both are given.
        concept: whose neurons; None for those of all concepts.
        parameters: of the ranker, in place of its option's.

    Attributes:
        scores_: `[concept, neuron]`, higher is more salient.
        ranking_: with the order of equal scores.
    """

    def __init__(
        self,
        *,
        saliency: str = "max",
        top_fraction: float = 0.3,
        top_count: int | None = None,
        concept: Any = None,
        parameters: Parameters = None,
    ) -> None:
        """Take the options; they are looked up when `fit` is called."""
        self.saliency, self.top_fraction, self.top_count = saliency, top_fraction, top_count
        self.concept, self.parameters = concept, parameters

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: N803
        """Rank the neurons of `X` `[sample, neuron]` for each label in `y`."""
        found = self._recorded(X, y)
        self.ranking_ = ranking_of(found, self.saliency, self.parameters)
        self.scores_ = self.ranking_.scores
        chosen = selected(self.ranking_, self.top_fraction, self.top_count)
        self.support_: BoolArray = (
            np.asarray(chosen.any(axis=0)) if self.concept is None else chosen[self._place(self.concept)]
        )
        return self

    def _get_support_mask(self) -> BoolArray:
        check_is_fitted(self)
        return self.support_


class RangeMembership(OnActivations):
    """Says which values lie in which concept's range: 1 or 0 for each concept and neuron.

    Args:
        range: an option of the group.
        tau: the width; None for the option's own.
        parameters: of the estimator, in place of its option's.

    Attributes:
        lower_, upper_: `[concept, interval, neuron]`, bounds included; (+inf, -inf) is the empty interval.
        ranges_: with what they were fitted on.
    """

    def __init__(self, *, range: str = "gaussian", tau: float | None = None, parameters: Parameters = None) -> None:
        """Take the options; they are looked up when `fit` is called."""
        self.range, self.tau, self.parameters = range, tau, parameters

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit the intervals of every neuron in `X` `[sample, neuron]` for each label in `y`."""
        self.ranges_ = ranges_of(self._recorded(X, y), self.range, self.tau, self.parameters)
        self.lower_, self.upper_ = self.ranges_.lower, self.ranges_.upper
        return self

    def transform(self, X: ArrayLike) -> FloatArray:  # noqa: N803
        """Return 1 where a value lies in the range, else 0, `[sample, concept x neuron]`, concept by concept."""
        values = self._values(X)
        return inside(values, self.lower_, self.upper_).reshape(len(values), -1).astype(values.dtype)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return `<concept>_<neuron>` for each column."""
        check_is_fitted(self)
        neurons = _check_feature_names_in(self, input_features)
        return np.asarray([f"{concept}_{neuron}" for concept in self.classes_ for neuron in neurons], dtype=object)


class GateScores(OnActivations):
    """Says how far each concept's gate is open for a sample.

    Args:
        gate: an option of the group. One that decides for the whole vector (`joint`) gives its score, open above 0, its
            threshold chosen on the samples that it is fitted on; one that decides value by value (`range`, `outside`) gives
            the share of the salient neurons that it is open for.
        saliency, top_fraction, top_count: which neurons are salient.
        range, tau: the range that a gate reads.

    Attributes:
        openings_: per concept a `Score`, or intervals `[interval, neuron]`.
        salient_: `[concept, neuron]`.
    """

    def __init__(
        self,
        *,
        gate: str = "joint",
        saliency: str = "max",
        top_fraction: float = 0.3,
        top_count: int | None = None,
        range: str = "gaussian",
        tau: float | None = None,
    ) -> None:
        """Take the options; they are looked up when `fit` is called."""
        self.gate, self.saliency, self.top_fraction, self.top_count = gate, saliency, top_fraction, top_count
        self.range, self.tau = range, tau

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit every concept's gate on `X` `[sample, neuron]` and the labels `y`."""
        found = self._recorded(X, y)
        gate = part(defaults(), "gate", self.gate)
        ranking = ranking_of(found, self.saliency, None)
        self.salient_ = selected(ranking, self.top_fraction, self.top_count)
        ranges = ranges_of(found, self.range, self.tau, None) if gate.reads_range else None
        self.openings_ = []
        for number, salient in enumerate(self.salient_):
            intervals = None if ranges is None else (ranges.lower[number], ranges.upper[number])
            self.openings_.append(gate.opening(Evidence(found, number, salient, intervals, found)))
        return self

    def transform(self, X: ArrayLike) -> FloatArray:  # noqa: N803
        """Return scores or shares `[sample, concept]`."""
        values = self._values(X)
        columns = []
        for opening, salient in zip(self.openings_, self.salient_, strict=True):
            if isinstance(opening, Score):
                columns.append(opening(values))
            else:
                lower, upper = opening
                hits = inside(values, lower[None], upper[None])[:, 0, salient]
                columns.append(hits.mean(axis=1) if salient.any() else np.zeros(len(values)))
        return np.stack(columns, axis=1).astype(values.dtype)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the concepts."""
        check_is_fitted(self)
        return np.asarray(list(map(str, self.classes_)), dtype=object)


class ConceptEraser(OneToOneFeatureMixin, OnActivations):
    """Erases one concept, or all of them one after the other, as a run's cell does.

    Args:
        edit, gate, saliency, range: options of these groups. The default is LEACE over whole vectors.
        strength, top_fraction, top_count, tau: as in the configuration; None for the option's own, or where it plays no
            part.
        concept: which of the labels; None for all.

    Attributes:
        edits_: the edits, in their order.
    """

    def __init__(
        self,
        *,
        edit: str = "leace",
        gate: str = "neuron",
        strength: float = 1.0,
        saliency: str | None = None,
        top_fraction: float | None = None,
        top_count: int | None = None,
        range: str | None = None,
        tau: float | None = None,
        concept: Any = None,
    ) -> None:
        """Take the options; they are looked up when `fit` is called."""
        self.edit, self.gate, self.strength, self.saliency = edit, gate, strength, saliency
        self.top_fraction, self.top_count = top_fraction, top_count
        self.range, self.tau, self.concept = range, tau, concept

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:  # noqa: N803
        """Fit the edits on `X` `[sample, neuron]` and the labels `y`; a label that nothing can be fitted for is left alone."""
        found = self._recorded(X, y)
        cells = Cells(defaults(), {SITE: Fitted(found, {}, {})}, {SITE: found}, layer_count=1)
        asked: CellKnobs = {
            "edit": self.edit,
            "gate": self.gate,
            "strength": self.strength,
            "saliency": self.saliency,
            "top_fraction": self.top_fraction,
            "top_count": self.top_count,
            "range": self.range,
            "tau": self.tau,
        }
        names = found.concepts if self.concept is None else [found.concepts[self._place(self.concept)]]
        mixes = cells.mixes(found.concepts[0], asked)
        edits: list[EditBatch] = []
        for name in names:
            if edits and mixes:
                cells = cells.after({SITE: edits[-1]})
            (knobs, place), builders = cells.builders(name, asked)
            if builders[SITE].skip_reason((knobs, place)) is None:
                edits.append(builders[SITE].batch([(knobs, place)]))
            elif self.concept is not None:
                builders[SITE].refuse_skipped((knobs, place))
        self.edits_ = InOrder(edits)
        return self

    def transform(self, X: ArrayLike) -> FloatArray:  # noqa: N803
        """Return the edited values `[sample, neuron]`, of `X`'s dtype."""
        values = self._values(X)
        edited: FloatArray = self.edits_(torch.from_numpy(np.ascontiguousarray(values))[None, :, None])[0, :, 0].numpy()
        return edited
