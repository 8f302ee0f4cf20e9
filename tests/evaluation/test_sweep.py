"""A sweep's outcomes against one plain hooked forward per cell, at every layer, for encoders and decoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neuronlens.activations import extract
from neuronlens.config import compose
from neuronlens.edits.build import EditBuilder, Knobs
from neuronlens.errors import ConfigError
from neuronlens.evaluation.cells import grid
from neuronlens.evaluation.sweep import SweepEvaluator, run_sweep
from neuronlens.hooks.contexts import edited
from neuronlens.ranges.gaussian import GaussianRange
from neuronlens.records import Site
from neuronlens.saliency.max import MaxSaliency
from tests.test_activations import CPU, dataset, loaded

CELLS = [
    Knobs(fraction, None, "gaussian" if gate == "range" else None, tau, gate, edit, strength)
    for fraction in (0.25, 1.0)
    for gate, tau in (("range", 1.5), ("neuron", None))
    for edit, strength in (("zero", 1.0), ("complement_mean", 0.5))
]


def _evaluator(family: str, layer: int, positions: str, tokens: int = 16384) -> tuple[SweepEvaluator, Any, EditBuilder]:
    model, data = loaded(family), dataset(per_concept=12)
    fit = extract(model, data, "fit", layers=[layer], trainer=CPU, to_the_head=False).activations[layer]
    test = extract(model, data, "test", layers=[layer], keep=[layer], trainer=CPU)
    builder = EditBuilder(MaxSaliency().rank(fit), {1.5: GaussianRange(tau=1.5).fit(fit)})
    assert test.log_probabilities is not None
    cells = [(knobs, concept) for knobs in CELLS for concept in range(4)]
    evaluator = SweepEvaluator(
        model,
        test.states[layer],
        builder,
        cells,
        labels=data.labels[data.rows("test")],
        base_log_probabilities=test.log_probabilities,
        edit_positions=positions,
        tokens_per_forward=tokens,
    )
    return evaluator, data, builder


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("positions", ["record", "all"])
def test_every_cell_equals_a_plain_hooked_forward(family: str, layer: int, positions: str) -> None:
    evaluator, data, builder = _evaluator(family, layer, positions)
    outcomes = run_sweep(evaluator, CPU)
    model, rows = evaluator.loaded, data.rows("test")
    encoded = [model.tokenizer(data.texts[row])["input_ids"][:16] for row in rows]
    where = "all" if positions == "all" else model.record_position
    labels, changed = data.labels[rows], 0
    for place, cell in enumerate(evaluator.cells):
        with edited(model.model, {Site(layer): builder.batch([cell])}, positions=where), torch.no_grad():
            logits = torch.cat([model.model(input_ids=torch.tensor([ids])).logits for ids in encoded])
        probabilities = torch.softmax(logits, -1).numpy()
        np.testing.assert_array_equal(outcomes.correct[place], probabilities.argmax(1) == labels)
        np.testing.assert_allclose(outcomes.gold[place], probabilities[np.arange(len(labels)), labels], atol=1e-5)
        changed += bool(outcomes.flipped[place].any())
    assert changed > 5, "the positive control: cells change predictions"


@pytest.mark.parametrize("tokens", [1, 40, 100_000])
def test_how_many_cells_share_a_forward_does_not_count(tokens: int) -> None:
    few, many = (run_sweep(_evaluator("bert", 1, "all", size)[0], CPU) for size in (16384, tokens))
    np.testing.assert_allclose(few.gold, many.gold, atol=1e-6)
    np.testing.assert_array_equal(few.correct, many.correct)


def test_an_edit_that_cannot_reach_the_head_is_refused() -> None:
    model, data = loaded("bert", record_position="last"), dataset()
    test = extract(model, data, "test", layers=[2], keep=[2], trainer=CPU)
    fit = test.activations[2]
    builder = EditBuilder(MaxSaliency().rank(fit), {1.5: GaussianRange(tau=1.5).fit(fit)})
    assert test.log_probabilities is not None
    with pytest.raises(ConfigError, match="cannot reach the head"):
        SweepEvaluator(
            model,
            test.states[2],
            builder,
            [],
            labels=fit.labels,
            base_log_probabilities=test.log_probabilities,
            edit_positions="record",
            tokens_per_forward=1,
        )


def test_the_grid_holds_each_combination_once_and_the_neuron_gate_no_tau() -> None:
    config = compose(
        ["sweep.tau=[1,2,2]", "sweep.top_fraction=[0.1,0.5]", "sweep.edit=[zero]", "sweep.strength=[0.5,1]"]
    )
    cells = grid(config, "gaussian")
    assert len(cells) == len(set(cells)) == 2 * 2 * (2 + 1)
    assert all(cell.tau is None and cell.range is None for cell in cells if cell.gate == "neuron")
    counted = grid(compose(["sweep=single", "intervention.top_count=7"]), "gaussian")
    assert [(cell.top_count, cell.top_fraction) for cell in counted] == [(7, None)]
