"""What the unedited model gets right, concept by concept, counted before anything is edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from neuronlens.activations.subsets import only_correct
from neuronlens.config.heads import declared
from neuronlens.config.schema import ModelConfig
from neuronlens.measures.estimates import of_share
from neuronlens.sweep.runner import Splits

MOST_NAMED = 8
"""Concepts that a warning lists; the manifest's `base_correct` has all."""


def count_correct(splits: Splits, concepts: Sequence[str], level: float) -> pd.DataFrame:
    """Return one row per (split, concept) that was run to the head: n, correct, accuracy and its Wilson interval.

    Args:
        level: of the interval, in (0, 1). It takes no resamples, so it is there where the bootstrap is off too.
    """
    rows: list[dict[str, Any]] = []
    for name, split in (("fit", splits.fit), ("select", splits.select), ("test", splits.test)):
        if split is None or split.prediction is None:
            continue
        labels = next(iter(split.activations.values())).labels
        for number, concept in enumerate(concepts):
            own = labels == number
            n, right = int(own.sum()), int((split.prediction[own] == number).sum())
            accuracy, low, high = map(float, of_share(right, n, level))
            rows.append(
                {"split": name, "concept": concept, "n": n, "correct": right, "accuracy": accuracy}
                | {"low": low, "high": high}
            )
    return pd.DataFrame(rows)


def near_chance(counts: pd.DataFrame, model: ModelConfig) -> list[str]:
    """Return a warning for the concepts whose accuracy on the test split may be that of guessing, with the figures.

    Guessing is 1 / number of concepts; what an edit erases of such a concept means nothing.

    Args:
        model: what the advice is for: one that was trained here, one that is asked in words, or a checkpoint's own head.
    """
    test = counts[counts["split"] == "test"]
    chance = 1.0 / max(len(test), 1)
    poor = test[~(test["low"] > chance)]
    if poor.empty:
        return []
    figures = ", ".join(f"{row.concept} {row.correct}/{row.n}" for row in poor[:MOST_NAMED].itertuples())
    figures += f" and {len(poor) - MOST_NAMED} more" if len(poor) > MOST_NAMED else ""
    return [
        f"The unedited model is near chance ({chance:.2f}) on {len(poor)} of {len(test)} concepts: {figures} right on test. "
        f"Drops of these mean little. Next: {_advice(model)}"
    ]


def _advice(model: ModelConfig) -> str:
    if model.finetune.blocks is not None:
        return (
            f"more dataset.samples_per_concept.train, more model.finetune.epochs than {model.finetune.epochs}, or more "
            f"model.finetune.blocks than {model.finetune.blocks}."
        )
    if declared(model.head).get("prompted"):
        return "another prompt, more dataset.prompt.shots, or model.finetune.blocks=2."
    return "a checkpoint that was trained on these labels, model.labels in another order, or model.finetune.blocks=2."


def all_skipped(rows: pd.DataFrame) -> list[str]:
    """Return a warning where not one cell of a run was evaluated, with the commonest reason; else none."""
    edited = rows.loc[rows["edit"] != "none", "skipped"]
    if edited.empty or edited.isna().any():
        return []
    reasons = edited.value_counts()
    return [
        f"No edit was evaluated: each of the {len(edited)} cells was skipped, {reasons.iloc[0]} of them because: "
        f"{reasons.index[0]}. Next: more dataset.samples_per_concept.fit, evaluation.fit_on=all, or another model."
    ]


def correct_sets(splits: Splits) -> dict[str, str]:
    """Return the fingerprint of the correctly predicted samples of each split that was run to the head, by split."""
    found = {}
    for name, split in (("fit", splits.fit), ("select", splits.select), ("test", splits.test)):
        if split is not None and split.prediction is not None:
            found[name] = only_correct(next(iter(split.activations.values()))).fingerprint
    return found
