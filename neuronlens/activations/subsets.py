"""The same activations under other labels, of some samples alone, or token by token."""

from __future__ import annotations

from dataclasses import replace

from neuronlens.activations.moments import statistics_of
from neuronlens.activations.tokens import SHUFFLED, Tokens
from neuronlens.config.fingerprint import fingerprint
from neuronlens.records import ActivationSet, IntArray


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
    )


def token_set(activations: ActivationSet, tokens: Tokens, fingerprint: str) -> ActivationSet:
    """Return the tokens of the texts behind `activations`: a row per kept token, with the moments of all of them.

    Args:
        activations: one row per text; what is known of a text holds for its tokens.
    """
    ids = tuple(activations.ids[owner] for owner in tokens.owner)

    def under(labelling: str, shuffled: ActivationSet | None = None) -> ActivationSet:
        return ActivationSet(
            activations.site,
            tokens.values,
            tokens.labels[labelling],
            activations.concepts,
            ids,
            tokens.statistics[labelling],
            f"{fingerprint}-{labelling}",
            streamed=tokens.scatter,
            shuffled=shuffled,
        )

    return under("none", under(SHUFFLED) if SHUFFLED in tokens.labels else None)
