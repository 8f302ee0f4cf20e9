"""What a run computed is found by the next one: other measures cost no forward, and the same seed gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronlens.config.compose import compose
from neuronlens.pipeline import run
from neuronlens.sweep.evaluator import SweepEvaluator


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cells each forward of a sweep holds."""
    counted: list[int] = []
    keep = SweepEvaluator.keep

    def watched(self: SweepEvaluator, item, edits) -> None:  # type: ignore[no-untyped-def]
        counted.append(len(item.cells))
        keep(self, item, edits)

    monkeypatch.setattr(SweepEvaluator, "keep", watched)
    return counted


def test_a_run_that_changes_measures_alone_computes_no_cell(
    tiny_overrides: list[str], tmp_path: Path, cells: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*tiny_overrides, "model.finetune.epochs=2", "evaluation.select=matched_erasure"]

    def results(name: str, cache: str, *more: str) -> bytes:
        cells.clear()
        run(compose([*words, f"paths.cache_dir={tmp_path / cache}", *more]), tmp_path / name / "run")
        return (tmp_path / name / "run" / "results.csv").read_bytes()

    first = results("first", "cache")
    once = len(cells)
    assert once > 4
    capsys.readouterr()
    other = ["evaluation.bootstrap=37", "evaluation.level=0.8", "evaluation.accuracy_budgets=[0.3]", "run_name=other"]
    assert results("measured", "cache", *other) != b""
    assert cells == []
    assert "found in the cache, none is left to compute" in capsys.readouterr().err
    results("doses", "cache", "evaluation.erasure_levels=[0.11,0.5,0.77]")
    assert 0 < len(cells) < once, "the grid is there; the doses between are other ones"
    results("seed", "cache", "seed=3")
    assert len(cells) >= once // 2, "the cells of another seed are others"
    assert results("again", "another cache") == first, "the same config and seed give the same bytes"
    assert len(cells) == once
