"""A few dozen changed files in every folder that is read; `python -m benchmarks.fuzz` makes 2,000."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from benchmarks.fuzz import fuzz, outcome
from neuronlens.storage.cache import Store


def test_no_changed_file_is_a_traceback_or_a_silent_error(
    tmp_path: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    counts = fuzz(60, tmp_path, model=model_folder)
    assert not [what for what in counts if what.startswith(("silent", "traceback"))], counts
    assert counts["refused"] > 20
    assert counts["computed again"] > 5


def test_a_traceback_would_be_counted(tmp_path: Path) -> None:
    def read(folder: Path) -> object:
        raise KeyError("x")

    assert outcome(read, tmp_path, None).startswith("traceback: KeyError")
    assert Store(tmp_path).load("a", "b") is None
