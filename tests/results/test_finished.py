"""Which runs a folder holds: its own, or those of a multirun, without the unfinished ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronlens.cli import run_command
from neuronlens.errors import OutputError
from neuronlens.results.finished import finished_runs
from tests.report.made_up import unedited, write_run

ACCURACY = {"apple": 0.9, "bridge": 0.8}


def multirun(path: Path) -> Path:
    """Return a folder of three jobs, the second unfinished."""
    for number in ("0", "2", "10"):
        write_run(path / number, rows=unedited(ACCURACY), seed=int(number))
    (path / "1" / ".hydra").mkdir(parents=True)
    (path / "notes").mkdir()
    return path


def test_a_multiruns_folder_stands_for_its_jobs_in_their_order(tmp_path: Path) -> None:
    folder = multirun(tmp_path / "multi")
    found, left_out = finished_runs([folder])
    assert [path.name for path in found] == ["0", "2", "10"]
    assert left_out == [f"Left out: {folder / '1'}, which is not the folder of a finished run."]
    assert finished_runs([folder / "10", folder / "0"])[0] == [folder / "10", folder / "0"]
    with pytest.raises(OutputError, match="not the folder of a finished run"):
        finished_runs([folder / "1"])
    with pytest.raises(OutputError, match="it is not there"):
        finished_runs([tmp_path / "absent"])
    with pytest.raises(OutputError, match="it is a file"):
        finished_runs([folder / "0" / "results.csv"])


def test_compare_takes_a_multirun_and_says_in_a_line_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["compare", str(multirun(tmp_path / "multi")), f"output={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"neuronlens: Left out: {tmp_path / 'multi' / '1'}, which is not the folder of a finished run."
    ]
    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| seed | 0 | 2 | 10 |" in text
