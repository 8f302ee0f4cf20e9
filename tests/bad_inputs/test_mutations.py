"""A few dozen of the mutations of `python -m benchmarks.fuzz`: no traceback, no wrong number."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz import GOOD, Subject, mutated, outcomes


@pytest.mark.filterwarnings("ignore")
def test_no_mutation_of_a_file_ends_in_a_traceback_or_a_wrong_number(tmp_path: Path) -> None:
    found = list(outcomes(40, tmp_path))
    assert [entry for entry in found if entry[2] not in GOOD] == []
    seen = Counter((name, outcome) for name, _, outcome, _ in found)
    assert seen["cache", "same"] == 10, "computed again, whatever happened"
    assert seen["run", "refused"] > 0 < seen["model", "refused"]
    assert seen["dataset", "another input"] > 0


def test_a_wrong_number_and_a_traceback_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "numbers").write_bytes(b"12345678" * 8)
    read = Subject("run", tmp_path / "folder", lambda folder: ("", (folder / "numbers").read_bytes()), own=False)
    seen = {read.outcome(random.Random(seed), tmp_path / "aside")[0] for seed in range(40)}
    assert seen == {"a wrong number", "traceback"}


def test_a_mutation_is_the_same_again_and_changes_a_file() -> None:
    content = bytes(range(200))
    drawn = [mutated(content, random.Random(seed)) for seed in range(60)]
    assert drawn == [mutated(content, random.Random(seed)) for seed in range(60)]
    assert None in drawn
    assert b"" in drawn
    assert sum(one == content for one in drawn) < 3
