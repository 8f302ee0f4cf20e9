"""A language model's sweep against plain forwards: one label, one text, no padding, no cache, a hook written here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuronlens.activations.extract import Extraction, extract
from neuronlens.config.schema import Config, ModelConfig
from neuronlens.config.schema_data import PromptConfig
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import ConfigError
from neuronlens.hooks.replay import starts_at
from neuronlens.models.causal import prompted
from neuronlens.models.heads.generation import match
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.source import ModelSource
from neuronlens.records import Knobs, Site
from neuronlens.sweep.evaluator import SweepEvaluator
from neuronlens.sweep.shards import run_sweep
from tests.activations.test_extract import CPU, dataset
from tests.conftest import CONCEPTS, tiny_causal, tiny_tokenizer
from tests.sweep.test_evaluator import fitted

FAMILIES = ["gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"]
LABELS = {"apple": "w3", "bridge": "w4 w5", "cloud": "w9 w6 w7", "drum": "w8"}
CELLS = [
    Knobs(saliency="max", top_fraction=0.5, range="gaussian", tau=1.5, gate="range", edit="zero", strength=1.0),
    Knobs(saliency="max", top_fraction=1.0, gate="neuron", edit="complement_mean", strength=0.5),
    Knobs(saliency="max", top_fraction=0.25, gate="neuron", edit="zero", strength=1.0),
]
BLOCKS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}
MLP_OUT = {"gpt2": "mlp.c_proj", "gpt_neox": "mlp.dense_4h_to_h"}


def language_model(family: str, head: str = "label_logprob", side: str = "left", **options: Any) -> LoadedModel:
    """Return a tiny language model that is asked for the made-up concepts, two of whose labels have several tokens."""
    config = ModelConfig(name=family, head=head, max_length=24, batch_size=options.pop("batch_size", 3), **options)
    source = ModelSource("tiny", {"tiny": family}, family, 3, 16, None)
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    prompt = PromptConfig(template="w1 w2 {text} w0", labels=LABELS)
    return prompted(config, source, tiny_causal(family), tokenizer, prompt, CONCEPTS)


def swept(
    model: LoadedModel, site: Site, positions: str, cells: Sequence[Knobs] = CELLS, **options: Any
) -> tuple[SweepEvaluator, EditBuilder, Extraction]:
    """Return a finished sweep, with the builder of its edits and the test split's extraction."""
    data = dataset(per_concept=4)
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
        tokens_per_forward=options.get("tokens", 16384),
    )
    run_sweep(evaluator, CPU)
    return evaluator, builder, test


def _module(model: Any, family: str, site: Site) -> Any:
    block = model.get_submodule(f"{BLOCKS.get(family, 'model.layers')}.{site.layer}")
    return block if site.name == "resid_post" else block.get_submodule(MLP_OUT.get(family, "mlp.down_proj"))


Edited = GatedEdit | Callable[[Tensor], Tensor] | None
"""What is done at some columns: a gated edit, worked out here, or a function of `[sample, position, neuron]`."""


def _by_hand(edit: Edited, columns: slice, x: Tensor) -> Tensor:
    if edit is None:
        return x
    part = x[:, columns]
    if not isinstance(edit, GatedEdit):
        out = x.clone()
        out[:, columns] = edit(part)
        return out
    inside = (part >= edit.lower[0, 0]) & (part <= edit.upper[0, 0])
    target = edit.scale[0] * part + edit.shift[0]
    out = x.clone()
    out[:, columns] = torch.where(inside, part + edit.strength[0] * (target - part), part)
    return out


def label_scores(
    model: Any, family: str, site: Site, edit: Edited, ids: list[int], label: list[int], positions: str
) -> tuple[float, float]:
    """Return (first token's, mean) log-probability of one label after one prompt, from one plain forward."""
    end = len(ids)
    columns = {
        "all": slice(None),
        "prompt": slice(0, end),
        "record": slice(end - 1, end),
        "generated": slice(end, None),
    }

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        changed = _by_hand(edit, columns[positions], hidden)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = _module(model, family, site).register_forward_hook(hook)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*ids, *label]]), use_cache=False).logits[0]
    handle.remove()
    found = torch.log_softmax(logits.double(), -1)
    steps = [float(found[end - 1 + place, token]) for place, token in enumerate(label)]
    return steps[0], float(np.mean(steps))


