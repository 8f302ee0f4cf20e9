"""Runs that fit on tokens: every method alike, through the pipeline and the lens, at one layer and at several."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.activations.tokens import token_plans
from neuronlens.config.compose import compose
from neuronlens.config.groups import option_names
from neuronlens.config.knobs import fits_on_tokens
from neuronlens.config.schema import CONTROLS
from neuronlens.hooks.contexts import capture
from neuronlens.lens.lens import Lens
from neuronlens.pipeline import run
from neuronlens.records import Site
from neuronlens.report.claims.claims import claims
from neuronlens.results.folder import RunFolder

SHARED = ["sweep=single", "evaluation.bootstrap=20", "evaluation.refine=false", "intervention.edit_positions=all"]
CONDITIONAL = "sweep.methods=[{gate:[neuron,discriminant],edit:[leace],strength:[1.0,2.0]}]"


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Runs without figures and page, which say nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuronlens.pipeline.draw_run", lambda *arguments: ([], []))
        yield


@pytest.fixture(scope="module")
def trained(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for runs on one and the same trained tiny model."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    run(compose([*tiny_overrides, "sweep=single", "evaluation.bootstrap=0"]), folder)
    model = json.loads((folder / "manifest.json").read_text())["model_folder"]
    kept = [entry for entry in tiny_overrides if not entry.startswith(("model.path", "model.finetune", "sweep."))]
    return [*kept, *SHARED, f"model.path={model}"]


def rows_of(overrides: list[str], folder: Path) -> pd.DataFrame:
    run(compose(overrides), folder)
    rows = pd.read_parquet(folder / "results.parquet")
    return rows[rows["edit"] != "none"]


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [
        ([], False),
        (["intervention.edit_positions=all"], True),
        (["intervention.edit_positions=all", "intervention.fit_positions=record"], False),
        (["intervention.fit_positions=tokens"], True),
        (["preset=reference"], False),
    ],
)
def test_trap_46_the_edited_positions_decide_what_is_fitted_on(overrides: list[str], tokens: bool) -> None:
    assert fits_on_tokens(compose(overrides)) == tokens


def test_every_method_is_fitted_on_tokens_alike_and_the_run_says_how_many(trained: list[str], tmp_path: Path) -> None:
    methods = [
        f"{{saliency:[{','.join(option_names('saliency'))}],gate:[range]}}",
        f"{{range:[{','.join(option_names('range'))}],gate:[range,outside]}}",
        f"{{edit:[{','.join(option_names('edit'))}],gate:[neuron,joint,discriminant]}}",
        f"{{control:[{','.join(CONTROLS)}],gate:[range,discriminant],edit:[zero,leace]}}",
    ]
    folder = tmp_path / "run"
    rows = rows_of([*trained, "layers.select=[0]", f"sweep.methods=[{','.join(methods)}]"], folder)
    assert rows["skipped"].isna().all(), rows.loc[rows["skipped"].notna(), ["edit", "gate", "skipped"]]
    assert set(rows["edit"]) == set(option_names("edit"))
    manifest = RunFolder(folder).read_manifest()
    seen = manifest.fitting["tokens"]["fit"]["seen"]
    assert manifest.fitting["positions"] == "tokens"
    fitted, select = RunFolder(folder).restore_fitted()
    own = fitted[Site(0)]
    assert own.activations.statistics.count.sum() == seen == len(own.activations.values) > 60
    assert all(ranges.statistics.count.sum() == seen for ranges in own.ranges.values())
    assert own.activations.second.count == seen
    assert select[Site(0)].second.count == manifest.fitting["tokens"]["select"]["seen"]
    found = pd.read_parquet(folder / "detectors.parquet")
    assert set(found["gate"]) == {"joint", "discriminant"}
    plain = found[(found["gate"] == "discriminant") & found["control"].isna()]
    assert (plain["auc"] > 0.6).all(), "the coordinate tells the concepts' tokens apart on test"
    assert (plain["hit_rate"] > plain["false_alarm_rate"]).all()
    diagnostics = pd.read_parquet(folder / "diagnostics.parquet")
    assert diagnostics.groupby("concept")["n"].first().sum() == manifest.fitting["tokens"]["test"]["seen"]


def test_fingerprints_and_numbers_change_with_the_fitted_positions(trained: list[str], tmp_path: Path) -> None:
    methods = "sweep.methods=[{gate:[neuron,discriminant],edit:[leace]},{gate:[range],edit:[complement_mean]}]"
    tables = {
        name: rows_of([*trained, "layers.select=[0,last]", methods, *more], tmp_path / name)
        for name, more in (
            ("tokens", []),
            ("record", ["intervention.fit_positions=record"]),
            ("skipped", ["intervention.skip_first=always", "layers.select=[0]"]),
        )
    }
    ids = [set(table["cell_id"]) for table in tables.values()]
    assert not ids[0] & ids[1]
    assert not ids[0] & ids[2]
    last = {name: table[table["layer"] == 2] for name, table in tables.items() if name != "skipped"}
    knobs = ["gate", "edit", "concept"]
    same = (own.set_index(knobs)[["kl", "complement_confidence"]] for own in last.values())
    pd.testing.assert_frame_equal(*same, check_exact=False, atol=1e-5), "at the last block one token is read"
    below = {name: table[table["layer"] == 0].set_index(knobs)["kl"] for name, table in tables.items()}
    assert not np.allclose(below["tokens"], below["record"])
    assert not np.allclose(below["tokens"], below["skipped"])


@pytest.mark.parametrize("mode", ["together", "incremental"])
def test_several_layers_are_fitted_on_tokens_and_gated_together(mode: str, trained: list[str], tmp_path: Path) -> None:
    rows = rows_of([*trained, "layers.select=[0,1]", f"layers.mode={mode}", CONDITIONAL], tmp_path / mode)
    assert rows["skipped"].isna().all()
    assert (rows.groupby("gate")["kl"].max() > 1e-4).all()
    assert rows["n_neurons"].eq(32).all()


def test_incremental_fits_on_correct_tokens_and_under_shuffled_labels(trained: list[str], tmp_path: Path) -> None:
    overrides = ["layers.select=[0,1]", "layers.mode=incremental", "evaluation.fit_on=correct", CONDITIONAL]
    rows = rows_of([*trained, *overrides, "sweep.control=[none,shuffled_labels]"], tmp_path / "run")
    assert rows["skipped"].isna().all()
    assert set(rows["control"].dropna()) == {"shuffled_labels"}


def test_a_lens_of_a_token_run_makes_the_run_s_own_edits(
    trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run keeps few of its tokens, so that the moments of all of them have to be kept beside."""
    for place in ("neuronlens.pipeline", "neuronlens.pipeline.preparation"):
        monkeypatch.setattr(f"{place}.token_plans", partial(token_plans, size=100))
    folder = tmp_path / "run"
    rows = rows_of([*trained, "layers.select=[0]", CONDITIONAL, "intervention.covariance=selected"], folder)
    lens = Lens.load(folder)
    fitted, _ = RunFolder(folder).restore_fitted()
    assert len(fitted[Site(0)].activations.values) == 100 < fitted[Site(0)].activations.second.count
    loaded = lens.load_model()
    samples = pd.read_parquet(folder / "samples.parquet")
    test = samples[samples["split"] == "test"]
    for gate in ("neuron", "discriminant"):
        own = rows[(rows["gate"] == gate) & (rows["strength"] == 2.0)].set_index("concept")
        for concept in lens.concepts[:2]:
            with lens.erase(loaded.model, concept, gate=gate, edit="leace", strength=2.0), torch.no_grad():
                right = []
                for text, label in zip(test["text"], test["label"], strict=True):
                    ids = torch.tensor([loaded.encode([text])[0]])
                    right.append(lens.concepts[int(loaded.model(input_ids=ids).logits.argmax())] == label)
            mine = test["label"].eq(concept).to_numpy()
            assert np.mean(np.array(right)[mine]) == pytest.approx(own.loc[concept, "concept_accuracy"])
            assert np.mean(np.array(right)[~mine]) == pytest.approx(own.loc[concept, "complement_accuracy"])


