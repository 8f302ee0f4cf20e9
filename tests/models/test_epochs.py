"""Fine-tuning that was stopped goes on from its last whole epoch and ends in the very same weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuronlens.config.compose import compose
from neuronlens.data.concepts import load_concepts
from neuronlens.execution.signals import Stopped, stoppable
from neuronlens.models import finetune
from neuronlens.models.epochs import Epochs
from neuronlens.models.finetune import TopBlocks, finetuned
from neuronlens.models.source import locate
from neuronlens.storage.cache import Store


def _weights(overrides: list[str], cache: Path) -> dict[str, torch.Tensor]:
    config = compose([*overrides, "model.finetune.epochs=4", f"paths.cache_dir={cache}"])
    store = Store(cache, warn=lambda sentence: None)
    data = load_concepts(config.dataset, store)
    loaded = finetuned(config.model, locate(config.model, store), data, store, config.trainer)
    return load_file(Path(str(loaded.folder)) / "model.safetensors")


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The optimiser steps that are taken, by their place in the epoch."""
    taken: list[int] = []
    step = TopBlocks.training_step

    def counted(self: TopBlocks, batch: object, batch_idx: int) -> torch.Tensor:
        taken.append(batch_idx)
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(TopBlocks, "training_step", counted)
    return taken


def test_a_stopped_training_goes_on_from_its_last_epoch_to_the_same_weights(
    tiny_overrides: list[str], tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = _weights(tiny_overrides, tmp_path / "plain")
    whole, per_epoch = len(steps), len(steps) // 4
    assert not list((tmp_path / "plain" / "finetuning").iterdir()), "the epochs leave with the training"
    steps.clear()
    step = finetune.TopBlocks.training_step

    def stopped(self: TopBlocks, batch: object, batch_idx: int) -> torch.Tensor:
        if len(steps) == 2 * per_epoch + 1:  # in the third epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(TopBlocks, "training_step", stopped)
        with pytest.raises(Stopped) as caught, stoppable():
            _weights(tiny_overrides, tmp_path / "stopped")
    assert caught.value.code == 143
    assert len(steps) == 2 * per_epoch + 2, "the step that was running was finished"
    assert [path.name[-7:] for path in (tmp_path / "stopped" / "finetuning").iterdir()] == ["epoch-2"]
    steps.clear()
    assert _same(_weights(tiny_overrides, tmp_path / "stopped"), wanted)
    assert len(steps) == whole - 2 * per_epoch
    assert not list((tmp_path / "stopped" / "finetuning").iterdir())


def test_a_damaged_epoch_is_not_gone_on_from(
    tiny_overrides: list[str], tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = _weights(tiny_overrides, tmp_path / "plain")
    whole = len(steps)
    with monkeypatch.context() as patched:
        patched.setattr(Epochs, "forget", lambda self: None)
        _weights(tiny_overrides, tmp_path / "left")
    (folder,) = (tmp_path / "left" / "finetuning").iterdir()
    content = bytearray((folder / "epoch.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "epoch.ckpt").write_bytes(content)
    for trained in (tmp_path / "left" / "finetuned").iterdir():
        Store(tmp_path / "left").forget("finetuned", trained.name)
    steps.clear()
    assert _same(_weights(tiny_overrides, tmp_path / "left"), wanted)
    assert len(steps) == whole
