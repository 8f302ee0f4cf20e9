"""Seeds as a level: every draw follows the run's seed, and runs that differ in it alone are joined, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.report.compare.compare import compare
from tests.report.made_up import CONCEPTS, METHOD, RANGE, method, read, unedited, write_run

BASE = unedited(dict.fromkeys(CONCEPTS, 0.9))
GAPS = {0: (-0.10, -0.20, 0.00, -0.30), 1: (-0.20, -0.10, 0.10, np.nan), 2: (0.00, -0.30, 0.05, -0.10)}


def one_seed(folder: Path, seed: int, **changed: object) -> Path:
    mask = dict.fromkeys(CONCEPTS, 0.4)
    ours = {name: 0.4 + gap for name, gap in zip(CONCEPTS, GAPS[seed], strict=True)}
    matched = pd.concat([method(METHOD, mask), method(RANGE, ours)], ignore_index=True)
    return write_run(folder / f"seed{seed}", rows=BASE, matched=matched, seed=seed, **changed)


def test_every_draw_follows_the_seed_and_may_be_set_apart() -> None:
    for seed in (0, 1, 2):
        config = compose([f"seed={seed}"])
        assert (config.seed, config.dataset.seed, config.model.finetune.seed) == (seed, seed, seed)
    config = compose(["seed=1", "dataset.seed=5"])
    assert (config.dataset.seed, config.model.finetune.seed) == (5, 1)


def test_a_concept_is_its_mean_over_seeds_and_the_interval_is_over_concepts(tmp_path: Path) -> None:
    runs = read(*(one_seed(tmp_path, seed) for seed in GAPS))
    found = compare(runs)
    row = found.seeds.frame[found.seeds.frame["measure"] == "confidence"].iloc[0]
    gaps = np.array(list(GAPS.values()))
    by_concept, by_seed = np.nanmean(gaps, axis=0), np.nanmean(gaps, axis=1)
    assert row["difference"] == pytest.approx(by_concept.mean())
    assert row["difference"] != pytest.approx(np.nanmean(gaps)), "concepts count alike, however many seeds reach them"
    estimate = runs[0].bootstrap.of_mean(by_concept)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(estimate[1:]))
    assert row["between_seeds"] == pytest.approx(by_seed.std(ddof=1))
    assert (row["n_concepts"], row["n_seeds"]) == (4, 3)
    assert any("joined over seeds" in sentence for sentence in found.remarks)
    assert found.seeds in found.tables


def test_runs_that_differ_in_more_than_their_seed_are_not_joined(tmp_path: Path) -> None:
    paths = [one_seed(tmp_path, 0), one_seed(tmp_path, 1, dataset={"name": "vegetables"})]
    assert compare(read(*paths)).seeds.frame.empty
