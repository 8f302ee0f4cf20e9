"""Which way cells are read, and that each way is only taken where it gives what rows of whole batches give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neuronlens.models.batches import Batch
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Site
from neuronlens.sweep.strategies.base import OncePerBatch, Strategy, cells_that_fit
from neuronlens.sweep.strategies.branches import Branches
from neuronlens.sweep.strategies.choose import edited_positions, strategy_for
from neuronlens.sweep.strategies.prompt_alone import PromptAlone
from neuronlens.sweep.strategies.rows import Generated, Rows, edited_rows
from tests.activations.test_extract import CPU, loaded
from tests.sweep.test_evaluator import run_sweep
from tests.sweep.test_evaluator_causal import language_model, swept

LAST, BELOW = 2, 1


def _model(head: str) -> LoadedModel:
    return loaded("bert") if head == "seq_cls" else language_model("llama", head)


@pytest.mark.parametrize(
    ("head", "layer", "positions", "way"),
    [
        ("seq_cls", LAST, "record", Rows),
        ("seq_cls", BELOW, "record", Rows),
        ("seq_cls", BELOW, "all", Rows),
        ("label_logprob", LAST, "record", PromptAlone),
        ("label_logprob", LAST, "prompt", PromptAlone),
        ("label_logprob", LAST, "all", Rows),
        ("label_logprob", LAST, "generated", Rows),
        ("label_logprob", BELOW, "record", Branches),
        ("label_logprob", BELOW, "generated", Branches),
        ("label_logprob", BELOW, "prompt", Rows),
        ("label_logprob", -1, "record", Branches),
        ("label_token", LAST, "record", Rows),
        ("label_token", BELOW, "record", Branches),
        ("generation", LAST, "record", Generated),
        ("generation", BELOW, "all", Generated),
    ],
)
def test_the_cheapest_way_that_is_exact_is_taken(head: str, layer: int, positions: str, way: type[Strategy]) -> None:
    model = _model(head)
    chosen = strategy_for(model, layer, edited_positions(model, layer, positions), 1000)
    assert type(chosen) is way


@pytest.mark.parametrize(
    ("site", "positions"), [(Site(2), "record"), (Site(2), "prompt"), (Site(1), "record"), (Site(0), "generated")]
)
@pytest.mark.parametrize("head", ["label_logprob", "label_token"])
def test_every_way_gives_what_rows_of_whole_batches_give(head: str, site: Site, positions: str) -> None:
    if head == "label_token" and positions == "generated":
        return
    evaluator, _, _ = swept(language_model("llama", head), site, positions)
    chosen = {name: getattr(evaluator.outcomes, name).copy() for name in ("gold", "kl", "correct", "flipped")}
    resolved = edited_positions(evaluator.loaded, site.layer, positions)
    evaluator.strategy = Rows(evaluator.loaded, site.layer, resolved, 1000)
    rows = run_sweep(evaluator, CPU)
    np.testing.assert_allclose(chosen["gold"], rows.gold, atol=2e-6)
    np.testing.assert_allclose(chosen["kl"], rows.kl, atol=2e-5)
    assert (chosen["correct"] == rows.correct).all()
    assert (chosen["flipped"] == rows.flipped).all()
    assert rows.kl.max() > 1e-3


def test_cells_share_a_forward_up_to_its_tokens_and_its_logits() -> None:
    assert cells_that_fit(4, tokens=10, floats=1, tokens_per_forward=79) == 1
    assert cells_that_fit(4, tokens=10, floats=1, tokens_per_forward=80) == 2
    assert cells_that_fit(4, tokens=10, floats=1 << 24, tokens_per_forward=10**9) == 2
    assert cells_that_fit(4, tokens=10, floats=1, tokens_per_forward=1) == 1, "one at least"


def test_what_a_batch_shares_is_made_once_per_batch() -> None:
    made = []
    once = OncePerBatch(lambda batch, states: made.append(batch) or len(made))
    one, other = (Batch(np.arange(2), {}) for _ in range(2))
    found = [once(batch, torch.zeros(0)) for batch in (one, one.to("cpu"), other, other, one)]
    assert found == [1, 1, 2, 2, 3]


def test_rows_leave_the_model_and_the_states_as_they_were() -> None:
    evaluator, builder, test = swept(language_model("gpt2"), Site(1), "all")
    model, (batch, states) = evaluator.model, test.states[1].parts[0]
    before, blocks = states.clone(), list(model.transformer.h)
    edits = {Site(1): builder.batch(evaluator.cells[:2])}
    options: dict[str, Any] = {"cells": 2, "positions": "all"}
    with edited_rows(model, 1, edits, batch.inputs, states, **options) as rows:
        assert len(rows["input_ids"]) == 2 * len(batch.rows)
        assert blocks[0](states) is states, "a block below the stored one hands its input on"
    with pytest.raises(ZeroDivisionError), edited_rows(model, 1, edits, batch.inputs, states, **options):
        _ = 1 / 0
    assert torch.equal(states, before)
    assert all(own is now for own, now in zip(blocks, model.transformer.h, strict=True))
    assert blocks[0](states) is not states
