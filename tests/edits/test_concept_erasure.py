"""LEACE and QLEACE against the package of their authors, which is the reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuronlens.edits.leace import Leace
from neuronlens.edits.qleace import Qleace

concept_erasure = pytest.importorskip(
    "concept_erasure", reason="concept-erasure is not installed: pip install 'neuronlens[dev]'"
)


@pytest.fixture
def balanced(make_activations):
    """Two concepts of equal size, other means and other covariances."""
    random = np.random.default_rng(0)
    labels = np.arange(600) % 2
    turn = random.normal(size=(2, 8, 8))
    values = np.einsum("sn,snm->sm", random.normal(size=(600, 8)), turn[labels]) + 3 * labels[:, None]
    return make_activations(values.astype(np.float32), labels, 2)


def test_leace_is_concept_erasures(balanced):
    wide, labels = torch.from_numpy(balanced.values).double(), torch.from_numpy(balanced.labels)
    theirs = concept_erasure.LeaceEraser.fit(wide, labels, shrinkage=False)(wide).numpy()
    assert Leace(covariance="empirical").target(balanced, 1)(wide.numpy()) == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert np.abs(theirs - wide.numpy()).max() > 0.5


def test_qleace_is_concept_erasures(balanced):
    wide, labels = torch.from_numpy(balanced.values).double(), torch.from_numpy(balanced.labels)
    fitted = concept_erasure.QuadraticEraser.fit(wide, labels, shrinkage=False)
    own = wide[labels == 1]
    theirs = fitted.optimal_transport(1, own).numpy()
    ours = Qleace(covariance="empirical").target(balanced, 1)(own.numpy())
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert np.abs(theirs - own.numpy()).max() > 0.5
