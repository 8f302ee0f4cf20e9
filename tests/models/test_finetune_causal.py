"""Fine-tuning a language model to say one token per concept: what moves, what stays, and what plain transformers sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from neuronlens.activations.extract import extract
from neuronlens.config.compose import compose
from neuronlens.config.schema import Config, FinetuneConfig
from neuronlens.data.concepts import load_concepts
from neuronlens.hooks.masks import scored_index
from neuronlens.models.causal import untrained_writer
from neuronlens.models.finetune import TopBlocks, finetuned
from neuronlens.models.source import locate
from neuronlens.records import Site
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, tiny_causal, tiny_tokenizer


def _config(family: str, overrides: list[str], folder: Path, head: str = "label_token") -> Config:
    tiny_causal(family, spread=1.0).save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    more = [
        f"model.path={folder}/model",
        f"model.head={head}",
        f"paths.cache_dir={folder}/cache",
        "model.max_length=20",
    ]
    return compose([*overrides, *more, "model.finetune={blocks:2,epochs:20,batch_size:16,learning_rate:0.01}"])


@pytest.mark.parametrize(
    ("family", "head"), [("llama", "label_token"), ("gpt2", "label_logprob"), ("gemma2", "label_token")]
)
def test_it_learns_its_labels_and_moves_nothing_else(
    family: str, head: str, tiny_overrides: list[str], tmp_path: Path
) -> None:
    config, store = _config(family, tiny_overrides, tmp_path, head), Store(tmp_path / "cache")
    data = load_concepts(config.dataset, store)
    source = locate(config.model, store)
    before = untrained_writer(config.model, source, data.concepts)
    loaded = finetuned(config.model, source, data, store, config.trainer)
    test = extract(loaded, data, "test", sites=[Site(2)], trainer=config.trainer)
    untrained = extract(before, data, "test", sites=[Site(2)], trainer=config.trainer)
    labels = data.labels[data.rows("test")]
    assert test.prediction is not None
    assert untrained.prediction is not None
    learned, guessed = ((found.prediction == labels).mean() for found in (test, untrained))
    assert learned > 0.5 > guessed, "four learnable concepts, chance is 0.25"
    words = list(before.prompt.first_tokens())
    was, now = (m.model.get_output_embeddings().weight.detach() for m in (before, loaded))
    others = [row for row in range(len(was)) if row not in words]
    assert torch.equal(was[others], now[others])
    assert not torch.equal(was[words], now[words])
    one, two = before.model.base_model.state_dict(), loaded.model.base_model.state_dict()
    blocks = "h." if family == "gpt2" else "layers."
    for name in one:
        if name.startswith(blocks):
            assert torch.equal(one[name], two[name]) == name.startswith(f"{blocks}0."), name


def test_plain_transformers_loads_it_and_says_the_same(tiny_overrides: list[str], tmp_path: Path) -> None:
    config, store = _config("llama", tiny_overrides, tmp_path), Store(tmp_path / "cache")
    data = load_concepts(config.dataset, store)
    loaded = finetuned(config.model, locate(config.model, store), data, store, config.trainer)
    model = AutoModelForCausalLM.from_pretrained(loaded.folder).eval()
    words = AutoTokenizer.from_pretrained(loaded.folder)
    test = extract(loaded, data, "test", sites=[Site(2)], trainer=config.trainer)
    ids = [words.convert_tokens_to_ids(f"<{concept}>") for concept in CONCEPTS]
    for row, place in enumerate(data.rows("test")[:5]):
        encoded = words(data.texts[place] + " <sep>", add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            logits = model(**encoded).logits[0, -1]
        assert test.log_probabilities is not None
        torch.testing.assert_close(
            torch.log_softmax(logits[ids], -1), torch.from_numpy(test.log_probabilities[row]), rtol=1e-5, atol=1e-5
        )
    again = finetuned(config.model, locate(config.model, store), data, store, config.trainer)
    assert again.folder == loaded.folder
    assert again.fingerprint == loaded.fingerprint


def test_a_step_on_label_rows_is_a_step_of_the_whole_model(tiny_overrides: list[str], tmp_path: Path) -> None:
    config, store = _config("llama", tiny_overrides, tmp_path), Store(tmp_path / "cache")
    loaded = untrained_writer(config.model, locate(config.model, store), CONCEPTS)
    model, words = loaded.model, torch.tensor(loaded.prompt.first_tokens())
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 64], [9, 64, 0, 0]]),
        "attention_mask": torch.tensor([[1] * 4, [1, 1, 0, 0]]),
    }
    inputs["position_ids"] = torch.tensor([[0, 1, 2, 3], [0, 1, 0, 0]])
    labels, seen = torch.tensor([2, 0]), []
    rows = torch.nn.Linear(16, 4, bias=False)
    rows.load_state_dict({"weight": model.get_output_embeddings().weight.detach()[words].clone()})
    handle = model.model.layers[0].register_forward_hook(lambda m, a, out: seen.append(out.detach()))
    logits = model(**inputs).logits[torch.arange(2), scored_index(inputs)[:, 0]][:, words]
    handle.remove()
    wanted = torch.nn.functional.cross_entropy(logits, labels)
    wanted.backward()
    expected = model.model.layers[2].mlp.down_proj.weight.grad.clone()
    model.zero_grad()
    module = TopBlocks(model, FinetuneConfig(blocks=2), prefix_layer=0, steps=4, rows=rows)
    loss = module.training_step((inputs, seen[0], labels), 0)
    loss.backward()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(model.model.layers[2].mlp.down_proj.weight.grad, expected, rtol=1e-5, atol=1e-7)
    assert model.get_output_embeddings().weight.grad is None
    assert rows.weight.grad is not None
