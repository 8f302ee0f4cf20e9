"""Labels as a user holds them, and the concepts that they name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronlens.errors import DataError, ShapeError, unknown
from neuronlens.records import IntArray

Label = str | int


def concepts_of(
    labels: Sequence[Label], model_labels: Sequence[str], concepts: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the concepts in the order of their numbers.

    Args:
        labels: names, or whole numbers that count the concepts from 0.
        model_labels: of the model's classification head; none where it has no such head.
        concepts: the names and their order, where the caller gives them.

    Returns:
        `concepts`, else the model's labels where the labels are these or their numbers, else the labels, sorted.

    Raises:
        DataError: a concept stands twice.
    """
    if concepts is not None:
        if len(set(concepts)) != len(concepts):
            raise DataError(f"concepts names one twice: {', '.join(concepts)}.")
        return tuple(map(str, concepts))
    present = set(labels)
    numbers = all(isinstance(label, int) for label in present)
    if model_labels and (present <= set(model_labels) or (numbers and _counts(present, len(model_labels)))):
        return tuple(model_labels)
    return tuple(map(str, sorted(present, key=lambda label: (isinstance(label, str), label))))


def plain_labels(labels: Sequence[Label], texts: int) -> list[Label]:
    """Return labels as Python's own names and numbers.

    Raises:
        ShapeError: not one per text.
        DataError: a label that is neither a name nor a whole number.
    """
    found = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if len(found) != texts:
        raise ShapeError(f"{texts} texts and {len(found)} labels, expected a label for each text.")
    for place, label in enumerate(found):
        if isinstance(label, bool) or not isinstance(label, (str, int)):
            raise DataError(f"Label {place} is {label!r}, expected a concept's name or its number.")
    return found


def indices(labels: Sequence[Label], concepts: tuple[str, ...]) -> IntArray:
    """Return the concepts' numbers `[text]`.

    Raises:
        DataError: a label that is no concept, with the nearest, or all texts bear one label.
    """
    places = {name: number for number, name in enumerate(concepts)}
    found = []
    for label in labels:
        if isinstance(label, int) and str(label) not in places and 0 <= label < len(concepts):
            found.append(label)
        elif str(label) in places:
            found.append(places[str(label)])
        else:
            raise DataError(unknown("label", str(label), concepts))
    if len(set(found)) < 2:
        raise DataError(
            f"All {len(found)} texts bear the label '{concepts[found[0]]}'. Expected two concepts or more: what speaks for one "
            "shows against the others."
        )
    return np.asarray(found, dtype=np.int64)


def _counts(present: set[Label], count: int) -> bool:
    return all(isinstance(label, int) and 0 <= label < count for label in present)
