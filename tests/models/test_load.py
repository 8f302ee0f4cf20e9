"""Models from folders through the one way in: which concepts they have, at which stage, and how long a text may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuronlens.config.schema import FinetuneConfig, ModelConfig
from neuronlens.config.schema_data import PromptConfig, PromptExample
from neuronlens.errors import ModelError
from neuronlens.models.checkpoint import usable_positions
from neuronlens.models.load import MADE_UP, load
from neuronlens.models.source import locate
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, tiny_causal, tiny_model, tiny_tokenizer


@pytest.mark.parametrize(("family", "padding", "usable"), [("roberta", 0, 65), ("roberta", 1, 64), ("bert", 0, 64)])
def test_a_text_of_every_usable_position_runs_and_one_token_more_is_refused(
    family: str, padding: int, usable: int, tmp_path: Path
) -> None:
    model = tiny_model(family)
    if padding:  # RoBERTa's own, under which base has 514 positions and takes 512 tokens
        model = type(model)(type(model.config)(**(model.config.to_dict() | {"pad_token_id": padding}))).eval()
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    assert usable_positions(model) == usable
    options = {"name": family, "path": str(tmp_path / "model"), "finetune": FinetuneConfig(blocks=1)}
    fits, over = (ModelConfig(max_length=length, **options) for length in (usable, usable + 1))  # type: ignore[arg-type]
    store = Store(tmp_path / "cache")
    loaded = load(fits, locate(fits, store), ("one", "other"), stage="untrained")
    with torch.no_grad():
        loaded.model(input_ids=torch.full((1, usable), 7))
        with pytest.raises((IndexError, RuntimeError)):
            loaded.model(input_ids=torch.full((1, usable + 1), 7))
    with pytest.raises(ModelError, match=f"max_length is {usable + 1}; '{family}' has {usable} positions"):
        load(over, locate(over, store), ("one", "other"), stage="untrained")


def test_the_concepts_of_a_classifier_are_in_the_order_of_its_logits(model_folder: Path, tmp_path: Path) -> None:
    config = ModelConfig(name="tiny", path=str(model_folder), max_length=16)
    source = locate(config, Store(tmp_path))
    assert load(config, source, CONCEPTS[::-1]).concepts == CONCEPTS
    assert load(config, source).concepts == CONCEPTS, "its own, where none are asked for"
    with pytest.raises(
        ModelError, match="has the labels apple, bridge, cloud, drum; the dataset's concepts are apple, x"
    ):
        load(config, source, ("apple", "x"))


@pytest.mark.parametrize("head", ["label_token", "label_logprob", "generation"])
def test_a_prompted_model_has_what_its_stage_asks_for(head: str, tmp_path: Path) -> None:
    tiny_causal("llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    tune = FinetuneConfig(template="{text} <sep>")
    config = ModelConfig(name="tiny", path=str(tmp_path / "model"), head=head, max_length=40, finetune=tune)
    store = Store(tmp_path / "cache")
    source = locate(config, store)
    made_up = load(config, source, stage="untrained")
    assert made_up.concepts == MADE_UP
    assert made_up.prompt is not None
    assert len(made_up.tokenizer) == len(tiny_tokenizer()) + 1 + len(MADE_UP), "<sep> and one token per concept"
    assert {len(tokens) for tokens in made_up.prompt.labels()} == {1}
    made_up.model.save_pretrained(tmp_path / "trained")
    made_up.tokenizer.save_pretrained(tmp_path / "trained")
    config = replace(config, path=str(tmp_path / "trained"))
    trained = load(config, locate(config, store), MADE_UP, stage="trained")
    assert trained.prompt is not None
    assert (trained.prompt.text, trained.prompt.labels()) == (made_up.prompt.text, made_up.prompt.labels())
    labels = dict(zip(CONCEPTS, ("w3", "w20", "w40", "w55"), strict=True))
    asked = PromptConfig(template="w1 {text} w0", labels=labels, examples=[PromptExample("w7 w8", "drum")])
    ready = load(config, source, CONCEPTS, prompt=asked)
    assert ready.prompt is not None
    assert ready.concepts == CONCEPTS
    assert "w1 w7 w8 w0 w55" in ready.prompt.text
    assert ready.fingerprint != trained.fingerprint
