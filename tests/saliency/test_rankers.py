"""Every ranker against its definition, written out as loops, or against scikit-learn and SciPy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from omegaconf import OmegaConf
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from neuronlens.activations.moments import statistics_of
from neuronlens.errors import ConfigError, ShapeError
from neuronlens.records import ActivationSet, Site
from neuronlens.saliency import auroc as auroc_module
from neuronlens.saliency.auroc import AurocSaliency, auroc
from neuronlens.saliency.dprime import DprimeSaliency
from neuronlens.saliency.overlap import jaccard
from neuronlens.saliency.probe import ProbeSaliency
from neuronlens.saliency.probeless import ProbelessSaliency
from neuronlens.saliency.random_control import RandomSaliency, uniform_scores

EVERY_RANKER = [AurocSaliency(), DprimeSaliency(), ProbelessSaliency(), RandomSaliency(), ProbeSaliency(max_iter=20)]
CONF = Path(__file__).parents[2] / "conf" / "saliency"


@pytest.mark.parametrize("ranker", EVERY_RANKER, ids=lambda ranker: type(ranker).__name__)
def test_scores_are_float64_and_nan_only_where_a_concept_has_no_sample(ranker, tied):
    ranking = ranker.rank(tied)
    assert ranking.scores.shape == (4, 8)
    assert ranking.scores.dtype == np.float64
    assert ranking.concepts == tied.concepts
    assert np.isnan(ranking.scores).tolist() == [[concept == 2] * 8 for concept in range(4)]
    assert np.nanmin(ranking.scores) >= 0


@pytest.mark.parametrize(
    "ranker", [AurocSaliency(), DprimeSaliency(), ProbelessSaliency(), ProbeSaliency()], ids=lambda r: type(r).__name__
)
def test_a_constant_neuron_scores_nothing_and_a_lone_concept_has_nothing_to_contrast_with(
    ranker, tied, make_activations
):
    assert np.allclose(np.delete(ranker.rank(tied).scores[:, 0], 2), 0, atol=1e-12)
    alone = make_activations(np.random.default_rng(0).normal(size=(5, 3)), np.zeros(5, dtype=int), 2)
    assert np.isnan(ranker.rank(alone).scores).all()


@pytest.mark.parametrize("concept", [0, 1, 3])
def test_auroc_is_scikit_learns_and_the_mann_whitney_count(tied, concept):
    area = auroc(tied.values, tied.labels, 4)[concept]
    member = tied.labels == concept
    for neuron in range(8):
        values = tied.values[:, neuron]
        assert area[neuron] == pytest.approx(roc_auc_score(member, values), abs=1e-12)
        wins = mannwhitneyu(values[member], values[~member]).statistic
        assert area[neuron] == pytest.approx(wins / (member.sum() * (~member).sum()), abs=1e-12)
    assert np.allclose(AurocSaliency().rank(tied).scores[concept], abs(area - 0.5) * 2)
    assert len(np.unique(tied.values[:, 1])) < 10  # there are ties, or the average ranks would not be tested


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_auroc_counts_pairs(data):
    samples = data.draw(st.integers(0, 12))
    values = data.draw(arrays(np.float32, (samples, 2), elements=st.integers(-2, 2) | st.sampled_from([0.0, -0.0])))
    labels = data.draw(arrays(np.int64, samples, elements=st.integers(0, 2)))
    area = auroc(values, labels, 3)
    for concept in range(3):
        here, there = values[labels == concept], values[labels != concept]
        if not len(here) or not len(there):
            assert np.isnan(area[concept]).all()
            continue
        wins = (here[:, None] > there[None]).mean((0, 1)) + (here[:, None] == there[None]).mean((0, 1)) / 2
        assert area[concept] == pytest.approx(wins, abs=1e-12)


def test_auroc_is_the_same_in_chunks_and_refuses_too_few_labels(tied, monkeypatch):
    whole = auroc(tied.values, tied.labels, 4)
    monkeypatch.setattr(auroc_module, "CHUNK_VALUES", 3 * len(tied.labels))
    assert np.array_equal(auroc(tied.values, tied.labels, 4), whole, equal_nan=True)
    with pytest.raises(ShapeError, match="60 rows of activations, 59 labels"):
        auroc(tied.values, tied.labels[1:], 4)


def test_dprime_is_its_definition(tied):
    scores = DprimeSaliency().rank(tied).scores
    wide = tied.values.astype(np.float64)
    for concept in (0, 1, 3):
        here, there = wide[tied.labels == concept], wide[tied.labels != concept]
        expected = abs(here.mean(0) - there.mean(0)) / np.sqrt((here.var(0) + there.var(0)) / 2 + 1e-8)
        assert scores[concept] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_probeless_is_its_definition(tied):
    scores = ProbelessSaliency().rank(tied).scores
    means = {concept: tied.values[tied.labels == concept].astype(np.float64).mean(0) for concept in (0, 1, 3)}
    for concept, mean in means.items():
        expected = sum(abs(mean - other) for name, other in means.items() if name != concept)
        assert scores[concept] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_complement_variance_is_the_variance_of_all_other_samples(data):
    samples = data.draw(st.integers(1, 15))
    values = data.draw(arrays(np.float32, (samples, 2), elements=st.floats(-1e3, 1e3, width=32)))
    labels = data.draw(arrays(np.int64, samples, elements=st.integers(0, 3)))
    found = statistics_of(values, labels, 4).complement_variance
    for concept in range(4):
        others = values[labels != concept].astype(np.float64)
        if len(others):
            assert found[concept] == pytest.approx(others.var(axis=0), rel=1e-9, abs=1e-9)
        else:
            assert np.isnan(found[concept]).all()


def test_random_is_the_same_in_another_process_and_differs_by_seed_site_and_concept(make_activations):
    code = (
        "from neuronlens.records import Site\n"
        "from neuronlens.saliency.random_control import uniform_scores\n"
        "print(uniform_scores(2, 3, site=Site(4), seed=0).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = uniform_scores(2, 3, site=Site(4), seed=0)
    assert told.strip() == str(here.tolist())
    others = [
        uniform_scores(2, 3, site=Site(4), seed=1),
        uniform_scores(2, 3, site=Site(5), seed=0),
        uniform_scores(2, 3, site=Site(4, "mlp_out"), seed=0),
        here[::-1],
    ]
    assert not any(np.array_equal(here, other) for other in others)
    draws = RandomSaliency(seed=3).rank(make_activations(np.zeros((2, 20000)), [0, 1], 2)).scores
    assert np.histogram(draws, bins=10, range=(0, 1))[0] == pytest.approx(4000, rel=0.1)
    with pytest.raises(ConfigError, match="seed is -1"):
        RandomSaliency(seed=-1)


def test_jaccard_is_shared_over_either():
    selected = np.random.default_rng(0).random((4, 30)) < 0.4
    selected[3] = False
    found = jaccard(selected)
    sets = [set(np.flatnonzero(row)) for row in selected]
    for one in range(4):
        for other in range(4):
            either = sets[one] | sets[other]
            expected = len(sets[one] & sets[other]) / len(either) if either else np.nan
            assert found[one, other] == pytest.approx(expected, nan_ok=True)


def test_every_yaml_gives_a_ranker_its_own_defaults(tied: ActivationSet):
    built = {
        "auroc": AurocSaliency,
        "dprime": DprimeSaliency,
        "probe": ProbeSaliency,
        "probeless": ProbelessSaliency,
        "random": RandomSaliency,
    }
    for name, ranker in built.items():
        options = dict(OmegaConf.load(CONF / f"{name}.yaml"))
        assert options.pop("_target_") == f"{ranker.__module__}.{ranker.__qualname__}"
        assert vars(ranker(**options)) == vars(ranker())
        assert ranker().rank(tied).name == name
