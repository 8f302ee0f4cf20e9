"""A lens from a model in hand is the run's own, in the model's dtype; wrong texts and labels are refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import neuronlens as nl
from neuronlens.config.compose import compose
from neuronlens.errors import ConfigError, DataError, ModelError, NeuronLensError, ShapeError, SiteError
from neuronlens.hooks.contexts import capture
from neuronlens.lens.labels import concepts_of, indices
from neuronlens.lens.lens import Lens
from neuronlens.pipeline import run
from neuronlens.records import Site
from neuronlens.results.folder import RunFolder
from tests.conftest import CONCEPTS, FAMILY_NAMES, texts_of, tiny_causal, tiny_model, tiny_tokenizer
from tests.hooks.causal import generate

TEXTS = [text for concept in range(4) for text in texts_of(concept, 12, 0)]
LABELS = [name for name in CONCEPTS for _ in range(12)]


def state(model: torch.nn.Module) -> Any:
    """Return what a model is: weights, modes and hooks."""
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return weights, [(one.training, len(one._forward_hooks), len(one._forward_pre_hooks)) for one in model.modules()]


def fit(model: Any, texts: Any = TEXTS, labels: Any = LABELS, **options: Any) -> Lens:
    return nl.fit(model, tiny_tokenizer(), texts, labels, **{"progress": False, **options})


@pytest.mark.parametrize(
    "more", [[], ["layers.select=[0,1]", "layers.mode=together", "range=mixture", "saliency=probe"]]
)
def test_a_lens_from_a_model_in_hand_is_the_runs_own(
    more: list[str], tiny_overrides: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuronlens.report.figures.draw.draw", lambda *arguments, **named: [])
        config = compose([*tiny_overrides, "sweep=single", *more])
        run(config, tmp_path / "run")
    of_run = Lens.from_run(tmp_path / "run")
    samples = RunFolder(tmp_path / "run").read_samples("fit")
    model = AutoModelForSequenceClassification.from_pretrained(of_run.model_folder)
    lens = nl.fit(
        model,
        AutoTokenizer.from_pretrained(of_run.model_folder),
        samples["text"].tolist(),
        samples["label"].tolist(),
        layers=[site.layer for site in of_run.sites],
        saliency="probe" if more else "max",
        range="mixture" if more else "gaussian",
        max_length=config.model.max_length,
        batch_size=config.model.batch_size,
        progress=False,
    )
    assert (lens.sites, lens.concepts) == (of_run.sites, of_run.concepts)
    for site in lens.sites:
        ours, theirs = lens.cells.fitted[site], of_run.cells.fitted[site]
        assert np.array_equal(ours.activations.values, theirs.activations.values)
        assert ours.rankings.keys() == theirs.rankings.keys()
        assert ours.ranges.keys() <= theirs.ranges.keys()
        for name, ranking in ours.rankings.items():
            assert np.array_equal(ranking.scores, theirs.rankings[name].scores)
            assert np.array_equal(ranking.order, theirs.rankings[name].order)
        for key, ranges in ours.ranges.items():
            assert np.array_equal(ranges.lower, theirs.ranges[key].lower)
            assert np.array_equal(ranges.upper, theirs.ranges[key].upper)
    for concept in CONCEPTS:
        for site, edit in lens.edit(concept).items():
            wanted = of_run.edit(concept)[site]
            assert all(torch.equal(getattr(edit, name), getattr(wanted, name)) for name in ("lower", "upper", "scale"))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_is_fitted_and_left_as_it_was_found(family: str) -> None:
    model = tiny_model(family, labels=2).train()
    weights, modes = state(model)
    lens = fit(model, TEXTS[:24], LABELS[:24], layers="all", site="mlp_neurons", positions="mean")
    after, modes_after = state(model)
    assert modes_after == modes
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights.items())
    assert lens.concepts == ("apple", "bridge")
    assert [site.name for site in lens.sites] == ["mlp_neurons"] * 3
    inputs = tiny_tokenizer()(TEXTS[0], return_tensors="pt")
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    model.eval()
    with torch.no_grad():
        with capture(model, [Site(1, "mlp_neurons")]) as seen:
            model(**inputs)
        mean = seen[Site(1, "mlp_neurons")][0].mean(0).numpy()
    np.testing.assert_allclose(
        lens.cells.fitted[Site(1, "mlp_neurons")].activations.values[0], mean, rtol=1e-4, atol=1e-5
    )


def test_a_body_without_a_head_is_fitted_in_its_own_dtype() -> None:
    model = AutoModel.from_config(tiny_model("bert").config).to(torch.bfloat16)
    lens = fit(model, layers=1)
    values = lens.cells.fitted[Site(1)].activations.values
    assert np.array_equal(values, torch.from_numpy(values).bfloat16().float().numpy())
    assert lens.config.model.record_position == "cls"


def test_labels_are_names_or_numbers() -> None:
    assert concepts_of(["b", "a"], (), None) == ("a", "b")
    assert concepts_of([10, 9], (), None) == ("9", "10")
    assert concepts_of([1, 0], ("no", "yes"), None) == ("no", "yes")
    assert concepts_of(["yes", "no"], ("no", "yes", "perhaps"), None) == ("no", "yes", "perhaps")
    assert concepts_of([0, 1], ("LABEL_0", "LABEL_1"), ["bad", "good"]) == ("bad", "good")
    assert indices([1, "bad"], ("bad", "good")).tolist() == [1, 0]
    assert indices([9, 10], ("9", "10")).tolist() == [0, 1]
    numbers = np.array([CONCEPTS.index(label) for label in LABELS])
    model = tiny_model("bert")
    assert fit(model, labels=numbers, concepts=CONCEPTS).concepts == CONCEPTS
    assert fit(model, pd.Series(TEXTS), pd.Series(numbers)).concepts == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"texts": []}, DataError, "nl.fit got no text. Expected a list of texts"),
        ({"texts": "one text"}, DataError, r"takes a list of texts, got one text. Next: \[text\]"),
        ({"texts": ["w1", " "], "labels": ["apple", "drum"]}, DataError, "text 1 is an empty one, expected a text"),
        ({"texts": ["w1", 2], "labels": ["apple", "drum"]}, DataError, "text 1 is a int, expected a text"),
        ({"labels": ["apple"]}, ShapeError, "48 texts and 1 labels, expected a label for each text"),
        ({"labels": ["apple"] * 48}, DataError, "All 48 texts bear the label 'apple'. Expected two concepts or more"),
        ({"labels": [1.5] * 48}, DataError, "Label 0 is 1.5, expected a concept's name or its number"),
        ({"concepts": ["apple", "bridge", "cloud", "drums"]}, DataError, "Unknown label 'drum'. Did you mean 'drums'"),
        ({"concepts": ["apple", "apple"]}, DataError, "names one twice"),
        ({"layers": 3}, SiteError, "Layer 3 is past the end: the model has 3 layers"),
        ({"site": "resid_pots"}, SiteError, "Unknown site 'resid_pots'. Did you mean 'resid_post'"),
        ({"positions": "lst"}, ConfigError, "Unknown record position 'lst'. Did you mean 'last'"),
        ({"saliency": "maxx"}, ConfigError, "Did you mean 'max'"),
        ({"range": "gausian"}, ConfigError, "Did you mean 'gaussian'"),
        ({"gate": "rnge"}, ConfigError, "Did you mean 'range'"),
        ({"tau": -1.0}, ConfigError, "tau is -1.0, expected a number >= 0"),
        ({"range": "quantile", "tau": 1.0}, ConfigError, "tau=1.0 plays no part with range 'quantile'"),
        ({"edit_positions": "first"}, ConfigError, "Unknown intervention.edit_positions 'first'"),
        ({"select": ([], [])}, DataError, "nl.fit, select got no text"),
    ],
    ids=str,
)
def test_wrong_texts_labels_and_names_are_one_sentence(
    options: dict[str, Any], error: type[NeuronLensError], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(tiny_model("bert"), **options)


def test_a_tokenizer_without_a_pad_token_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ModelError, match=r"has no pad token.*Next: tokenizer.pad_token"):
        nl.fit(tiny_model("bert"), tokenizer, TEXTS, LABELS, progress=False)


def test_progress_is_one_line_that_can_be_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny_model("bert"), progress=True)
    assert "48 texts" in capsys.readouterr().err
    fit(tiny_model("bert"))
    assert capsys.readouterr().err == ""


def written_lens(tau: float) -> tuple[Lens, Any]:
    """Return a lens of a tiny language model, and the model."""
    model = tiny_causal("llama")
    return fit(model, layers=[0, 1], tau=tau, top_fraction=0.5, edit="complement_mean", edit_positions="all"), model


def test_where_no_gate_opens_what_is_written_stays_bit_for_bit() -> None:
    ids = tiny_tokenizer()(["w3 w14 w15 w9", "w40 w41 w42 w43"], return_tensors="pt")
    inputs = {name: ids[name] for name in ("input_ids", "attention_mask")}
    lens, model = written_lens(0.0)  # a point each: no value of a prompt lies in it
    plain = generate(model, inputs)
    with lens.erase(model, "apple", "drum"):
        closed = generate(model, inputs)
    assert torch.equal(plain.sequences, closed.sequences)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(plain.logits, closed.logits, strict=True))
    wide, _ = written_lens(3.0)
    with wide.erase(model, "apple", "drum"):
        opened = generate(model, inputs)
    assert not torch.equal(torch.stack(plain.logits), torch.stack(opened.logits))


def test_several_concepts_are_erased_one_after_the_other() -> None:
    lens, model = written_lens(3.0)
    ids = tiny_tokenizer()(TEXTS[:3], padding=True, return_tensors="pt")
    inputs = {name: ids[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        with lens.erase(model, "apple", "drum"):
            both = model(**inputs).logits
        with lens.erase(model, "apple"), lens.erase(model, "drum"):
            nested = model(**inputs).logits
        with lens.erase(model, "drum", "apple"):
            turned = model(**inputs).logits
        with lens.erase(model, "apple"):
            one = model(**inputs).logits
    assert torch.equal(both, nested)
    assert not torch.equal(both, turned)
    assert not torch.equal(both, one)
    with pytest.raises(ConfigError, match="name one concept or several"), lens.erase(model):
        pass
    with pytest.raises(ConfigError, match=r"Unknown knob 'taw'. Did you mean 'tau'"):
        lens.edit("apple", taw=1.0)


def test_leace_of_several_concepts_leaves_none_of_them() -> None:
    model = tiny_model("bert")
    lens = fit(model, gate="neuron", edit="leace")
    values = torch.from_numpy(lens.cells.fitted[Site(2)].activations.values)[None, :, None]
    single = {concept: lens.edit(concept)[Site(2)] for concept in ("apple", "drum")}
    together = lens.cells.edits(["apple", "drum"], {})
    own = {concept: torch.tensor([label == concept for label in LABELS]) for concept in single}

    def gap(hidden: torch.Tensor, concept: str) -> float:
        rows = hidden[0, :, 0]
        return float((rows[own[concept]].mean(0) - rows[~own[concept]].mean(0)).abs().max())

    apart, joint = values, values
    for edit, again in zip(single.values(), together, strict=True):
        apart, joint = edit(apart), again[Site(2)](joint)
    for concept in single:
        assert gap(values, concept) > 0.05
        assert gap(joint, concept) < 1e-4
    assert max(gap(apart, concept) for concept in single) > 1e-3  # fitted each by itself they undo each other
