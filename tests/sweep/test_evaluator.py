"""A sweep's outcomes against one plain hooked forward per cell, at every layer, for encoders and decoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neuronlens.activations.extract import extract
from neuronlens.config.compose import compose
from neuronlens.config.groups import option_names
from neuronlens.config.nodes import part
from neuronlens.config.plan import grid
from neuronlens.config.schema import Config
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import ConfigError
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.replay import starts_at
from neuronlens.ranges.gaussian import GaussianRange
from neuronlens.records import ActivationSet, Knobs, Site
from neuronlens.saliency.max import MaxSaliency
from neuronlens.sweep.evaluator import SweepEvaluator
from neuronlens.sweep.shards import run_sweep
from tests.activations.test_extract import CPU, dataset, loaded

CELLS = [
    Knobs(
        saliency="max",
        top_fraction=fraction,
        range="gaussian" if gate == "range" else None,
        tau=tau,
        gate=gate,
        edit=edit,
        strength=strength,
    )
    for fraction in (0.25, 1.0)
    for gate, tau in (("range", 1.5), ("neuron", None))
    for edit, strength in (("zero", 1.0), ("complement_mean", 0.5))
]


def fitted(found: ActivationSet) -> Fitted:
    """Return what one ranking and one range give."""
    return Fitted(found, {"max": MaxSaliency().rank(found)}, {("gaussian", 1.5): GaussianRange(tau=1.5).fit(found)})


def _evaluator(
    family: str, site: Site, positions: str, tokens: int = 16384, cells: list[Knobs] = CELLS
) -> tuple[SweepEvaluator, Any, EditBuilder]:
    model, data = loaded(family), dataset(per_concept=12)
    fit = extract(model, data, "fit", sites=[site], trainer=CPU, to_the_head=False).activations[site]
    test = extract(model, data, "test", sites=[site], keep=[starts_at(site)], trainer=CPU)
    builder = EditBuilder(Config(), {"none": fitted(fit)}, select=fit)
    assert test.log_probabilities is not None
    assert test.prediction is not None
    evaluator = SweepEvaluator(
        model,
        test.states[starts_at(site)],
        {site: builder},
        [(knobs, concept) for knobs in cells for concept in range(4)],
        labels=data.labels[data.rows("test")],
        base_log_probabilities=test.log_probabilities,
        base_prediction=test.prediction,
        edit_positions=positions,
        tokens_per_forward=tokens,
    )
    return evaluator, data, builder


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("site", [Site(0), Site(1), Site(2), Site(0, "mlp_neurons"), Site(2, "attn_out")], ids=str)
@pytest.mark.parametrize("positions", ["record", "all"])
def test_every_cell_equals_a_plain_hooked_forward(family: str, site: Site, positions: str) -> None:
    evaluator, data, builder = _evaluator(family, site, positions)
    outcomes = run_sweep(evaluator, CPU)
    model, rows = evaluator.loaded, data.rows("test")
    encoded = [model.tokenizer(data.texts[row])["input_ids"][:16] for row in rows]
    where = "all" if positions == "all" else model.record_position
    labels, changed = data.labels[rows], 0
    for place, cell in enumerate(evaluator.cells):
        with edited(model.model, {site: builder.batch([cell])}, positions=where), torch.no_grad():
            logits = torch.cat([model.model(input_ids=torch.tensor([ids])).logits for ids in encoded])
        probabilities = torch.softmax(logits, -1).numpy()
        np.testing.assert_array_equal(outcomes.correct[place], probabilities.argmax(1) == labels)
        np.testing.assert_allclose(outcomes.gold[place], probabilities[np.arange(len(labels)), labels], atol=1e-5)
        changed += bool(outcomes.kl[place].max() > 1e-4)
    assert changed > 5, "the positive control: cells change what the model says"


@pytest.mark.parametrize("tokens", [1, 40, 100_000])
def test_how_many_cells_share_a_forward_does_not_count(tokens: int) -> None:
    few, many = (run_sweep(_evaluator("bert", Site(1), "all", size)[0], CPU) for size in (16384, tokens))
    np.testing.assert_allclose(few.gold, many.gold, atol=1e-6)
    np.testing.assert_array_equal(few.correct, many.correct)


def test_an_edit_that_cannot_reach_the_head_is_refused() -> None:
    model, data = loaded("bert", record_position="last"), dataset()
    test = extract(model, data, "test", sites=[Site(2)], keep=[2], trainer=CPU)
    assert test.log_probabilities is not None
    assert test.prediction is not None
    with pytest.raises(ConfigError, match="cannot reach the head"):
        SweepEvaluator(
            model,
            test.states[2],
            {Site(2): EditBuilder(Config(), {"none": fitted(test.activations[Site(2)])})},
            [],
            labels=test.activations[Site(2)].labels,
            base_log_probabilities=test.log_probabilities,
            base_prediction=test.prediction,
            edit_positions="record",
            tokens_per_forward=1,
        )


EVERY = [
    Knobs(
        saliency="max",
        top_fraction=0.5,
        range="gaussian" if gate in ("range", "outside") else None,
        tau=tau,
        gate=gate,
        edit=edit,
        strength=strength,
    )
    for gate, tau in (("range", 1.5), ("outside", 1.5), ("neuron", None), ("joint", None), ("discriminant", None))
    for edit in option_names("edit")
    for strength in (0.0, 1.0)
    if not part(Config(), "edit", edit).mixes_neurons or gate in ("neuron", "joint", "discriminant")
]


@pytest.mark.parametrize("site", [Site(1), Site(2), Site(1, "mlp_neurons")], ids=str)
def test_trap_29_every_edit_behind_every_gate_runs_and_strength_0_is_the_base(site: Site) -> None:
    evaluator, _, _ = _evaluator("bert", site, "record", cells=EVERY)
    outcomes = run_sweep(evaluator, CPU)
    assert np.isfinite(outcomes.gold).all()
    assert np.isfinite(outcomes.kl).all()
    for place, (knobs, _) in enumerate(evaluator.cells):
        if knobs.strength == 0.0:
            assert not outcomes.flipped[place].any(), knobs
            assert np.abs(outcomes.kl[place]).max() < 1e-5, knobs
    moved = {
        (knobs.gate, knobs.edit)
        for place, (knobs, _) in enumerate(evaluator.cells)
        if knobs.strength == 1.0 and np.abs(outcomes.kl[place]).max() > 1e-6
    }
    expected = {(knobs.gate, knobs.edit) for knobs in EVERY}
    if site.name == "mlp_neurons":  # their values are small, and AlphaSteer's published ridge is in their squared units
        expected = {(gate, edit) for gate, edit in expected if edit != "alphasteer"}
    assert moved == expected, "the positive control: at full strength every edit behind every gate does something"


def test_edits_that_mix_neurons_share_a_sweep_with_elementwise_ones() -> None:
    cells = [knobs for knobs in EVERY if knobs.strength == 1.0 and knobs.gate in ("neuron", "joint")]
    mixed, _, _ = _evaluator("llama", Site(1), "record", cells=cells)
    outcomes = run_sweep(mixed, CPU)
    for place in (0, len(mixed.cells) // 2, len(mixed.cells) - 1):
        alone = SweepEvaluator(
            mixed.loaded,
            mixed.states,
            mixed.builders,
            [mixed.cells[place]],
            labels=mixed.labels.numpy(),
            base_log_probabilities=mixed.base.numpy(),
            base_prediction=mixed.base_prediction.numpy(),
            edit_positions="record",
            tokens_per_forward=1,
        )
        np.testing.assert_allclose(run_sweep(alone, CPU).gold[0], outcomes.gold[place], atol=1e-5)


def test_the_grid_holds_each_combination_once_and_the_neuron_gate_no_tau() -> None:
    config = compose(
        ["sweep.tau=[1,2,2]", "sweep.top_fraction=[0.1,0.5]", "sweep.edit=[zero]", "sweep.strength=[0.5,1]"]
    )
    cells = grid(config)
    assert len(cells) == len(set(cells)) == 2 * 2 * (2 + 1)
    assert all(cell.tau is None and cell.range is None for cell in cells if cell.gate == "neuron")
    counted = grid(compose(["sweep=single", "intervention.top_count=7"]))
    assert [(cell.top_count, cell.top_fraction) for cell in counted] == [(7, None)]