def test_the_first_token_keeps_its_state_in_the_sweep_and_in_the_lens(trained: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    rows = rows_of([*trained, "layers.select=[0]", CONDITIONAL, "intervention.skip_first=always"], folder)
    assert (rows["kl"] > 1e-6).any()
    lens = Lens.load(folder)
    lens.save(tmp_path / "lens")
    loaded = lens.load_model()
    ids = torch.tensor([[2, 5, 9, 12, 3]])
    with torch.no_grad(), capture(loaded.model, [Site(1)]) as plain:
        loaded.model(input_ids=ids)
        before = loaded.model.bert.encoder.layer[0](loaded.model.bert.embeddings(ids))
    kept: list[torch.Tensor] = []
    for own in (lens, Lens.load(tmp_path / "lens")):
        with own.erase(loaded.model, "apple", edit="leace", gate="neuron", strength=4.0), torch.no_grad():
            handle = loaded.model.bert.encoder.layer[1].register_forward_pre_hook(
                lambda m, a: kept.append(a[0].clone())
            )
            loaded.model(input_ids=ids)
            handle.remove()
    first = before[0] if isinstance(before, tuple) else before
    for hidden in kept:
        torch.testing.assert_close(hidden[0, 0], first[0, 0])
        assert not torch.allclose(hidden[0, 1:], first[0, 1:], atol=1e-4)
    del plain


def test_experiment_conditional_holds_its_methods_controls_points_and_claim(trained: list[str], tmp_path: Path) -> None:
    small = [entry for entry in trained if entry not in SHARED and not entry.startswith("dataset.samples")]
    small += ["layers.select=[0,last]", "dataset.samples_per_concept={train:40,fit:15,select:5,test:15}"]
    folder = tmp_path / "run"
    run(compose(["experiment=conditional", *small]), folder)
    rows = pd.read_parquet(folder / "results.parquet")
    assert rows["skipped"].isna().all()
    leace = rows[rows["edit"] == "leace"]
    assert set(leace["gate"]) == {"neuron", "discriminant", "discriminant_zero", "lda", "logistic", "dsas"}
    assert set(leace["control"].dropna()) == {"other_concept", "random_direction", "shuffled_labels"}
    assert {"range", "neuron"} <= set(rows.loc[rows["edit"] == "complement_mean", "gate"])
    assert leace["strength"].max() == 8
    points = pd.read_parquet(folder / "operating_points.parquet")
    chosen = points[points["cell_id"].notna()]
    assert {"neuron", "discriminant_zero"} <= set(chosen.loc[chosen["edit"] == "leace", "gate"])
    claimed = claims([RunFolder(folder)]).frame
    settings = " ".join(claimed.loc[claimed["claim"] == 7, "setting"])
    assert "discriminant_zero leace" in settings
    assert "discriminant leace" in settings
    assert RunFolder(folder).read_manifest().fitting["positions"] == "tokens"


def test_leace_along_the_gradient_is_a_parameter_of_a_run_on_tokens(trained: list[str], tmp_path: Path) -> None:
    shared = [*trained, "layers.select=[0]", "sweep.gate=[neuron,discriminant]", "sweep.edit=[leace]"]
    delta = rows_of(shared, tmp_path / "delta")
    gradient = rows_of([*shared, "++edit.leace.write=gradient"], tmp_path / "gradient")
    assert gradient["skipped"].isna().all()
    assert gradient["parameters"].str.contains("write=gradient").all()
    assert not set(delta["cell_id"]) & set(gradient["cell_id"])
    assert not np.allclose(delta["kl"], gradient["kl"])
