"""A run folder with a file changed, cut off or gone is refused in one sentence by every verb that reads one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from neuronlens.cli import run_command
from neuronlens.results.folder import RunFolder
from neuronlens.storage.checksums import NAME, is_sealed
from tests.bad_inputs.test_bad_inputs import LEAKS
from tests.report.made_up import unedited, write_run
from tests.storage.test_cache import DAMAGES

FILES = ("manifest.json", "results.parquet", "matched.parquet", "general.parquet", "base.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of made-up numbers, as a run leaves it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    rows = unedited({"apple": 0.9, "drum": 0.8})
    return write_run(folder, rows=rows, general=pd.DataFrame({"measure": ["perplexity"], "value": [3.0]}))


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.mark.parametrize("damaged", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_trap_58_a_damaged_run_folder_is_refused_in_one_sentence(
    file: str, damaged: Callable[[Path], object], whole: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(copied / file)
    for words in (["report", str(copied)], ["compare", str(whole), str(copied), f"output={copied / 'out'}"]):
        assert run_command(words) == 2
        said = capsys.readouterr().err
        assert said.count("neuronlens: ") == 1
        assert f"'{copied}' is not as the run left it: {file}" in said
        assert not LEAKS.search(said)
    assert not (copied / "out").exists()


def test_a_whole_run_folder_is_read_and_one_without_checksums_too(whole: Path, copied: Path) -> None:
    assert is_sealed(copied)
    (copied / NAME).unlink()
    for folder in (whole, copied):
        assert RunFolder(folder).read_results().base["accuracy"] == 1.0


@pytest.mark.parametrize("damaged", [DAMAGES["cut"], DAMAGES["empty"], DAMAGES["gone"], DAMAGES["no object"]])
@pytest.mark.parametrize("file", ["manifest.json", "results.parquet", "base.json"])
def test_a_broken_file_without_checksums_is_one_sentence_too(
    file: str, damaged: Callable[[Path], object], whole: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied / NAME).unlink()
    damaged(copied / file)
    assert run_command(["compare", str(whole), str(copied)]) == 2
    said = capsys.readouterr().err
    unfinished = not (copied / "manifest.json").exists()  # what a run writes last
    assert said.startswith(f"neuronlens: Left out: {copied}" if unfinished else f"neuronlens: '{copied}")
    assert said.count("\n") == 1 + unfinished


def test_what_is_written_again_is_sealed_again_and_a_half_written_folder_is_not(copied: Path) -> None:
    folder = RunFolder(copied)
    before = folder.read_results()
    folder.write_summary({"a": 1})
    assert is_sealed(copied)
    assert RunFolder(copied).read_summary() == {"a": 1}
    folder.write_results(before)
    assert not is_sealed(copied), "its manifest is of what was there before"
    folder.write_manifest(folder.read_manifest())
    assert is_sealed(copied)
    (copied / "summary.json").write_text('{"a": 2}')
    assert run_command(["compare", str(copied), str(copied)]) == 2
