"""Runs with little to go on, or nowhere to write: they end in a report that says so, or in one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from neuronlens.cli import run_command
from neuronlens.results.folder import RunFolder
from neuronlens.storage import files
from tests.bad_inputs.test_bad_inputs import LEAKS


def test_a_run_whose_cells_are_all_skipped_ends_in_a_report_that_says_so(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    little = [
        "dataset.samples_per_concept={train:40,fit:2,select:5,test:15}",
        "dataset.min_samples=1",
        "model.finetune.blocks=null",  # an untrained model knows next to nothing
        "evaluation.fit_on=correct",
        "sweep.gate=[range]",
    ]
    assert run_command(["run", *tiny_overrides, *little, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert "No edit was evaluated: each of the" in capsys.readouterr().err
    found = RunFolder(tmp_path / "run")
    assert found.finished
    assert found.read_results().rows.query("edit != 'none'")["skipped"].notna().all()
    assert "No edit was evaluated" in (tmp_path / "run" / "table.md").read_text()
    assert run_command(["report", str(tmp_path / "run")]) == 0
    assert "No edit was evaluated" in capsys.readouterr().out


def test_a_single_optimiser_step_trains(tiny_overrides: list[str], tmp_path: Path) -> None:
    step = "model.finetune={blocks:2,epochs:1,batch_size:1000,learning_rate:0.01}"
    assert run_command(["run", *tiny_overrides, step, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert RunFolder(tmp_path / "run").finished


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_results_is_one_sentence_and_the_cache_is_kept(
    code: int,
    tiny_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    written, write = [], files.write_atomically

    def full(path: Path, content: bytes) -> None:
        written.append(path.name)
        if path.name == "matched.parquet":
            monkeypatch.setattr(files.os, "fsync", _refuse(code))
        write(path, content)

    monkeypatch.setattr("neuronlens.results.tables.write_atomically", full)
    assert run_command(["run", *tiny_overrides, "quiet=true", f"hydra.run.dir={run}"]) == 2
    said = capsys.readouterr().err
    assert "matched.parquet" in written
    assert f"neuronlens: Cannot write {run / 'matched.parquet'}: " in said
    assert os.strerror(code) in said
    assert "Next: paths.output_dir=" in said
    assert "Traceback" not in said
    assert not RunFolder(run).finished
    assert [path for path in run.iterdir() if path.name.startswith(".matched")] == []


def _refuse(code: int) -> object:
    def fsync(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    return fsync


@pytest.mark.parametrize("key", ["paths.output_dir", "paths.cache_dir"])
def test_a_name_of_300_letters_is_one_sentence(
    key: str, tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", *tiny_overrides, "quiet=true", f"{key}={tmp_path / ('x' * 300)}"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("neuronlens: ")
    assert "Next: " in said
    assert not LEAKS.search(said)
