"""The same activations under other labels, or of some samples alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from neuronlens.activations.moments import statistics_of
from neuronlens.config.fingerprint import fingerprint
from neuronlens.records import ActivationSet, BoolArray, FloatArray, IntArray


def with_labels(activations: ActivationSet, labels: IntArray, what: str) -> ActivationSet:
    """Return the same activations under other labels, with their own moments; `what` enters the fingerprint."""
    statistics = statistics_of(activations.values, labels, len(activations.concepts))
    return replace(
        activations, labels=labels, statistics=statistics, fingerprint=fingerprint([activations.fingerprint, what])
    )


def only_correct(activations: ActivationSet) -> ActivationSet:
    """Return the samples that the unedited model predicts right, with their own moments: `fit_on: correct`."""
    assert activations.base_prediction is not None, "predictions are recorded where fit_on asks for them"
    right = activations.base_prediction == activations.labels
    values, labels = activations.values[right], activations.labels[right]
    ids = tuple(key for key, kept in zip(activations.ids, right, strict=True) if kept)
    return ActivationSet(
        activations.site,
        values,
        labels,
        activations.concepts,
        ids,
        statistics_of(values, labels, len(activations.concepts)),
        fingerprint([activations.fingerprint, "correct", ids]),
        gradients=_of_rows(activations, right),
    )


def _of_rows(activations: ActivationSet, kept: BoolArray) -> Callable[[IntArray], FloatArray] | None:
    """Return what takes the gradients of some samples alone: the others' are taken for their own labels, and left out."""
    every = activations.gradients
    if every is None:
        return None

    def gradients(labels: IntArray) -> FloatArray:
        whole = activations.labels.copy()
        whole[kept] = labels
        return every(whole)[kept]

    return gradients
