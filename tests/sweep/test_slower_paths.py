"""The slower paths give the fast ones' numbers: a sound model is made to take them, and nothing but the order of sums changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neuronlens.activations.extract import extract
from neuronlens.config.schema import Config
from neuronlens.edits.build import EditBuilder
from neuronlens.hooks.admission import Paths
from neuronlens.models.admission import with_paths
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Site
from neuronlens.sweep.evaluator import Outcomes, SweepEvaluator
from neuronlens.sweep.shards import run_sweep
from neuronlens.sweep.strategies.branches import Branches
from neuronlens.sweep.strategies.choose import strategy_for
from neuronlens.sweep.strategies.prompt_alone import PromptAlone
from neuronlens.sweep.strategies.rows import Rows
from tests.activations.test_extract import CPU, dataset, loaded
from tests.sweep.test_evaluator import CELLS, fitted
from tests.sweep.test_evaluator_causal import language_model

SLOWER = [
    Paths(replays=False),
    Paths(shrinks=False),
    Paths(branches=False),
    Paths(pads=False),
    Paths(replays=False, shrinks=False, branches=False, pads=False),
]


def _swept(model: LoadedModel, site: Site, positions: str) -> tuple[Outcomes, Any]:
    data, start = dataset(per_concept=4), model.paths.start_of(site)
    whole = not model.paths.replays
    fit = extract(model, data, "fit", sites=[site], trainer=CPU, to_the_head=whole).activations[site]
    test = extract(model, data, "test", sites=[site], keep=[start], trainer=CPU)
    assert test.log_probabilities is not None
    assert test.prediction is not None
    evaluator = SweepEvaluator(
        model,
        test.states[start],
        {site: EditBuilder(Config(), {"none": fitted(fit)}, select=fit)},
        [(knobs, concept) for knobs in CELLS for concept in range(4)],
        labels=data.labels[data.rows("test")],
        base_log_probabilities=test.log_probabilities,
        base_prediction=test.prediction,
        edit_positions=positions,
        tokens_per_forward=16384,
    )
    return run_sweep(evaluator, CPU), test.states[start]


def _model(family: str) -> LoadedModel:
    return loaded(family) if family == "bert" else language_model(family)


@pytest.mark.parametrize(
    "paths", SLOWER, ids=lambda paths: "-".join(n for n, taken in vars(paths).items() if not taken)
)
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("positions", ["record", "all"])
def test_a_sweep_on_slower_paths_gives_the_same(family: str, layer: int, positions: str, paths: Paths) -> None:
    model, site = _model(family), Site(layer)
    slow = with_paths(model, paths)
    assert slow.batch_size == (model.batch_size if paths.pads else 1)
    (fast, _), (ours, states) = _swept(model, site, positions), _swept(slow, site, positions)
    for name in ("gold", "kl"):
        np.testing.assert_allclose(getattr(ours, name), getattr(fast, name), atol=2e-5, err_msg=name)
    assert (ours.correct == fast.correct).mean() > 0.99
    assert fast.kl.max() > 1e-3, "the edits do something"
    if not paths.replays:
        assert states.layer == -1
    elif not paths.shrinks and layer == 2:
        assert states.parts[0][1].shape[1] == states.parts[0][0].inputs["input_ids"].shape[1] > 1


def test_the_way_of_reading_follows_the_paths() -> None:
    model = language_model("llama")
    assert isinstance(strategy_for(model, 1, "last", 1024), Branches)
    assert isinstance(strategy_for(model, 2, "last", 1024), PromptAlone)
    without = {name: replace(model, paths=Paths(**{name: False})) for name in ("branches", "shrinks")}
    assert type(strategy_for(without["branches"], 1, "last", 1024)) is Rows
    assert isinstance(strategy_for(without["shrinks"], 2, "last", 1024), Branches)
