"""The same activations under other labels, of some samples alone, or token by token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from neuronlens.activations.moments import statistics_of
from neuronlens.activations.tokens import SHUFFLED, TokenPlan, Tokens
from neuronlens.config.fingerprint import fingerprint
from neuronlens.errors import ActivationError
from neuronlens.records import ActivationSet, BoolArray, FloatArray, IntArray


def with_labels(activations: ActivationSet, labels: IntArray, what: str) -> ActivationSet:
    """Return the same activations under other labels, with their own moments; `what` enters the fingerprint."""
    statistics = statistics_of(activations.values, labels, len(activations.concepts))
    return replace(
        activations, labels=labels, statistics=statistics, fingerprint=fingerprint([activations.fingerprint, what])
    )


def with_values(activations: ActivationSet, values: FloatArray, what: str) -> ActivationSet:
    """Return the same samples with other values `[sample, neuron]` and their moments; `what` enters the fingerprint."""
    statistics = statistics_of(values, activations.labels, len(activations.concepts))
    key = fingerprint([activations.fingerprint, what])
    return replace(activations, values=values, statistics=statistics, fingerprint=key, streamed=None, shuffled=None)


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
        gradients=gradients_of(activations, right),
    )


def gradients_of(activations: ActivationSet, kept: BoolArray) -> Callable[[IntArray], FloatArray] | None:
    """Return what takes the gradients of some samples alone: the others' are taken for their own labels, and left out."""
    every = activations.gradients
    if every is None:
        return None

    def gradients(labels: IntArray) -> FloatArray:
        whole = activations.labels.copy()
        whole[kept] = labels
        return every(whole)[kept]

    return gradients


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


def with_records(tokens: ActivationSet, activations: ActivationSet, plan: TokenPlan) -> ActivationSet:
    """Return tokens with the record vectors of the texts behind them, under the tokens' own labels.

    Args:
        tokens: as `token_set` gives them.
        activations: one row per text of the split.
        plan: how the tokens were taken.
    """
    kept = only_correct(activations) if plan.only_correct else activations
    shuffled = tokens.shuffled
    if shuffled is not None:
        order = np.random.default_rng([plan.seed, len(activations.labels)]).permutation(len(activations.labels))
        dealt = activations.labels[order]
        if plan.only_correct:
            dealt = dealt[activations.base_prediction == activations.labels]
        shuffled = replace(shuffled, records=with_labels(kept, dealt, f"shuffled {plan.seed}"))
    return replace(tokens, records=kept, shuffled=shuffled)


def texts_behind(tokens: ActivationSet) -> ActivationSet:
    """Return the texts' record vectors behind tokens, those of the select split with them: what a gate per sample reads.

    Raises:
        ActivationError: the tokens alone were kept.
    """
    select = tokens.select
    if tokens.records is None or (select is not None and select.records is None):
        raise ActivationError(
            "A gate per sample is fitted on means of whole texts, and their tokens alone were kept. Next: "
            "intervention.fit_positions=record"
        )
    return replace(tokens.records, select=None if select is None else select.records)
