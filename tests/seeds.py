"""Every random draw of a test follows one global seed: NEURONLENS_TEST_SEED, 0 where it is not set.

`make soak` runs the suite under three of them.
"""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

SEED = int(os.environ.get("NEURONLENS_TEST_SEED", "0"))

# No limit on time, and nothing remembered: what a run draws rests on the seed alone. Where CI is set, hypothesis would
# otherwise draw by the test's own name and leave the seed out.
settings.register_profile(
    "neuronlens",
    database=None,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("neuronlens")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give hypothesis the global seed, unless `--hypothesis-seed` is typed."""
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(SEED)


def seed_draws(test: str, seed: int = SEED) -> None:
    """Seed the global generators of Python, numpy and torch for a test, whatever ran before it and in which process."""
    mixed = int.from_bytes(hashlib.sha256(f"{seed} {test}".encode()).digest()[:4], "big")
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Seed the global generators before every test, by the global seed and the test's name."""
    seed_draws(request.node.nodeid)
