"""The saliency by gradient against torch.autograd on a plain hooked model, one unpadded text at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neuronlens.activations.extract import extract
from neuronlens.activations.subsets import only_correct, with_labels
from neuronlens.config.compose import compose
from neuronlens.config.schema import Config
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.hooks.replay import starts_at
from neuronlens.models.loaded import LoadedModel
from neuronlens.pipeline import run
from neuronlens.records import ActivationSet, Site
from neuronlens.results.folder import RunFolder
from neuronlens.saliency.gradient import GradientSaliency
from neuronlens.sweep.gradients import with_gradients
from tests.activations.test_extract import CPU, dataset, loaded
from tests.conftest import CONCEPTS, tiny_tokenizer
from tests.sweep.test_evaluator_causal import LABELS, _module, language_model

ENCODER = {"resid_post": "bert.encoder.layer.{}", "mlp_out": "bert.encoder.layer.{}.output.dense"}


def found(model: LoadedModel, site: Site, positions: str) -> ActivationSet:
    """Return a fit split's activations that can tell their gradients."""
    config = Config(trainer=CPU)
    config.intervention.edit_positions = positions
    fit = extract(model, dataset(per_concept=6), "fit", sites=[site], keep=[starts_at(site)], trainer=CPU)
    return with_gradients(config, model, fit).activations[site]


def by_autograd(model: Any, module: Any, ids: list[int], columns: slice, score: Any) -> np.ndarray:
    """Return d score / d x summed over some columns of one text."""
    leaf: list[torch.Tensor] = []

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        leaf.append(hidden.detach().requires_grad_())
        return (leaf[0], *output[1:]) if isinstance(output, tuple) else leaf[0]

    handle = module.register_forward_hook(hook)
    logits = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits
    handle.remove()
    score(logits[0]).backward()
    model.zero_grad()
    return leaf[0].grad[0, columns].sum(0).numpy()


@pytest.mark.parametrize("positions", ["record", "all"])
@pytest.mark.parametrize("site", [Site(0), Site(1, "mlp_out"), Site(2)], ids=str)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_classifiers_gradients_and_scores_are_autograds(family: str, site: Site, positions: str) -> None:
    model, data = loaded(family), dataset(per_concept=6)
    if positions == "all" and site == Site(2):
        positions = "record"  # the states of the position that is read alone are stored at the last layer
    activations = found(model, site, positions)
    module = model.model.get_submodule(ENCODER[site.name].format(site.layer)) if family == "bert" else None
    module = module if module is not None else _module(model.model, family, site)
    record = slice(0, 1) if family == "bert" else slice(-1, None)
    rows, expected = data.rows("fit"), []
    for row in rows:
        ids = model.tokenizer(data.texts[row])["input_ids"][:16]
        columns = slice(None) if positions == "all" else record
        own = int(data.labels[row])
        expected.append(by_autograd(model.model, module, ids, columns, lambda logits, own=own: logits[own]))
    wanted = np.stack(expected)
    assert activations.gradients is not None
    np.testing.assert_allclose(activations.gradients(activations.labels), wanted, rtol=1e-3, atol=1e-5)
    labels, values = activations.labels, activations.values.astype(np.float64)
    scores = GradientSaliency().rank(activations).scores
    for concept in range(4):
        inside = labels == concept
        apart = values[inside].mean(0) - values[~inside].mean(0)
        np.testing.assert_allclose(scores[concept], np.abs(wanted[inside].mean(0) * apart), rtol=1e-3, atol=1e-5)
    assert scores.max() > 1e-3, "the positive control"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("head", ["label_token", "label_logprob", "generation"])
@pytest.mark.parametrize(("family", "layer"), [("llama", 1), ("gpt2", 0), ("gpt2", 2)])
def test_a_language_models_gradients_are_autograds(family: str, layer: int, head: str, side: str) -> None:
    model, data, words = language_model(family, head=head, side=side), dataset(per_concept=6), tiny_tokenizer()
    activations, module = found(model, Site(layer), "record"), _module(model.model, family, Site(layer))
    assert activations.gradients is not None
    gradients = activations.gradients(activations.labels)
    for place, row in enumerate(data.rows("fit")):
        ids = words(f"w1 w2 {data.texts[row]} w0", add_special_tokens=False)["input_ids"]
        label = words(LABELS[CONCEPTS[data.labels[row]]], add_special_tokens=False)["input_ids"]
        label = label[:1] if head == "label_token" else label

        def score(logits: torch.Tensor, ids: list[int] = ids, label: list[int] = label) -> torch.Tensor:
            found = logits if head == "label_token" else logits.log_softmax(-1)  # labels of one token have logits
            return torch.stack([found[len(ids) - 1 + at, token] for at, token in enumerate(label)]).mean()

        end = len(ids)
        wanted = by_autograd(model.model, module, [*ids, *label], slice(end - 1, end), score)
        np.testing.assert_allclose(gradients[place], wanted, rtol=1e-3, atol=2e-5)
    assert np.abs(gradients).max() > 1e-3


def test_other_labels_and_some_samples_have_gradients_of_their_own() -> None:
    activations = found(loaded("bert"), Site(1), "all")
    assert activations.gradients is not None
    plain = activations.gradients(activations.labels)
    turned = with_labels(activations, (activations.labels + 1) % 4, "turned")
    assert not np.allclose(GradientSaliency().rank(turned).scores, GradientSaliency().rank(activations).scores)
    half = np.where(np.arange(len(plain)) % 2 == 0, activations.labels, (activations.labels + 1) % 4)
    some = only_correct(replace(activations, base_prediction=half))
    assert some.gradients is not None
    np.testing.assert_allclose(some.gradients(some.labels), plain[::2], rtol=1e-4, atol=1e-6)


def test_without_the_model_it_is_refused_and_by_the_config_under_earlier_edits() -> None:
    with pytest.raises(ActivationError, match="runs the model backwards"):
        GradientSaliency().rank(replace(found(loaded("bert"), Site(1), "all"), gradients=None))
    with pytest.raises(ConfigError, match=r"saliency=gradient is taken in the unedited model.*layers\.mode=each"):
        compose(["saliency=gradient", "layers.mode=incremental", "layers.select=[0,1]"])


def test_a_run_ranks_by_gradient_with_shuffled_labels_and_several_layers(tiny_overrides, tmp_path) -> None:
    overrides = [*tiny_overrides, "sweep.saliency=[gradient,max]", "sweep.control=[none,shuffled_labels]"]
    overrides += ["layers.select=[0,1]", "layers.mode=together", "sweep.top_fraction=[0.25]", "sweep.edit=[zero]"]
    run(compose(overrides), tmp_path / "run")
    rows = RunFolder(tmp_path / "run").read_results().rows
    ours = rows[rows["saliency"] == "gradient"]
    assert ours["skipped"].isna().all()
    assert set(ours["control"].dropna()) == {"shuffled_labels"}