def expected(model: LoadedModel, family: str, site: Site, edit: Edited, positions: str, first_only: bool) -> np.ndarray:
    """Return the labels' log-probabilities [sample, concept] of the test split."""
    data = dataset(per_concept=4)
    texts = [data.texts[row] for row in data.rows("test")]
    words = tiny_tokenizer()
    scores = []
    for text in texts:
        ids = words(f"w1 w2 {text} w0", add_special_tokens=False)["input_ids"]
        labels = [words(LABELS[name], add_special_tokens=False)["input_ids"] for name in CONCEPTS]
        each = [label_scores(model.model, family, site, edit, ids, label, positions) for label in labels]
        scores.append([first if first_only else mean for first, mean in each])
    found = np.asarray(scores)
    return found - np.log(np.exp(found).sum(1, keepdims=True))


def _check(family: str, site: Site, positions: str, **options: Any) -> float:
    """Hold every cell of a sweep against plain forwards; return how far the edits moved the probabilities at most."""
    model = language_model(family, **options)
    first_only = model.head.name == "label_token"
    evaluator, builder, test = swept(model, site, positions)
    base = expected(model, family, site, None, positions, first_only)
    np.testing.assert_allclose(test.log_probabilities, base, atol=1e-5)
    labels, moved = evaluator.labels.numpy(), 0.0
    for place in range(0, len(evaluator.cells), 3):
        edit = builder.batch([evaluator.cells[place]])
        assert isinstance(edit, GatedEdit)
        wanted = expected(model, family, site, edit, positions, first_only)
        gold = np.exp(wanted[np.arange(len(labels)), labels])
        np.testing.assert_allclose(evaluator.outcomes.gold[place], gold, atol=1e-5)
        assert (evaluator.outcomes.correct[place] == (wanted.argmax(1) == labels)).all()
        kl = (np.exp(base) * (base - wanted)).sum(1)
        np.testing.assert_allclose(evaluator.outcomes.kl[place], kl, atol=1e-4, rtol=1e-4)
        moved = max(moved, float(np.abs(wanted - base).max()))
    return moved


@pytest.mark.parametrize("positions", ["record", "all"])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_label_log_probabilities_equal_plain_forwards(family: str, layer: int, positions: str) -> None:
    assert _check(family, Site(layer), positions) > 0.01, "the edits did nothing, so equality would say nothing"


@pytest.mark.parametrize("positions", ["prompt", "generated"])
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gemma3_text", "mistral"])
def test_prompt_and_generated_positions_equal_plain_forwards(family: str, layer: int, positions: str) -> None:
    assert _check(family, Site(layer), positions) > 1e-4


