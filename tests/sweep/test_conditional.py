"""Edits behind the discriminant gate: every way of reading cells against plain forwards with a hook written here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuronlens.activations.extract import extract
from neuronlens.config.compose import compose
from neuronlens.config.schema import Config
from neuronlens.edits.base import Projection
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.detected import DetectedEdit, Detector
from neuronlens.edits.fitting import Fitted
from neuronlens.edits.gates.base import Score
from neuronlens.edits.gates.discriminant import DiscriminantGate
from neuronlens.edits.leace import Leace, along
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.replay import starts_at
from neuronlens.records import ActivationSet, Knobs, Site
from neuronlens.saliency.max import MaxSaliency
from neuronlens.sweep.evaluator import SweepEvaluator
from neuronlens.sweep.shards import run_sweep
from tests.activations.test_extract import CPU, dataset, loaded
from tests.conftest import tiny_causal
from tests.hooks.causal import generate, prompts
from tests.sweep.test_evaluator_causal import expected, language_model
from tests.sweep.test_gradients import found

STRENGTH = 3.0
LEACE = Knobs(gate="discriminant", edit="leace", strength=STRENGTH)
ZERO = Knobs(gate="discriminant", edit="zero", strength=1.0, saliency="max", top_fraction=0.5)
SETTINGS = ["++gate.discriminant.theta=zero", "intervention.covariance=shrunk", "sweep.gate=[discriminant]"]


def conditional() -> Config:
    """Return a config whose gate opens at z > 0."""
    return compose(SETTINGS)


def leace_by_hand(fit: ActivationSet, concept: int, strength: float = STRENGTH) -> Callable[[Tensor], Tensor]:
    """Return x -> x - strength z delta where z > 0, from NumPy alone."""
    wide, own = fit.values.astype(np.float64), fit.labels == concept
    delta = wide[own].mean(0) - wide[~own].mean(0)
    sigma = np.cov(wide.T, ddof=0)
    sigma = 0.9 * sigma + 0.1 * np.trace(sigma) / len(sigma) * np.eye(len(sigma))
    read = np.linalg.solve(sigma, delta)
    read, mean = torch.from_numpy(read / (read @ delta)), torch.from_numpy(wide.mean(0))

    def edit(hidden: Tensor) -> Tensor:
        z = ((hidden.double() - mean) @ read)[..., None]
        moved = hidden.double() - strength * z * torch.from_numpy(delta)
        return torch.where(z > 0, moved.to(hidden.dtype), hidden)

    return edit


def sweep_of(model: Any, sites: list[Site], positions: str, cells: list[Knobs], per_concept: int) -> Any:
    """Return an evaluator that ran, the fit split's activations by site, and the data."""
    data = dataset(per_concept=per_concept)
    fit = extract(model, data, "fit", sites=sites, trainer=CPU, to_the_head=False).activations
    start = starts_at(sites[0])
    test = extract(model, data, "test", sites=sites, keep=[start], trainer=CPU)
    builders = {
        site: EditBuilder(conditional(), {"none": Fitted(own, {"max": MaxSaliency().rank(own)}, {})}, select=own)
        for site, own in fit.items()
    }
    assert test.log_probabilities is not None
    assert test.prediction is not None
    evaluator = SweepEvaluator(
        model,
        test.states[start],
        builders,
        [(knobs, concept) for knobs in cells for concept in range(4)],
        labels=data.labels[data.rows("test")],
        base_log_probabilities=test.log_probabilities,
        base_prediction=test.prediction,
        edit_positions=positions,
        tokens_per_forward=16384,
    )
    run_sweep(evaluator, CPU)
    return evaluator, fit, data


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def hooked(blocks: Any, edits: dict[int, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Edit whole block outputs by hooks of this file."""

    def change(edit: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def hook(module: Any, arguments: Any, output: Any) -> Any:
            changed = edit(_first(output))
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    handles = [blocks[layer].register_forward_hook(change(edit)) for layer, edit in edits.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def blocks_of_tiny(model: Any, family: str) -> Any:
    """Return the blocks of a tiny classifier."""
    return model.bert.encoder.layer if family == "bert" else model.model.layers


@pytest.mark.parametrize("layers", [[1], [0, 1, 2]], ids=str)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_classifier_under_gated_leace_equals_plain_hooked_forwards(family: str, layers: list[int]) -> None:
    model, sites = loaded(family), [Site(layer) for layer in layers]
    evaluator, fit, data = sweep_of(model, sites, "all", [LEACE], 6)
    rows = data.rows("test")
    labels, moved = data.labels[rows], 0.0
    for concept in range(4):
        edits = {site.layer: leace_by_hand(fit[site], concept) for site in sites}
        found = []
        for row in rows:
            ids = torch.tensor([model.tokenizer(data.texts[row])["input_ids"][:16]])
            with hooked(blocks_of_tiny(model.model, family), edits), torch.no_grad():
                found.append(torch.softmax(model.model(input_ids=ids).logits[0], -1).numpy())
        gold = np.stack(found)[np.arange(len(labels)), labels]
        np.testing.assert_allclose(evaluator.outcomes.gold[concept], gold, atol=2e-5)
        moved = max(moved, float(evaluator.outcomes.kl[concept].max()))
    assert moved > 1e-3, "the positive control"


@pytest.mark.parametrize(
    ("family", "side", "layer", "positions", "strategy"),
    [
        ("llama", "left", 1, "all", "Rows"),
        ("llama", "right", 1, "all", "Rows"),
        ("gpt2", "left", 1, "prompt", "Rows"),
        ("gpt2", "right", 0, "record", "Branches"),
        ("llama", "left", 0, "record", "Branches"),
        ("gpt2", "left", 1, "generated", "Branches"),
        ("llama", "right", 2, "record", "PromptAlone"),
        ("gpt2", "left", 2, "all", "Rows"),
    ],
)
def test_labels_under_gated_leace_equal_plain_forwards_in_every_strategy_and_on_either_padding_side(
    family: str, side: str, layer: int, positions: str, strategy: str
) -> None:
    model, site = language_model(family, side=side), Site(layer)
    evaluator, fit, _ = sweep_of(model, [site], positions, [LEACE], 4)
    assert type(evaluator.strategy).__name__ == strategy
    labels = evaluator.labels.numpy()
    wanted = expected(model, family, site, leace_by_hand(fit[site], 3), positions, first_only=False)
    gold = np.exp(wanted[np.arange(len(labels)), labels])
    np.testing.assert_allclose(evaluator.outcomes.gold[3], gold, atol=2e-5)
    assert evaluator.outcomes.kl.max() > 1e-5, "the positive control"


def without_padding(inputs: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """Return one row that is padded on the right alone, without its padding: a model writes behind a prompt's end."""
    length = int(inputs["attention_mask"][row].sum())
    return {name: tensor[row : row + 1, :length] for name, tensor in inputs.items()}


@pytest.mark.parametrize("positions", ["all", "generated"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_the_gate_decides_token_by_token_with_and_without_a_cache_and_on_either_padding_side(
    family: str, positions: str
) -> None:
    model, generator = tiny_causal(family), np.random.default_rng(0)
    edits = {}
    for layer in (0, 1):
        read, write = generator.normal(size=(2, 1, 16))
        with torch.no_grad():
            seen: list[Tensor] = []
            path = "transformer.h" if family == "gpt2" else "model.layers"
            handle = model.get_submodule(f"{path}.{layer}").register_forward_hook(
                lambda module, arguments, output, seen=seen: seen.append(_first(output))
            )
            model(**prompts(8))
            handle.remove()
        bias = seen[0].double().mean((0, 1)).numpy()  # so that about half of the tokens are open
        score = Score(np.zeros(16), read[0], -float(read[0] @ bias))
        edits[Site(layer)] = DetectedEdit(
            ProjectionEdit.of([Projection(bias, read, write)], [0.5]), Detector.of([score], 16)
        )
    plain = generate(model, prompts(8))
    found = {}
    for side in ("left", "right"):
        for use_cache in (True, False):
            inputs = prompts(8, side=side)
            rows = [inputs] if side == "left" else [without_padding(inputs, row) for row in range(8)]
            with edited(model, edits, positions=positions):
                written = [generate(model, own, use_cache=use_cache) for own in rows]
            found[side, use_cache] = torch.cat([torch.stack(one.logits).transpose(0, 1) for one in written])
    first = found["left", True]
    for other in found.values():
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(torch.stack(plain.logits).transpose(0, 1), first, atol=1e-3)


def test_elementwise_edits_share_the_gate_with_leace_and_padding_is_untouched() -> None:
    model = loaded("bert")
    evaluator, _, _ = sweep_of(model, [Site(1)], "all", [LEACE, replace(LEACE, strength=0.0), ZERO], 12)
    still = [place for place, (knobs, _) in enumerate(evaluator.cells) if knobs.strength == 0.0]
    assert not evaluator.outcomes.flipped[still].any()
    assert np.abs(evaluator.outcomes.kl[still]).max() < 1e-6
    batch = evaluator.builders[Site(1)].batch([(LEACE, 0)])
    for inputs, states in ((batch_.inputs, states) for batch_, states in evaluator.states.parts):
        padded = inputs["attention_mask"] == 0
        found = batch(states[None], ~padded)[0]
        assert torch.equal(found[padded], states[padded])
        assert not torch.equal(found, states)


def test_leace_writes_along_the_mean_gradient_of_the_logit_as_far_and_to_the_same_side() -> None:
    activations = found(loaded("bert"), Site(1), "all")
    assert activations.gradients is not None
    slopes = activations.gradients(activations.labels).astype(np.float64)
    plain, gradient = Leace(covariance="shrunk"), Leace(covariance="shrunk", write="gradient")
    wide = activations.values.astype(np.float64)
    for concept in range(4):
        own = slopes[activations.labels == concept].mean(axis=0)
        ours, theirs = gradient.target(activations, concept), plain.target(activations, concept)
        moves, expected = ours(wide) - wide, theirs(wide) - wide
        np.testing.assert_allclose(np.linalg.norm(moves, axis=1), np.linalg.norm(expected, axis=1), rtol=1e-6)
        z = DiscriminantGate(covariance="shrunk").coordinate(activations, concept)(wide)
        np.testing.assert_allclose(moves @ own / np.linalg.norm(own), -np.sign(z) * np.linalg.norm(moves, axis=1))
    nothing = along(theirs, np.zeros(len(own)), own)
    assert "no gradient" in str(nothing.reason)
    without = replace(activations, gradients=None)
    with pytest.raises(ActivationError, match="write=gradient runs the model backwards"):
        Leace(write="gradient").target(without, 0)
    with pytest.raises(ConfigError, match="Did you mean 'gradient'"):
        compose(["sweep.gate=[neuron]", "sweep.edit=[leace]", "++edit.leace.write=gradent"])
    modes = ["layers.mode=incremental", "layers.select=[0,1]"]
    with pytest.raises(ConfigError, match=r"layers\.mode=each"):
        compose(["sweep.gate=[neuron]", "sweep.edit=[leace]", "++edit.leace.write=gradient", *modes])
