"""A run folder belongs to one run: two starts of one second, a second run into it, a run that came to nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from neuronlens.errors import OutputError
from neuronlens.results.claim import claimed, given_up
from neuronlens.results.folder import RunFolder


def test_starts_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: claimed(tmp_path / "runs", at), range(24)))
    assert len(set(found)) == 24
    assert sorted(path.name for path in found)[:2] == ["2026-01-02_03-04-05", "2026-01-02_03-04-05_10"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"Next: paths\.output_dir"):
        claimed(tmp_path / "file" / "runs")


def test_a_folder_with_another_runs_files_is_refused_or_emptied_of_them(tmp_path: Path) -> None:
    for name in ("operating_points.parquet", "diagnostics.parquet", "manifest.json"):
        (tmp_path / name).write_text("of another run")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"of another run\. Next: another folder, or overwrite=true"):
        RunFolder(tmp_path).claim_for_a_run()
    assert (tmp_path / "diagnostics.parquet").exists()
    RunFolder(tmp_path).claim_for_a_run(overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["figures", "notes.txt"]


def test_a_refused_run_leaves_nothing_and_takes_nothing_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "run.log").write_text("log")
    given_up(folder)
    assert not (tmp_path / "runs").exists()
    for name in ("notes.txt", "results.parquet"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("kept")
        given_up(folder)
        assert (folder / name).exists()
        (folder / name).unlink()
