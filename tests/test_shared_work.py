"""Several processes on one cache: each stage is computed once, whoever dies, and the results are those of one alone."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from neuronlens.config.compose import compose
from neuronlens.pipeline import run
from tests.faults import run_at_once, run_in_a_process


@pytest.fixture(scope="module")
def words(tiny_overrides: list[str]) -> list[str]:
    return ["run", *tiny_overrides, "model.finetune.epochs=2", "sweep.top_fraction=[0.25,1.0]", "quiet=true"]


def test_two_jobs_on_an_empty_cache_compute_each_stage_once(words: list[str], tmp_path: Path) -> None:
    alone = run_in_a_process([*words, f"hydra.run.dir={tmp_path}/a/run", f"paths.cache_dir={tmp_path}/one"], tmp_path)
    assert alone.code == 0, alone.said
    assert {"TopBlocks", "ActivationExtractor", "SweepEvaluator"} == set(alone.work)
    several = [[*words, f"hydra.run.dir={tmp_path}/{name}/run", f"paths.cache_dir={tmp_path}/two"] for name in "bc"]
    both = run_at_once(several, tmp_path / "both")
    assert [ended.code for ended in both] == [0, 0], [ended.said for ended in both]
    assert sum((Counter(ended.work) for ended in both), Counter()) == alone.work
    wanted = (tmp_path / "a" / "run" / "results.csv").read_bytes()
    assert all((tmp_path / name / "run" / "results.csv").read_bytes() == wanted for name in "bc")
    assert not list((tmp_path / "two" / "claims").rglob("*.lock"))


@pytest.mark.slow
def test_what_a_killed_job_had_claimed_is_taken_over_while_others_wait(words: list[str], tmp_path: Path) -> None:
    alone = run_in_a_process([*words, f"hydra.run.dir={tmp_path}/a/run", f"paths.cache_dir={tmp_path}/one"], tmp_path)
    several = [[*words, f"hydra.run.dir={tmp_path}/{name}/run", f"paths.cache_dir={tmp_path}/two"] for name in "bc"]
    killed = run_in_a_process(several[0], tmp_path / "killed", fault="SIGKILL", at=alone.moments // 2)
    assert killed.code == -9
    assert list((tmp_path / "two" / "claims").rglob("*.lock")), "it died with a claim"
    both = run_at_once(several, tmp_path / "both")
    assert [ended.code for ended in both] == [0, 0], [ended.said for ended in both]
    wanted = (tmp_path / "a" / "run" / "results.csv").read_bytes()
    assert all((tmp_path / name / "run" / "results.csv").read_bytes() == wanted for name in "bc")


@pytest.mark.slow
def test_workers_share_the_cells_and_give_the_same_bytes(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    words = [*tiny_overrides, "model.finetune.epochs=2", "trainer.threads=1", "quiet=true"]
    for name, workers in (("one", 1), ("two", 3)):
        more = [f"paths.cache_dir={tmp_path}/{name}-cache", f"sweep.workers={workers}"]
        run(compose([*words, *more]), tmp_path / name / "run")
    one, two = ((tmp_path / name / "run" / "results.csv").read_bytes() for name in ("one", "two"))
    assert one == two
