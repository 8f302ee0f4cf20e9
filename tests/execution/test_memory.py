"""A device without memory for a forward: half of it and then the other, the same numbers, and the size in the manifest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.activations.extract import ActivationExtractor
from neuronlens.config.compose import compose
from neuronlens.errors import ModelError
from neuronlens.execution.memory import in_halves, watching_memory
from neuronlens.models.finetune import TopBlocks
from neuronlens.pipeline import run
from neuronlens.sweep.evaluator import SweepEvaluator, WorkItem


def _halves(work: list[int]) -> tuple[list[int], list[int]] | None:
    half = len(work) // 2
    return (work[:half], work[half:]) if half else None


@pytest.mark.parametrize("fits", [1, 2, 3, 7, 8])
def test_work_is_halved_until_it_fits(fits: int) -> None:
    done: list[int] = []

    def do(work: list[int]) -> None:
        if len(work) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(work)

    with watching_memory() as smaller:
        in_halves(do, list(range(8)), halve=_halves, size=len, what="numbers")
    assert done == list(range(8))
    assert smaller == ({} if fits == 8 else {"numbers": 4 if fits >= 4 else 2 if fits >= 2 else 1})


def test_what_does_not_fit_at_all_is_one_sentence_and_other_faults_come_through() -> None:
    def full(work: list[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(ModelError, match=r"no memory for the smallest piece of numbers .*2\.00 GiB.*Next: "):
        in_halves(full, [1, 2], halve=_halves, size=len, what="numbers")
    with pytest.raises(ZeroDivisionError):
        in_halves(lambda work: 1 / 0, [1, 2], halve=_halves, size=len, what="numbers")  # type: ignore[arg-type, return-value]


def test_a_run_goes_on_with_smaller_forwards_and_says_so(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*tiny_overrides, "model.finetune.epochs=2", "sweep.top_fraction=[0.5]", "evaluation.refine=false"]
    run(compose([*words, f"paths.cache_dir={tmp_path}/one"]), tmp_path / "plenty" / "run")
    extract, keep = ActivationExtractor._run, SweepEvaluator.keep

    def little_for_texts(self: ActivationExtractor, batch) -> None:  # type: ignore[no-untyped-def]
        if len(batch.rows) > 9:
            raise torch.OutOfMemoryError("made up")
        extract(self, batch)

    def little_for_cells(self: SweepEvaluator, item: WorkItem, edits) -> None:  # type: ignore[no-untyped-def]
        if item.size > 100:
            raise torch.OutOfMemoryError("made up")
        keep(self, item, edits)

    monkeypatch.setattr(ActivationExtractor, "_run", little_for_texts)
    monkeypatch.setattr(SweepEvaluator, "keep", little_for_cells)
    capsys.readouterr()
    run(compose([*words, "quiet=true", f"paths.cache_dir={tmp_path}/two"]), tmp_path / "little" / "run")
    warned = capsys.readouterr().err
    recorded = json.loads((tmp_path / "little" / "run" / "manifest.json").read_text())["smaller_batches"]
    assert set(recorded) == {"samples of a forward", "samples x cells of a forward"}
    assert recorded["samples of a forward"] <= 9
    assert recorded["samples x cells of a forward"] <= 100
    assert f"went on with {recorded['samples of a forward']} samples of a forward" in warned
    plenty, little = (pd.read_csv(tmp_path / name / "run" / "results.csv") for name in ("plenty", "little"))
    assert json.loads((tmp_path / "plenty" / "run" / "manifest.json").read_text())["smaller_batches"] == {}
    numbers = plenty.select_dtypes("number").columns
    np.testing.assert_allclose(little[numbers], plenty[numbers], atol=1e-5)


def test_fine_tuning_without_memory_is_one_sentence(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TopBlocks, batch: object, batch_idx: int) -> torch.Tensor:
        raise torch.OutOfMemoryError("made up")

    monkeypatch.setattr(TopBlocks, "training_step", full)
    with pytest.raises(ModelError, match=r"model\.finetune\.batch_size=16\. Next: a smaller one"):
        run(compose([*tiny_overrides, f"paths.cache_dir={tmp_path}/cache"]), tmp_path / "run")
