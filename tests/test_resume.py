"""A run that dies at any moment goes on where it was, and its results are those of a run that was left alone, to the byte."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from neuronlens.cli import run_command
from tests.faults import Ended, run_in_a_process
from tests.seeds import SEED

MOMENTS = int(os.environ.get("NEURONLENS_TEST_MOMENTS", "4"))
"""How often a run dies here; `make soak` asks for 20."""
FEW = max(2, MOMENTS // 4)


@pytest.fixture(scope="module")
def words(tiny_overrides: list[str]) -> list[str]:
    """A tiny run with all its stages: fine-tuning, two layers, operating points on select, finer doses."""
    return [
        "run",
        *tiny_overrides,
        "model.finetune.epochs=3",
        "sweep.layers=[0,last]",
        "sweep.top_fraction=[0.25,1.0]",
        "evaluation.select=matched_erasure",
        "quiet=true",
    ]


def _at(words: list[str], work: Path) -> list[str]:
    return [*words, f"hydra.run.dir={work}/run", f"paths.cache_dir={work}/cache"]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Ended]:
    """The results.csv of a run that was left alone, and how many moments it had."""
    work = tmp_path_factory.mktemp("whole")
    ended = run_in_a_process(_at(words, work), work)
    assert ended.code == 0, ended.said
    assert ended.moments > 100
    return (work / "run" / "results.csv").read_bytes(), ended


def _drawn(kind: str, number: int, moments: int) -> int:
    return random.Random(f"{SEED} {kind} {number}").randint(1, moments)


def _goes_on(words: list[str], work: Path, *, by_folder: bool) -> Ended:
    again = ["run", "--resume", f"{work}/run"] if by_folder else _at(words, work)
    return run_in_a_process(again, work)


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, MOMENTS))])
def test_a_run_that_is_killed_goes_on_to_the_same_results(
    number: int, words: list[str], whole: tuple[bytes, Ended], tmp_path: Path
) -> None:
    wanted, ended = whole
    killed = run_in_a_process(_at(words, tmp_path), tmp_path, fault="SIGKILL", at=_drawn("KILL", number, ended.moments))
    assert killed.code == -9
    started = (tmp_path / "run" / "started.json").is_file()
    again = _goes_on(words, tmp_path, by_folder=started and number % 2 == 0)
    assert again.code == 0, again.said
    assert (tmp_path / "run" / "results.csv").read_bytes() == wanted
    assert not (tmp_path / "run" / "started.json").exists()
    assert not [path for path in (tmp_path / "cache").rglob(".*") if path.is_dir()], (
        "half-filled folders are taken away"
    )


@pytest.mark.parametrize(("fault", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, FEW))])
def test_a_run_that_is_asked_to_stop_names_the_command_that_goes_on(
    fault: str, code: int, number: int, words: list[str], whole: tuple[bytes, Ended], tmp_path: Path
) -> None:
    wanted, ended = whole
    at = _drawn(fault, number, ended.moments - 20)
    stopped = run_in_a_process(_at(words, tmp_path), tmp_path, fault=fault, at=at)
    assert stopped.code == code, stopped.said
    assert "Traceback" not in stopped.said
    last = stopped.said.splitlines()[-1]
    assert last.startswith("neuronlens: ")
    assert f"or neuronlens run --resume {tmp_path}/run." in last
    again = _goes_on(words, tmp_path, by_folder=True)
    assert again.code == 0, again.said
    assert (tmp_path / "run" / "results.csv").read_bytes() == wanted


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, FEW))])
def test_a_disk_that_is_full_is_one_sentence_and_the_run_goes_on_where_there_is_room(
    number: int, words: list[str], whole: tuple[bytes, Ended], tmp_path: Path
) -> None:
    wanted, ended = whole
    at = _drawn("ENOSPC", number, ended.moments - 40)
    refused = run_in_a_process(_at(words, tmp_path), tmp_path, fault="ENOSPC", at=at)
    assert refused.code == 2, refused.said
    assert "Traceback" not in refused.said
    assert "No space left on device. Next: paths." in refused.said
    again = _goes_on(words, tmp_path, by_folder=False)
    assert again.code == 0, again.said
    assert (tmp_path / "run" / "results.csv").read_bytes() == wanted


@pytest.mark.slow
def test_a_changed_config_finds_none_of_the_old_cells(
    words: list[str], whole: tuple[bytes, Ended], tmp_path: Path
) -> None:
    wanted, ended = whole
    killed = run_in_a_process(_at(words, tmp_path), tmp_path, fault="SIGKILL", at=ended.moments * 2 // 3)
    assert killed.code == -9
    shutil.rmtree(tmp_path / "run")
    other = run_in_a_process([*_at(words, tmp_path), "seed=1"], tmp_path)
    assert other.code == 0, other.said
    found = (tmp_path / "run" / "results.csv").read_bytes()
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tmp_path / "cache")
    assert run_in_a_process([*_at(words, tmp_path), "seed=1"], tmp_path).code == 0
    assert (tmp_path / "run" / "results.csv").read_bytes() == found != wanted


def test_what_cannot_go_on_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["run", "--resume", str(tmp_path)], "is not the folder of a run that can go on: started.json: No such file"),
        (["run", "--resume"], "--resume stands without its value, expected a folder"),
        (["run", "seed=1", "--resume", str(tmp_path)], "stands beside 'seed=1'"),
    ):
        assert run_command(arguments) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("{}")
    assert run_command(["run", "--resume", str(tmp_path)]) == 0
    assert "nothing is left to do" in capsys.readouterr().err
