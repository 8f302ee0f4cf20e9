"""Checkpoints that would give numbers and must not: NaN, weights of another model, a tokenizer of another model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuronlens.config.schema import FinetuneConfig, ModelConfig
from neuronlens.errors import ModelError
from neuronlens.models.load import load
from neuronlens.models.source import locate
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, tiny_tokenizer


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def read(folder: Path) -> object:
    config = ModelConfig(path=str(folder), max_length=16)
    return load(config, locate(config, Store(folder.parent / "cache")), CONCEPTS)


def test_a_sound_folder_is_read(folder: Path) -> None:
    assert read(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["bert.embeddings.word_embeddings.weight", "classifier.bias"])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"holds NaN or infinity in 1 weights, first in {name}"):
        read(folder)


def test_weights_without_a_place_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.adapter.weight"] = torch.zeros(2, 2)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"holds 1 weights that its config has no place for, such as .*adapter\.weight"
    ):
        read(folder)


def test_a_larger_tokenizer_is_refused(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["one_more", "and_another"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="has 66 tokens and the model 64 embeddings"):
        read(folder)


def test_a_single_step_of_training_has_a_schedule() -> None:
    from neuronlens.models.finetune import TopBlocks
    from tests.conftest import tiny_model

    module = TopBlocks(tiny_model("bert"), FinetuneConfig(blocks=1), prefix_layer=1, steps=1)
    found = module.configure_optimizers()
    found["optimizer"].step()
    found["lr_scheduler"]["scheduler"].step()
    assert 0 <= found["lr_scheduler"]["scheduler"].get_last_lr()[0] <= 3e-4
