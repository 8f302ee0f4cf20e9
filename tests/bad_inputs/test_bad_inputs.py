"""Every row of the table: one message, its exit code, nothing left behind, and none of a library's own words."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from neuronlens.cli import run_command
from tests.bad_inputs.scenes import SCENES
from tests.bad_inputs.table import TABLE, Row

LEAKS = re.compile(
    r"Traceback|reference_type=|object_type=|full_key|NoneType|DictConfig|ListConfig|unhashable|positional argument|"
    r"keyword argument|<class |Error executing job|hydra\.cc|OmegaConf|LexerNo|Errno|usage: "
)
"""Words of Python, Hydra and OmegaConf, which say nothing to who typed a wrong value."""


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.scene} {row.typed}".strip()[:80])
def test_a_bad_input_is_refused(
    row: Row,
    dataset_folder: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = set_up(row, dataset_folder, model_folder, tmp_path)
    monkeypatch.chdir(places["here"])
    assert run_command(words_of(row, places)) == row.code
    held_to(row, capsys.readouterr().err, places)


def set_up(row: Row, dataset: Path, model: Path, folder: Path) -> dict[str, Path]:
    """Return the folders that a row's words name, made and spoiled as its scene says."""
    places = {name: folder / name for name in ("here", "data", "model")}
    places["here"].mkdir()
    if "{" in row.typed:
        shutil.copytree(dataset, places["data"])
        shutil.copytree(model, places["model"])
        SCENES[row.scene](places["data"], places["model"])
    return places


def words_of(row: Row, places: Mapping[str, Path]) -> list[str]:
    """Return a row's words with the folders in their places."""
    return [filled_in(word, places) for word in shlex.split(row.typed)]


def filled_in(text: str, places: Mapping[str, Path]) -> str:
    """Return a text with `{data}` and the like replaced."""
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", str(place))
    return text


def held_to(row: Row, error: str, places: Mapping[str, Path]) -> None:
    """Hold what a command printed on stderr and left behind against its row."""
    assert filled_in(row.says, places) in error, error
    assert error.startswith("neuronlens: "), error
    assert error.count("neuronlens: ") == 1, "one message"
    assert not LEAKS.search(error), error
    left = [path for path in places["here"].rglob("*") if path.is_file()]
    assert [path for path in left if not any(path.match(pattern) for pattern in row.remains)] == []


def test_the_table_is_long_and_each_row_stands_once() -> None:
    assert len({(row.typed, row.scene) for row in TABLE}) == len(TABLE) >= 200


def test_words_of_python_would_be_caught() -> None:
    assert LEAKS.search("Value 'x' (full_key: seed, reference_type=Config, object_type=Config)")
    assert not LEAKS.search("seed is 'hello', expected a whole number, at least 0.")
