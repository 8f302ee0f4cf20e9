"""Classifiers from folders: how long a text may be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neuronlens.config.schema import FinetuneConfig, ModelConfig
from neuronlens.errors import ModelError
from neuronlens.models.checkpoint import usable_positions
from neuronlens.models.load import load
from neuronlens.models.source import locate
from neuronlens.storage.cache import Store
from tests.conftest import tiny_model, tiny_tokenizer


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
