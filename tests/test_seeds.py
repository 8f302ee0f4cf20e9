"""Draws without a seed of their own come out the same under one global seed, and others under another."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.seeds import SEED, seed_draws

ROOT = Path(__file__).resolve().parent.parent
DRAWS = """
import json, random
import numpy as np, torch
from hypothesis import given, settings, strategies as st

drawn = []

@settings(max_examples=20)
@given(st.integers(0, 10**9))
def test_given(number):
    drawn.append(number)

def test_global():
    found = [drawn, random.random(), float(np.random.rand()), float(torch.rand(1))]
    print("DRAWN", json.dumps(found))
"""


def draws() -> list[Any]:
    return [random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist()]


def test_every_test_starts_from_its_own_seed(request: pytest.FixtureRequest) -> None:
    first = draws()
    seed_draws(request.node.nodeid)
    assert draws() == first
    assert draws() != first
    seed_draws("tests/another.py::test")
    assert draws() != first
    seed_draws(request.node.nodeid, SEED + 1)
    assert draws() != first
    assert request.config.getoption("--hypothesis-seed") is not None


def test_hypothesis_and_the_generators_follow_the_global_seed(tmp_path: Path) -> None:
    (tmp_path / "test_draws.py").write_text(DRAWS)

    def run(seed: int) -> list[Any]:
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "tests.seeds", "-p", "no:cacheprovider", "."]
        environment = {**os.environ, "NEURONLENS_TEST_SEED": str(seed), "PYTHONPATH": str(ROOT), "CI": "true"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        line = next(line for line in done.stdout.splitlines() if "DRAWN" in line)
        found: list[Any] = json.loads(line.partition("DRAWN ")[2])
        return found

    first, again, other = run(1), run(1), run(2)
    assert len(first[0]) >= 20
    assert again == first
    assert all(mine != theirs for mine, theirs in zip(first, other, strict=True))