@pytest.mark.parametrize("site", [Site(0, "mlp_out"), Site(1, "mlp_out"), Site(2, "mlp_out")], ids=str)
@pytest.mark.parametrize("positions", ["record", "all"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gemma2"])
def test_sites_inside_a_block_equal_plain_forwards(family: str, positions: str, site: Site) -> None:
    assert _check(family, site, positions) > 1e-3


@pytest.mark.parametrize("options", [{"side": "right"}, {"batch_size": 1}, {"batch_size": 8}], ids=str)
@pytest.mark.parametrize(("layer", "positions"), [(1, "record"), (1, "all"), (2, "record")])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_trap_1_2_either_padding_side_and_any_batch(
    family: str, layer: int, positions: str, options: dict[str, Any]
) -> None:
    assert _check(family, Site(layer), positions, **options) > 0.01


@pytest.mark.parametrize(("layer", "positions"), [(0, "record"), (1, "all"), (2, "record")])
@pytest.mark.parametrize("family", ["gpt2", "qwen2", "gemma2"])
def test_first_tokens_equal_plain_forwards(family: str, layer: int, positions: str) -> None:
    assert _check(family, Site(layer), positions, head="label_token") > 0.01


def test_first_token_confidence_has_a_column_for_the_rest_and_no_vote_for_it() -> None:
    model = language_model("llama", head="label_token", confidence="first_token")
    evaluator, _, test = swept(model, Site(2), "record")
    assert test.log_probabilities is not None
    assert test.log_probabilities.shape[1] == 5
    np.testing.assert_allclose(np.exp(test.log_probabilities).sum(1), 1, atol=1e-5)
    normalised = extract(
        language_model("llama", head="label_token"), dataset(4), "test", sites=[Site(2)], keep=[2], trainer=CPU
    )
    assert normalised.prediction is not None
    assert test.prediction is not None
    assert (test.prediction == normalised.prediction).all()
    assert (
        test.base_confidence if hasattr(test, "base_confidence") else np.exp(test.log_probabilities[:, :4]) < 1
    ).all()
    assert np.isfinite(evaluator.outcomes.kl).all()


@pytest.mark.parametrize("positions", ["record", "all"])
def test_the_number_of_cells_in_a_forward_changes_nothing(positions: str) -> None:
    many, _, _ = swept(language_model("llama"), Site(1), positions)
    few, _, _ = swept(language_model("llama"), Site(1), positions, tokens=1)
    np.testing.assert_allclose(many.outcomes.gold, few.outcomes.gold, atol=2e-6)
    np.testing.assert_allclose(many.outcomes.kl, few.outcomes.kl, atol=2e-5)


def test_generated_positions_without_any_are_refused() -> None:
    with pytest.raises(ConfigError, match="'generated' edits nothing"):
        swept(language_model("llama", head="label_token"), Site(1), "generated")


@pytest.mark.parametrize("positions", ["record", "all", "prompt", "generated"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gemma3_text"])
def test_written_answers_under_edits_equal_a_loop_of_plain_forwards(family: str, positions: str) -> None:
    """The labels are the words that the unedited model writes most often, so that right and wrong answers both occur."""
    model = language_model(family, head="generation", max_new_tokens=3, parse="contains")
    data, words = dataset(per_concept=4), tiny_tokenizer()
    prompts = [words(f"w1 w2 {data.texts[row]} w0", add_special_tokens=False)["input_ids"] for row in data.rows("test")]
    plain = Counter(word for ids in prompts for word in _written(model.model, family, None, ids, "all", words))
    answers = tuple(word for word, _ in plain.most_common(4))
    labels = replace(model.head.labels, texts=answers)
    model = replace(model, head=replace(model.head, labels=labels))  # type: ignore[type-var]
    evaluator, builder, test = swept(model, Site(1), positions, cells=CELLS[:2])
    assert test.prediction is not None
    assert (test.prediction >= 0).any(), "some answer is a label, so the comparison below says something"
    for place in (0, 5):
        edit = builder.batch([evaluator.cells[place]])
        assert isinstance(edit, GatedEdit)
        for row, ids in enumerate(prompts):
            said = match(" ".join(_written(model.model, family, edit, ids, positions, words)), answers, "contains")
            assert evaluator.outcomes.correct[place, row] == (said == int(evaluator.labels[row]))
            assert evaluator.outcomes.flipped[place, row] == (said != int(test.prediction[row]))


def _written(model: Any, family: str, edit: GatedEdit | None, ids: list[int], positions: str, words: Any) -> list[str]:
    end, so_far = len(ids), list(ids)
    for _ in range(3):
        columns = {
            "all": slice(None),
            "prompt": slice(0, end),
            "record": slice(end - 1, end),
            "generated": slice(end, None),
        }[positions]

        def hook(module: Any, arguments: Any, output: Any, columns: slice = columns) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            changed = _by_hand(edit, columns, hidden)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = _module(model, family, Site(1)).register_forward_hook(hook)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([so_far]), use_cache=False).logits[0, -1]
        handle.remove()
        so_far.append(int(logits.argmax()))
    return words.decode(so_far[end:], skip_special_tokens=True).split()
