"""How far edits reach, and what probes still read under them, against plain numpy and made-up states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from neuronlens.config.compose import compose
from neuronlens.measures.columns import ERASED, RESULTS
from neuronlens.measures.extent import extent
from neuronlens.measures.recovery import reaching, recoverability
from neuronlens.measures.rows import tpp
from neuronlens.pipeline import run
from neuronlens.results.folder import RunFolder

SMALL = [
    "evaluation.bootstrap=0",
    "evaluation.diagnostics=false",
    "sweep.tau=[1.0]",
    "sweep.top_fraction=[1.0]",
    "sweep.strength=[1.0]",
    "sweep.gate=[range,neuron]",
]


def test_a_linear_probe_finds_a_line_and_an_rbf_one_a_circle_too(generator: np.random.Generator) -> None:
    states = generator.normal(size=(2, 400, 4))
    line, circle = states[..., 0] > 0.3, np.linalg.norm(states[..., :2], axis=-1) > 1.3
    found = recoverability(states[0], line[0], states[1], line[1])
    assert min(found.values()) > 0.97, "positive control: it is there"
    found = recoverability(states[0], circle[0], states[1], circle[1])
    assert found["linear"] < 0.65
    assert found["rbf"] > 0.95
    nothing = generator.random((2, 400)) < 0.4
    assert all(
        abs(value - 0.5) < 0.1 for value in recoverability(states[0], nothing[0], states[1], nothing[1]).values()
    )
    one_class = recoverability(states[0], np.ones(400, dtype=bool), states[1], line[1])
    assert np.isnan(list(one_class.values())).all()


def test_tpp_counts_every_other_concept_once() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1, 2])
    base, edited = np.ones(7, dtype=bool), np.array([False, True, False, True, True, True, False])
    assert tpp(edited[None], base, labels, [0])[0] == pytest.approx(0.5 - np.mean([0.25, 1.0]))
    assert np.isnan(tpp(edited[None, :2], base[:2], labels[:2], [0])).all()


def test_tpp_of_many_cells_is_that_of_each() -> None:
    generator = np.random.default_rng(0)
    labels, base = generator.integers(0, 4, 60), generator.random(60) < 0.8
    edited, concepts = generator.random((9, 60)) < 0.6, generator.integers(0, 5, 9)  # nobody is of concept 4
    drops = np.array([[base[labels == one].mean() - row[labels == one].mean() for one in range(4)] for row in edited])
    expected = [
        row[own] - np.delete(row, own).mean() if own < 4 else np.nan for row, own in zip(drops, concepts, strict=True)
    ]
    np.testing.assert_allclose(tpp(edited, base, labels, list(concepts)), expected, atol=1e-12)


def test_extent_of_an_edit_that_touches_nothing_is_nothing() -> None:
    zero = extent(np.zeros(3), np.zeros(3, dtype=int), np.ones(3, dtype=int), np.array([True, True, False]))
    assert np.isnan(zero["edit_norm"])
    assert zero["touched_samples"] == zero["touched_positions"] == 0


def test_cells_that_reach_a_level_are_those_of_least_cost() -> None:
    row = dict.fromkeys(RESULTS.in_file) | {
        "edit": "zero",
        "gate": "neuron",
        "concept": "a",
        "base_concept_accuracy": 0.8,
    }
    cells = [(0.1, 0.0), (0.4, 0.2), (0.5, 0.1), (0.8, 0.6)]
    rows = pd.DataFrame(
        [
            row | {"cell_id": str(at), ERASED: drop, "complement_confidence_drop": cost}
            for at, (drop, cost) in enumerate(cells)
        ]
    )
    assert reaching(rows, [0.5]) == {"2"}
    assert reaching(rows, [0.5, 1.0]) == {"2", "3"}
    assert reaching(rows, []) == set()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no figures and no page, which nothing here looks at."""
    monkeypatch.setattr("neuronlens.pipeline.draw_run", lambda *everything: (None, []))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("layer", [1, 2])
def test_columns_of_a_run_are_those_of_plain_arithmetic(layer: int, tiny_overrides: list[str], tmp_path: Path) -> None:
    edits = ["sweep.edit=[zero,leace]", "sweep.gate=[range,neuron]", f"layers.select=[{layer}]"]
    config = compose([*tiny_overrides, *SMALL, *edits, "evaluation.recovery=true", "evaluation.erasure_levels=[0.2]"])
    rows = run(config, tmp_path / "run").rows
    edited = rows[rows["edit"] != "none"]
    assert edited["tpp"].notna().all()
    assert edited["tpp"].to_numpy() == pytest.approx(edited["selectivity"].to_numpy(), abs=1e-6), "balanced concepts"
    whole = edited[(edited["gate"] == "neuron") & (edited["edit"] == "zero")]
    assert whole["edit_norm"].to_numpy() == pytest.approx(1.0), "all of the state is taken away"
    assert (whole["touched_samples"] == 1).all()
    assert (whole["touched_positions"] == 1).all()
    ranged = edited[edited["gate"] == "range"]
    assert (ranged["edit_norm"] < 1).all()
    assert (ranged["touched_samples"] <= 1).all()
    measured = edited.dropna(subset=["recovery_linear_edited"])
    assert len(measured), "positive control: some cell reaches the level"
    assert measured[RESULTS.keys("recovery")].notna().all(axis=None)
    gone = measured[(measured["gate"] == "neuron") & (measured["edit"] == "zero")]
    assert (gone["recovery_linear_edited"] == 0.5).all(), "zeroed states say nothing"
    assert (measured["base_recovery_linear_edited"] > 0.6).all(), "positive control: unedited ones do"
    here, there = (
        measured[[key for key in RESULTS.keys("recovery") if key.endswith(end)]] for end in ("edited", "last")
    )
    assert (here.to_numpy() == there.to_numpy()).all() == (layer == 2), "the last layer is the edited one, or another"
    fitted = next(iter(RunFolder(tmp_path / "run").restore_fitted()[0].values())).activations
    one = measured.iloc[0]
    own = fitted.labels == fitted.concepts.index(one["concept"])
    probe = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
    scaled = (fitted.values - fitted.values.mean(0)) / fitted.values.std(0)
    seen = roc_auc_score(own, probe.fit(scaled, own).decision_function(scaled))
    assert seen >= one["base_recovery_linear_edited"] - 0.1, "on the samples it was fitted on it is no worse"


@pytest.mark.usefixtures("undrawn")
def test_recovery_is_off_by_default(tiny_overrides: list[str], tmp_path: Path) -> None:
    rows = run(compose([*tiny_overrides, *SMALL]), tmp_path / "run").rows
    assert rows[RESULTS.keys("recovery")].isna().all(axis=None)
    assert rows.loc[rows["edit"] != "none", RESULTS.keys("extent")].notna().all(axis=None)
