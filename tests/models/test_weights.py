"""A model is whole or refused by name: no weight missing, left over, NaN or infinite, no token without an embedding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from neuronlens.config.compose import compose
from neuronlens.errors import ModelError
from neuronlens.models.folder import refuse_unusable
from neuronlens.models.load import Stage, load
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.source import locate
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, FAMILY_CONFIGS, tiny_tokenizer

Weights = dict[str, torch.Tensor]
QUERY = "bert.encoder.layer.1.attention.self.query.weight"


def _loaded(folder: Path, tmp_path: Path, stage: Stage = "ready") -> LoadedModel:
    config = compose(["model=local", f"model.path={folder}", "model.max_length=16"]).model
    return load(config, locate(config, Store(tmp_path / "cache")), CONCEPTS, stage=stage)


def _with(model_folder: Path, tmp_path: Path, change: Callable[[Weights], object]) -> Path:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _set(value: float) -> Callable[[Weights], object]:
    return lambda weights: weights[QUERY].view(-1)[7:9].fill_(value)


@pytest.mark.parametrize("stage", ["ready", "untrained"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_trap_57_a_weight_that_is_no_number_is_refused_by_name(
    value: float, stage: Stage, model_folder: Path, tmp_path: Path
) -> None:
    folder = _with(model_folder, tmp_path, _set(value))
    with pytest.raises(ModelError, match=rf"Weight '{QUERY}' of model '\w+' holds NaN or infinity in 2 of 256 values"):
        _loaded(folder, tmp_path, stage)
    assert _loaded(model_folder, tmp_path, stage).concepts == CONCEPTS, "the same weights without it are good"


def test_a_weight_that_the_chosen_number_format_cannot_hold_is_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = _with(model_folder, tmp_path, _set(1e6))
    assert _loaded(folder, tmp_path).concepts == CONCEPTS
    config = compose(["model=local", f"model.path={folder}", "model.max_length=16", "model.dtype=float16"]).model
    with pytest.raises(ModelError, match=r"holds NaN or infinity.*another model\.dtype than float16"):
        load(config, locate(config, Store(tmp_path / "cache")), CONCEPTS)


@pytest.mark.parametrize("stage", ["ready", "untrained"])
def test_a_weight_that_the_model_has_no_place_for_is_refused(stage: Stage, model_folder: Path, tmp_path: Path) -> None:
    folder = _with(model_folder, tmp_path, lambda weights: weights.update({"bert.encoder.gain": torch.ones(3)}))
    with pytest.raises(ModelError, match=r"no place for: bert\.encoder\.gain\. They would be left out"):
        _loaded(folder, tmp_path, stage)


def test_a_head_of_another_task_is_left_where_a_head_is_trained_and_refused_where_it_is_read(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "language"
    AutoModelForMaskedLM.from_config(FAMILY_CONFIGS["bert"]()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    assert _loaded(folder, tmp_path, "untrained").concepts == CONCEPTS
    folder = _with(model_folder, tmp_path, lambda weights: weights.update({"second_head.weight": torch.ones(3)}))
    assert _loaded(folder, tmp_path, "untrained").concepts == CONCEPTS
    with pytest.raises(ModelError, match="no place for: second_head"):
        _loaded(folder, tmp_path)


@pytest.mark.parametrize("stage", ["ready", "untrained"])
def test_a_weight_that_is_missing_or_of_another_shape_is_refused(
    stage: Stage, model_folder: Path, tmp_path: Path
) -> None:
    folder = _with(model_folder, tmp_path, lambda weights: weights.pop(QUERY))
    with pytest.raises(ModelError, match=rf"lacks {QUERY}"):
        _loaded(folder, tmp_path, stage)
    shutil.rmtree(folder)
    folder = _with(model_folder, tmp_path, lambda weights: weights.update({QUERY: torch.zeros(16, 8)}))
    with pytest.raises(ModelError, match=r"attention\.self\.query\.weight"):
        _loaded(folder, tmp_path, stage)


def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["one", "more"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"has 66 tokens and the model 64 embeddings"):
        _loaded(folder, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"num_attention_heads": 0}, {"hidden_act": "gelv"}, {"hidden_size": "x"}, {"hidden_size": None}, {"id2label": 3}],
    ids=str,
)
def test_a_config_that_makes_no_model_is_one_sentence(
    changes: dict[str, object], model_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | changes))
    with pytest.raises(ModelError):
        _loaded(folder, tmp_path)


def test_the_folder_of_an_adapter_has_a_base_elsewhere_and_files_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "base"}')
    save_file({"x": torch.zeros(2)}, tmp_path / "adapter_model.safetensors")
    refuse_unusable(tmp_path)
    whole = (tmp_path / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="cut off"):
        refuse_unusable(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match="is no JSON"):
        refuse_unusable(tmp_path)
