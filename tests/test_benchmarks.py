"""The GPU benchmark's code on a toy model: it runs, and what it says of itself is true. Its figures mean nothing here."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu
from benchmarks.cells import range_masks


def test_the_gpu_benchmark_runs_on_a_toy_model() -> None:
    extraction, cell = gpu.bench(gpu.TINY, "cpu", repeats=1)
    assert extraction["name"] == "gpu_extract"
    assert extraction["ratio"] == pytest.approx(extraction["other_s"] / extraction["ours_s"])
    assert cell["ours_s"] > 0 < cell["peak_memory"]["host_gib"]
    assert "= 220 cells" in cell["what"]
    assert len(set(gpu.grid(14))) == 14 * (10 * 5 + 5)


def test_its_plain_side_and_its_extraction_say_the_same() -> None:
    job = gpu.Job(gpu.TINY, "cpu")
    found = job.extracted()
    logits = torch.cat([job.loaded.model(ids).logits[:, -1] for ids in job.ids])
    said = torch.log_softmax(logits, -1)
    tokens = job.loaded.head.labels.tokens
    assert {len(label) for label in tokens} == {1, 2}
    assert found.log_probabilities is not None
    difference = found.log_probabilities[:, 1] - found.log_probabilities[:, 2]
    one, other = (said[:, tokens[label][0]] for label in (1, 2))
    torch.testing.assert_close(torch.from_numpy(difference), (one - other).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 0
    said = capsys.readouterr().out
    assert "No CUDA device was found" in said
    assert "ratio" not in said


def test_cells_to_be_timed_are_as_many_as_asked_and_all_different() -> None:
    assert len(set(range_masks(7, 140))) == 140
    assert {concept for _, concept in range_masks(7, 20)} == set(range(7))
    assert all(0 < float(knobs.top_fraction or 0) < 1 for knobs, _ in range_masks(7, 140))
