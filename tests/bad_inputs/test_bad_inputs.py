"""Every row of the table: one message, its exit code, nothing left behind, and none of a library's own words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from neuronlens.cli import run_command
from tests.bad_inputs.table import TABLE, Row

LEAKS = re.compile(
    r"Traceback|reference_type=|object_type=|full_key|NoneType|DictConfig|ListConfig|unhashable|positional argument|"
    r"keyword argument|<class |Error executing job|hydra\.cc|OmegaConf|LexerNo|Errno|usage: "
)
"""Words of Python, Hydra and OmegaConf, which say nothing to who typed a wrong value."""


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.scene} {row.typed}".strip()[:80])
def test_a_bad_input_is_refused(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(shlex.split(row.typed)) == row.code
    held_to(row, capsys.readouterr().err, tmp_path)


def held_to(row: Row, error: str, folder: Path) -> None:
    """Hold what a command printed on stderr and left behind against its row."""
    assert row.says in error, error
    assert error.startswith("neuronlens: "), error
    assert error.count("neuronlens: ") == 1, "one message"
    assert not LEAKS.search(error), error
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in left if not any(path.match(pattern) for pattern in row.remains)] == []


def test_the_table_is_long_and_each_row_stands_once() -> None:
    assert len({(row.typed, row.scene) for row in TABLE}) == len(TABLE) >= 200


def test_words_of_python_would_be_caught() -> None:
    assert LEAKS.search("Value 'x' (full_key: seed, reference_type=Config, object_type=Config)")
    assert not LEAKS.search("seed is 'hello', expected a whole number, at least 0.")
