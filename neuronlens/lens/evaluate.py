"""What erasing each concept does to a model's answers on labelled texts, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuronlens.errors import ModelError
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.masks import prompt_mask
from neuronlens.hooks.wrapped import device_of
from neuronlens.lens.cells import CellKnobs, Cells
from neuronlens.lens.labels import Label, indices, plain_labels
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.metrics import BaseOutcomes, measure
from neuronlens.models.batches import Batch, text_batches
from neuronlens.models.heads.base import Reading
from neuronlens.models.in_hand import check_texts, evaluating
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import FloatArray, IntArray, Site
from neuronlens.sweep.evaluator import Outcomes

KNOBS = ("saliency", "top_fraction", "top_count", "range", "tau", "gate", "edit", "strength")


def evaluate(
    cells: Cells,
    loaded: LoadedModel,
    texts: Sequence[str],
    labels: Sequence[Label],
    positions: str,
    knobs: CellKnobs,
) -> pd.DataFrame:
    """Return a row per concept: what erasing it does to the model's answers on labelled texts.

    Args:
        texts: that nothing was fitted on, or the figures flatter the lens.
        positions: where is edited, as `nl.edited` takes it.
        knobs: of the cell that erases; the lens's own where none is given.

    Returns:
        Columns: `concept`, the knobs, `n_concept` and `n_complement`, and the measures of SPEC section 5, each with its
        95 % interval in `<measure>_low` and `<measure>_high`. Concepts without a text have no row.

    Raises:
        ModelError: the model does not answer with the lens's concepts.
        DataError, ShapeError: as `nl.fit` does.
        NeuronLensError: a concept's cell cannot be made.
    """
    if set(loaded.concepts) != set(cells.concepts):
        known = ", ".join(loaded.concepts[:8]) or "no label"
        raise ModelError(
            f"lens.evaluate reads the model's answers, and '{loaded.name}' answers with {known}, expected "
            f"{', '.join(cells.concepts[:8])}. Next: a model with a classification head for these labels, or the lens of a "
            "run that asks a language model."
        )
    found = check_texts(texts, "lens.evaluate")
    own = indices(plain_labels(labels, len(found)), loaded.concepts)
    batches = [batch.to(device_of(loaded.model)) for batch in text_batches(loaded, found).batches]
    bootstrap = Bootstrap.of(cells.config)
    rows = []
    with evaluating(loaded.model):
        before, base_prediction = _answers(loaded, batches, len(found), {}, positions)
        base = BaseOutcomes.of(before, base_prediction, own)
        for concept, number in ((name, loaded.concepts.index(name)) for name in cells.concepts):
            member = own == number
            if not member.any():
                continue
            (shown, _), edits = cells.builders(concept, knobs)[0], cells.edit(concept, knobs)
            after, prediction = _answers(loaded, batches, len(found), edits, positions)
            outcomes = Outcomes(
                gold=np.exp(after[np.arange(len(own)), own])[None],
                correct=(prediction == own)[None],
                kl=(np.exp(before) * (before - after)).sum(axis=1)[None],
                flipped=(prediction != base_prediction)[None],
            )
            measured = measure(outcomes, np.array([0]), base, member, bootstrap)
            row: dict[str, Any] = {"concept": concept, "sites": "+".join(map(str, edits))}
            row |= {name: getattr(shown, name) for name in KNOBS}
            row |= {"n_concept": int(member.sum()), "n_complement": int((~member).sum())}
            rows.append(row | {name: float(values[0]) for name, values in measured.items()})
    return pd.DataFrame(rows)


def _answers(
    loaded: LoadedModel, batches: Sequence[Batch], texts: int, edits: dict[Site, Any], positions: str
) -> tuple[FloatArray, IntArray]:
    """Return log-probabilities `[text, concept]`, float64, and predictions `[text]` of the model under edits."""
    model, head = loaded.model, loaded.head
    log_probabilities: list[FloatArray] = [np.empty(0)] * texts
    predicted = np.empty(texts, dtype=np.int64)
    for batch in batches:
        attended = batch.inputs["attention_mask"] != 0
        with edited(model, edits, positions=positions, prompt=prompt_mask(batch.inputs), attended=attended):
            reading: Reading = head.read(model, batch.inputs)
        with edited(model, edits, positions=positions):
            answered = head.answer(model, batch.inputs, reading)
        found = reading.log_probabilities.to(torch.float64).cpu().numpy()
        for row, values, answer in zip(batch.rows, found, answered.tolist(), strict=True):
            log_probabilities[row], predicted[row] = values, answer
    return np.stack(log_probabilities), predicted
