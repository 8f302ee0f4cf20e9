"""Fine-tuning from stored prefix states: the prefix stays, plain transformers loads the result, and it is found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from neuronlens.config.compose import compose
from neuronlens.config.schema import FinetuneConfig
from neuronlens.data.concepts import load_concepts
from neuronlens.hooks.replay import forward
from neuronlens.models.finetune import TopBlocks, finetuned
from neuronlens.models.prefix import PrefixSample, stack_samples
from neuronlens.models.source import locate
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, FAMILY_NAMES, tiny_inputs, tiny_model


def test_the_prefix_stays_and_the_top_moves_and_plain_transformers_loads_it(
    tiny_overrides: list[str], tmp_path: Path, model_folder: Path
) -> None:
    config = compose([*tiny_overrides, "model.finetune.blocks=1", f"paths.cache_dir={tmp_path}"])
    store = Store(tmp_path)
    data = load_concepts(config.dataset, store)
    loaded = finetuned(config.model, locate(config.model, store), data, store, config.trainer)
    assert loaded.folder is not None
    plain = AutoModelForSequenceClassification.from_pretrained(loaded.folder).eval()
    before = AutoModelForSequenceClassification.from_pretrained(model_folder)
    for layer in range(3):
        now = plain.bert.encoder.layer[layer].state_dict()
        same = all(torch.equal(now[k], v) for k, v in before.bert.encoder.layer[layer].state_dict().items())
        assert same == (layer < 2), f"block {layer}"
    assert torch.equal(plain.bert.embeddings.word_embeddings.weight, before.bert.embeddings.word_embeddings.weight)
    assert not torch.equal(plain.classifier.weight, before.classifier.weight)
    assert plain.config.id2label == dict(enumerate(CONCEPTS))
    manifest = json.loads((Path(loaded.folder) / "manifest.json").read_text())
    assert manifest["max_length"] == 16
    assert AutoTokenizer.from_pretrained(loaded.folder)("w1 w2")["input_ids"] == loaded.tokenizer("w1 w2")["input_ids"]
    inputs = tiny_inputs("bert")
    assert torch.equal(plain(**inputs).logits, forward(loaded.model, inputs))
    again = finetuned(config.model, locate(config.model, store), data, store, config.trainer)
    assert again.folder == loaded.folder
    assert again.fingerprint == loaded.fingerprint


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_step_from_stored_states_is_a_step_of_the_whole_model(family: str) -> None:
    """The gradient of the trained parameters equals that of an ordinary forward with the prefix frozen."""
    model, inputs = tiny_model(family, spread=1.0), tiny_inputs(family)
    labels = torch.tensor([0, 1, 2, 3, 0])
    module = TopBlocks(model, FinetuneConfig(blocks=2), prefix_layer=0, steps=4)
    seen = []
    block = model.base_model.get_submodule(
        {"gpt2": "h", "bert": "encoder.layer", "roberta": "encoder.layer", "distilbert": "transformer.layer"}.get(
            family, "layers"
        )
    )[0]
    handle = block.register_forward_hook(lambda m, a, out: seen.append(out.detach()))
    torch.nn.functional.cross_entropy(forward(model, inputs), labels).backward()
    handle.remove()
    trained = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    model.zero_grad()
    module.training_step((inputs, seen[0], labels), 0).backward()
    ours = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    above = {name for name in trained if "classifier" in name or "score" in name or ".2." in name}
    assert above
    assert above <= set(ours)
    for name in above:
        torch.testing.assert_close(ours[name], trained[name], rtol=1e-5, atol=1e-6)
    assert not any(p.requires_grad for p in block.parameters())


def test_samples_are_padded_with_the_models_pad() -> None:
    samples = [
        PrefixSample(
            {"input_ids": torch.arange(n), "attention_mask": torch.ones(n, dtype=torch.long)}, torch.ones(n, 4), n
        )
        for n in (2, 3)
    ]
    inputs, states, labels = stack_samples(samples, pad_id=7)
    assert inputs["input_ids"].tolist() == [[0, 1, 7], [0, 1, 2]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert states.shape == (2, 3, 4)
    assert labels.tolist() == [2, 3]


def test_training_is_the_same_for_the_same_seed_and_not_for_another(tiny_overrides: list[str], tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        store = Store(tmp_path / str(number))
        config = compose([*tiny_overrides, f"model.finetune.seed={seed}", "model.finetune.epochs=2"])
        data = load_concepts(config.dataset, store)
        torch.manual_seed(number)  # the caller's state does not count
        weights.append(
            finetuned(config.model, locate(config.model, store), data, store, config.trainer).model.classifier.weight
        )
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
