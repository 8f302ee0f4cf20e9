"""Files that are whole or not there, and what JSON has no word for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from neuronlens.errors import OutputError
from neuronlens.storage import files
from neuronlens.storage.files import json_types, read_tensors, write_atomically, write_json


def test_trap_27_a_write_that_breaks_off_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.csv"
    write_atomically(path, b"old")

    def broken(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", broken)
    with pytest.raises(OutputError, match="disk full"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.csv"]


def test_a_broken_file_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"\x00\x01")
    with pytest.raises(OutputError, match="Next: copy it again, or run again"):
        read_tensors(tmp_path / "broken.safetensors")


def test_json_has_no_nan_and_keeps_an_infinity_as_text(tmp_path: Path) -> None:
    content = {"tau": [math.inf, np.float32(2.5)], "cost": math.nan, "counts": np.arange(2)}
    write_json(tmp_path / "some.json", content)
    found = json.loads((tmp_path / "some.json").read_text(), parse_constant=pytest.fail)
    assert found == json_types(content) == {"tau": ["inf", 2.5], "cost": None, "counts": [0, 1]}
    assert float(found["tau"][0]) == math.inf
