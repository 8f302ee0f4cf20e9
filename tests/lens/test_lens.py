"""A lens from a run folder makes the run's own cells in plain transformers, and refuses what it cannot make."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import neuronlens as nl
from neuronlens.activations.moments import statistics_of
from neuronlens.config.compose import compose, restore
from neuronlens.config.fingerprint import plain
from neuronlens.edits.fitting import fit_site
from neuronlens.errors import ActivationError, ConfigError, ModelError, NeuronLensError, OutputError, SiteError
from neuronlens.hooks.contexts import capture, edited
from neuronlens.lens.lens import Lens
from neuronlens.pipeline import run
from neuronlens.records import ActivationSet, Site
from neuronlens.results.folder import RunFolder
from neuronlens.storage.files import write_json
from tests.conftest import CONCEPTS, tiny_causal, tiny_model
from tests.hooks.causal import generate, prompts, state

MEASURED = ("concept_accuracy", "concept_confidence", "complement_accuracy", "complement_confidence")
GRIDS = (
    "sweep.methods=["
    "{gate:[range,outside,neuron],edit:[zero,complement_mean]},"
    "{gate:[range],range:[quantile,mixture,posterior],edit:[dampen_distance,mean]},"
    "{gate:[range],saliency:[probe,dprime],edit:[aura,dampen,linear_transport],strength:[0.5]},"
    "{gate:[joint],edit:[zero,gaussian_transport,mean_shift]},"
    "{gate:[neuron,joint],edit:[leace,directional_ablation],strength:[0.5,1.5]}]"
)
ONE_CELL = ["sweep.top_fraction=null", "sweep.tau=null", "sweep.gate=null", "sweep.edit=null"]


def _run(overrides: list[str], folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:  # figures take most of a tiny run's time, and none is looked at here
        patch.setattr("neuronlens.report.figures.draw.draw", lambda *arguments, **named: [])
        run(compose(overrides), folder)
    return folder


@pytest.fixture(scope="module")
def swept(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of many methods over two layers, each on its own."""
    more = ["sweep.layers=[0,last]", "sweep.top_fraction=[0.5]", "sweep.tau=[1.0,inf]", GRIDS]
    return _run([*tiny_overrides, *more], tmp_path_factory.mktemp("lens") / "swept")


@pytest.fixture(scope="module")
def single(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one cell per concept, in which no joint gate was asked for."""
    return _run([*tiny_overrides, *ONE_CELL], tmp_path_factory.mktemp("lens") / "single")


class Plain:
    """Plain transformers on a run's test texts, sixteen at a time, in the order of its samples file."""

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        self.model = AutoModelForSequenceClassification.from_pretrained(manifest["model_folder"]).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(manifest["model_folder"])
        self.length = manifest["max_length"]
        samples = pd.read_parquet(folder / "samples.parquet")
        test = samples[samples["split"] == "test"]
        self.texts, self.labels = test["text"].tolist(), test["label"].map(list(CONCEPTS).index).to_numpy()

    def measures(self, concept: str) -> dict[str, float]:
        """Return the measures of the model as it is now."""
        probabilities = []
        for start in range(0, len(self.texts), 16):
            batch = self.tokenizer(
                self.texts[start : start + 16],
                truncation=True,
                max_length=self.length,
                padding=True,
                return_tensors="pt",
            )
            with torch.no_grad():
                probabilities.append(torch.softmax(self.model(**batch).logits, -1).numpy())
        found = np.concatenate(probabilities)
        correct = found.argmax(1) == self.labels
        gold = found[np.arange(len(found)), self.labels]
        own = self.labels == list(CONCEPTS).index(concept)
        return dict(
            zip(MEASURED, (correct[own].mean(), gold[own].mean(), correct[~own].mean(), gold[~own].mean()), strict=True)
        )


KNOBS = ("saliency", "top_fraction", "range", "tau", "gate", "edit", "strength")


def knobs_of(row: pd.Series) -> dict[str, Any]:
    return {name: row[name] for name in KNOBS if not pd.isna(row[name])}


def check_row(plain_model: Plain, lens: Lens, row: pd.Series, **more: Any) -> None:
    with lens.erase(plain_model.model, row["concept"], **more):
        found = plain_model.measures(row["concept"])
    for name in MEASURED:
        assert abs(found[name] - row[name]) < 1e-5, (name, row.to_dict())


def cells(folder: Path) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "results.parquet")
    return rows[(rows["edit"] != "none") & rows["skipped"].isna()]


def test_every_method_of_a_run_is_made_again_from_its_folder(swept: Path) -> None:
    lens, plain_model, rows = Lens.load(swept), Plain(swept), cells(swept)
    assert set(rows["gate"]) == {"range", "outside", "neuron", "joint"}
    unedited = {concept: plain_model.measures(concept) for concept in CONCEPTS}
    moved = 0
    for kind, group in rows.groupby(["gate", "edit", "range", "saliency", "layer"], dropna=False):
        row = group.iloc[len(group) // 2]
        check_row(plain_model, lens, row, layer=int(row["layer"]), **knobs_of(row))
        moved += abs(row["concept_confidence"] - unedited[row["concept"]]["concept_confidence"]) > 1e-3
        assert len(kind) == 5
    assert moved > 20
    assert {concept: plain_model.measures(concept) for concept in CONCEPTS} == unedited


def test_an_infinite_tau_of_the_manifest_is_found_again(swept: Path) -> None:
    rows = cells(swept)
    row = rows[(rows["tau"] == np.inf) & (rows["gate"] == "range") & (rows["edit"] == "zero")].iloc[0]
    lens = Lens.load(swept)
    assert ("gaussian", float("inf")) in lens.cells.fitted[lens.sites[0]].ranges
    check_row(Plain(swept), lens, row, layer=int(row["layer"]), **knobs_of(row))


def test_the_defaults_are_the_runs_own_cell(single: Path) -> None:
    lens, plain_model, rows = nl.ConceptLens.load(str(single)), Plain(single), cells(single)
    assert len(rows) == 4
    for _, row in rows.iterrows():
        check_row(plain_model, lens, row)
    assert (rows["concept_confidence_drop"] > 0.01).any()


def test_what_was_not_swept_is_fitted_as_the_run_would_have(single: Path, swept: Path) -> None:
    lens, plain_model, rows = Lens.load(single), Plain(swept), cells(swept)
    rows = rows[rows["layer"] == 2]
    for kind in (
        *({"gate": gate, "edit": "zero"} for gate in ("range", "outside", "neuron", "joint")),
        *({"range": name} for name in ("quantile", "mixture", "posterior")),
        *({"saliency": name} for name in ("probe", "dprime")),
        {"gate": "joint", "edit": "leace"},
        {"tau": 1.0},
        {"tau": np.inf},
    ):
        own = rows.loc[(rows[list(kind)] == pd.Series(kind)).all(axis=1)]
        row = own.iloc[len(own) // 3]
        check_row(plain_model, lens, row, **knobs_of(row))


def test_taus_between_those_of_the_run_follow_the_definition(swept: Path) -> None:
    lens = Lens.load(swept)
    arrays = RunFolder(swept).read_fitted()[1]
    mean, deviation = arrays["resid_post.2/mean"], np.sqrt(arrays["resid_post.2/variance"])
    edit = lens.edit("cloud", tau=1.7, gate="range", edit="zero", top_fraction=1.0, layer=-1)[Site(2)]
    np.testing.assert_allclose(edit.lower[0, 0].numpy(), mean[2] - 1.7 * deviation[2], rtol=1e-6)
    np.testing.assert_allclose(edit.upper[0, 0].numpy(), mean[2] + 1.7 * deviation[2], rtol=1e-6)
    mixtures = [lens.edit("cloud", tau=tau, range="mixture", layer=2)[Site(2)] for tau in (0.5, 1.0, 2.0)]
    widths = [float((e.upper - e.lower)[torch.isfinite(e.upper)].sum()) for e in mixtures]
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize(
    "more",
    [
        ["layers.mode=together", "sweep.layers=[0,1,2]", "intervention.scope=model"],
        ["layers.site=mlp_neurons", "sweep.layers=[1]", "intervention.edit_positions=all"],
        ["sweep.layers=[0]", "model.record_position=mean", "intervention.edit_positions=all"],
        ["evaluation.fit_on=correct", "intervention.gate=joint", "intervention.edit=complement_mean"],
        ["intervention.top_count=5", "intervention.gate=neuron", "intervention.beta=0.3", "intervention.edit=dampen"],
    ],
    ids=lambda more: more[0],
)
def test_other_layers_sites_positions_and_scopes(more: list[str], tiny_overrides: list[str], tmp_path: Path) -> None:
    folder = _run([*tiny_overrides, *ONE_CELL, *more], tmp_path / "run")
    lens, plain_model = Lens.load(folder), Plain(folder)
    rows = cells(folder)
    assert len(rows) == 4
    for _, row in rows.iterrows():
        check_row(plain_model, lens, row)
    assert (rows["concept_confidence_drop"].abs() > 1e-3).any()


def test_the_folder_alone_is_enough_and_can_move(swept: Path, tmp_path: Path) -> None:
    few = tmp_path / "kept"
    few.mkdir()
    files = ("manifest.json", "ranges.json", "ranges.safetensors", "ranking.safetensors")
    for name in (*files, "neurons.safetensors", "activations.safetensors"):
        shutil.copy(swept / name, few / name)
    saved = tmp_path / "saved.lens"
    Lens.load(few).save(saved)
    options = {"gate": "joint", "edit": "leace", "layer": 2}
    edits = [Lens.load(folder).edit("drum", **options)[Site(2)] for folder in (swept, few, saved)]
    for edit in edits[1:]:
        for ours, theirs in ((edit.edit, edits[0].edit), (edit.detector, edits[0].detector)):
            for name in ours.__dataclass_fields__:
                one, other = getattr(ours, name), getattr(theirs, name)
                assert (one is None and other is None) or torch.equal(one, other), name


def test_fits_come_back_bit_by_bit(make_activations: Any, generator: np.random.Generator, tmp_path: Path) -> None:
    config = compose(["sweep.saliency=[max,dprime]", "sweep.range=[gaussian,quantile]", "sweep.tau=[0,inf]"])
    labels = np.array([0, 1, 1, 0, 1, 1, 2])
    found = make_activations(generator.normal(size=(7, 5)), labels, 4)
    fitted = {Site(1): fit_site(config, found)}
    RunFolder(tmp_path).write_fitted(fitted, {Site(1): found})
    back, select = RunFolder(tmp_path).restore_fitted()
    before, after = fitted[Site(1)], back[Site(1)]
    assert list(back) == list(select) == [Site(1)]
    for ours, theirs in ((before.activations, after.activations), (found, select[Site(1)])):
        assert np.array_equal(ours.values, theirs.values)
        assert np.array_equal(ours.labels, theirs.labels)
        for name in ("count", "mean", "variance", "mean_abs"):
            stored, own = getattr(ours.statistics, name), getattr(theirs.statistics, name)
            assert np.array_equal(stored, own, equal_nan=True), name
    assert set(before.rankings) == set(after.rankings) == {"max", "dprime"}
    assert set(before.ranges) == set(after.ranges) == {("gaussian", 0.0), ("gaussian", np.inf), ("quantile", None)}
    for name, ranking in before.rankings.items():
        assert np.array_equal(ranking.scores, after.rankings[name].scores, equal_nan=True)
    for key, ranges in before.ranges.items():
        assert np.array_equal(ranges.lower, after.ranges[key].lower, equal_nan=True)
        assert np.array_equal(ranges.upper, after.ranges[key].upper, equal_nan=True)
        assert ranges.skipped == after.ranges[key].skipped != {}
    assert after.failed == before.failed


def test_a_config_comes_back_from_the_manifest(tmp_path: Path) -> None:
    for overrides in (["range.tau=inf", "sweep.tau=[0,inf]"], ["experiment=methods"], ["range=posterior", "seed=0"]):
        config = compose(overrides)
        write_json(tmp_path / "manifest.json", {"config": plain(config)})
        assert restore(json.loads((tmp_path / "manifest.json").read_text())["config"]) == config
    with pytest.raises(ConfigError, match="Did you mean 'seed'"):
        restore({"sed": 1})


def test_trap_11_the_model_is_left_as_it_was_found(single: Path) -> None:
    lens, plain_model = Lens.load(single), Plain(single)
    model = plain_model.model
    before = (
        [tensor.clone() for tensor in model.state_dict().values()],
        model.config.to_json_string(),
        dict(vars(model)),
    )
    with pytest.raises(ZeroDivisionError), lens.erase(model, "apple"):
        _ = 1 / 0
    with pytest.raises(ConfigError), lens.erase(model, "apple", tau=-1):
        pass
    with lens.erase(model, "apple"), lens.erase(model, "drum"):
        plain_model.measures("apple")
    after = [tensor.clone() for tensor in model.state_dict().values()], model.config.to_json_string(), dict(vars(model))
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_runs_model_is_loaded_with_its_tokenizer(single: Path, tmp_path: Path) -> None:
    lens, plain_model = Lens.load(single), Plain(single)
    loaded = lens.load_model()
    assert loaded.tokenizer("w1 w2")["input_ids"] == plain_model.tokenizer("w1 w2")["input_ids"]
    inputs = plain_model.tokenizer(plain_model.texts[:3], padding=True, return_tensors="pt")
    assert torch.equal(loaded.model(**inputs).logits, plain_model.model(**inputs).logits)
    moved = shutil.copytree(str(lens.model_folder), tmp_path / "moved")
    assert torch.equal(lens.load_model(moved).model(**inputs).logits, plain_model.model(**inputs).logits)
    with pytest.raises(ModelError, match=r"'gone' is not here. Next: lens.load_model\(<folder>\)"):
        lens.load_model("gone")


def test_a_relative_model_folder_is_looked_for_above_the_run_folder(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "repository" / "outputs" / "name" / "date"
    shutil.copytree(single, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = tmp_path / "repository" / "outputs" / "cache" / "finetuned" / "key"
    shutil.copytree(manifest["model_folder"], kept)
    write_json(folder / "manifest.json", manifest | {"model_folder": "outputs/cache/finetuned/key"})
    (folder / "checksums.json").unlink()
    monkeypatch.chdir(tmp_path)
    assert Lens.load("repository/outputs/name/date").model_folder == str(kept.resolve())
    monkeypatch.chdir(tmp_path / "repository")
    assert Lens.load(folder).model_folder == "outputs/cache/finetuned/key"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"concept": "aple"}, ConfigError, "Unknown concept 'aple'. Did you mean 'apple'"),
        ({"gate": "rnge"}, ConfigError, "Unknown gate 'rnge'. Did you mean 'range'"),
        ({"edit": "zeroo"}, ConfigError, "Did you mean 'zero'"),
        ({"range": "gausian"}, ConfigError, "Did you mean 'gaussian'"),
        ({"saliency": "maxx"}, ConfigError, "Did you mean 'max'"),
        ({"tau": -1.0}, ConfigError, "tau is -1.0, expected a number >= 0"),
        ({"tau": "wide"}, ConfigError, "tau is 'wide', expected a number"),
        ({"gate": 3}, ConfigError, "gate is 3, expected a name"),
        ({"strength": float("nan")}, ConfigError, "strength is nan, expected a finite number"),
        ({"top_fraction": 1.5}, ConfigError, "top_fraction is 1.5, expected a fraction"),
        ({"top_count": 17}, ActivationError, "top_count is 17, expected 0 to 16"),
        ({"top_count": 2, "top_fraction": 0.5}, ConfigError, "Give one of top_fraction and top_count"),
        ({"gate": "neuron", "tau": 1.0}, ConfigError, "tau=1.0 plays no part with gate 'neuron'"),
        ({"range": "quantile", "tau": 1.0}, ConfigError, "tau=1.0 plays no part .* and range 'quantile'"),
        ({"gate": "neuron", "edit": "leace", "top_fraction": 0.1}, ConfigError, "top_fraction=0.1 plays no part"),
        (
            {"edit": "leace"},
            ConfigError,
            "Edit 'leace' mixes neurons.*Next: intervention.gate=neuron or discriminant or dsas or joint",
        ),
        ({"layer": 1}, SiteError, "Unknown site 'resid_post.1'.*Available: resid_post.2"),
        ({"layer": 7}, SiteError, "Layer 7 is past the end: the model has 3 layers"),
        ({"site": "resid_pots.2"}, SiteError, "Did you mean 'resid_post.2'"),
        ({"site": Site(2), "layer": 2}, ConfigError, "Give one of layer and site"),
        ({"positions": "first"}, ConfigError, "Unknown edit position 'first'.*record"),
    ],
    ids=str,
)
def test_misuse_is_told(single: Path, options: dict[str, Any], error: type[NeuronLensError], message: str) -> None:
    lens, model = Lens.load(single), tiny_model("bert")
    with pytest.raises(error, match=message), lens.erase(model, options.pop("concept", "apple"), **options):
        pass


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: tiny_model("llama"),
            "fitted on a bert of 3 layers with 16 neurons at resid_post.2; this model is a llama. Next",
        ),
        (lambda: _bert(num_hidden_layers=4), "this model is a bert of 4 layers. Next: lens.load_model"),
        (lambda: _bert(hidden_size=20), "this model is a bert of 3 layers with 20 neurons at resid_post.2. Next"),
        (lambda: torch.nn.Linear(2, 2), "this model is a Linear. Next"),
    ],
)
def test_a_model_of_another_shape_is_refused(single: Path, model: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message), Lens.load(single).erase(model(), "apple"):
        pass


def _bert(**changed: int) -> Any:
    config = tiny_model("bert").config
    return AutoModelForSequenceClassification.from_config(type(config)(**config.to_diff_dict() | changed))


def test_several_layers_need_a_word_on_which(swept: Path) -> None:
    lens, model = Lens.load(swept), Plain(swept).model
    with pytest.raises(ConfigError, match=r"resid_post.0, resid_post.2 each on its own. Next: layer=2"):
        lens.edit("apple")
    both = lens.edit("apple", layer=[0, -1], edit="zero", gate="range")
    assert list(both) == [Site(0), Site(2)]
    apart = {site: lens.edit("apple", site=site, edit="zero", gate="range")[site] for site in both}
    assert all(torch.equal(both[site].upper, apart[site].upper) for site in both)
    inputs = {"input_ids": torch.tensor([[2, 9, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with edited(model, both, positions="cls"):
        wanted = model(**inputs).logits
    with lens.erase(model, "apple", layer=[0, 2], edit="zero", gate="range"):
        assert torch.equal(model(**inputs).logits, wanted)
    lens.cells.config = replace(lens.config, layers=replace(lens.config.layers, mode="incremental"))
    with pytest.raises(ConfigError, match="under the other's edits, which a folder does not hold"):
        lens.edit("apple")
    assert list(lens.edit("apple", layer=0, edit="zero", gate="range")) == [Site(0)]


def test_pooled_record_positions_are_no_place_to_edit(single: Path) -> None:
    lens, model = Lens.load(single), Plain(single).model
    pooled = replace(lens.config.model, record_position="mean")
    lens.cells.config = replace(
        lens.config, model=pooled, intervention=replace(lens.config.intervention, edit_positions="all")
    )
    with lens.erase(model, "apple"):
        pass
    with (
        pytest.raises(ConfigError, match="The lens recorded 'mean', which is not one position"),
        lens.erase(model, "apple", positions="record"),
    ):
        pass


def test_folders_that_hold_no_lens(single: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not the folder of a finished run"):
        Lens.load(tmp_path)
    old = shutil.copytree(single, tmp_path / "old")
    (old / "activations.safetensors").unlink()
    with pytest.raises(OutputError, match=r"no activations.safetensors.*Next: neuronlens run"):
        Lens.load(old)
    older = shutil.copytree(single, tmp_path / "older")
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["layer_count"]
    write_json(older / "manifest.json", manifest)
    (older / "checksums.json").unlink()
    with pytest.raises(OutputError, match="has no 'layer_count'"):
        Lens.load(older)


def test_trap_10_a_cell_that_cannot_be_fitted_is_refused_with_its_reason(
    make_activations: Any, generator: np.random.Generator, tmp_path: Path
) -> None:
    found = make_activations(generator.normal(size=(9, 16)), np.array([0, 0, 0, 1, 1, 1, 1, 1, 2]), 4)
    shape = {"model_type": "bert", "layer_count": 3}
    made = Lens(compose(["sweep=single"]), {Site(1): fit_site(compose(["sweep=single"]), found)}, **shape)
    lens = Lens.load(made.save(tmp_path / "made.lens"))
    for concept, reason in (("c2", "1 samples to fit on"), ("c3", "0 samples to fit on")):
        with pytest.raises(ActivationError, match=f"'{concept}' cannot be erased so at resid_post.1: {reason}"):
            lens.edit(concept)
    with pytest.raises(ActivationError, match="the select split, which was not recorded"):
        lens.edit("c0", gate="joint")
    assert list(lens.edit("c0")) == [Site(1)]


def causal_lens(family: str, model_folder: str | None = None, positions: str = "record") -> tuple[Lens, Any]:
    """Return a lens made by hand from a tiny causal model's last-token activations, and the model."""
    model, inputs = tiny_causal(family), prompts(60, side="left")
    with capture(model, [Site(1)]) as recorded, torch.no_grad():
        model(**inputs, position_ids=(inputs["attention_mask"].cumsum(1) - 1).clamp(min=0))
    values = recorded[Site(1)][:, -1].numpy()
    labels = np.argsort(np.argsort(values[:, 0])) * 4 // len(values)  # concepts that neuron 0 tells apart
    moments = statistics_of(values, labels, 4)
    ids = tuple(str(row) for row in range(len(values)))
    fit = ActivationSet(
        Site(1), values[::2], labels[::2], CONCEPTS, ids[::2], statistics_of(values[::2], labels[::2], 4), ""
    )
    select = ActivationSet(Site(1), values[1::2], labels[1::2], CONCEPTS, ids[1::2], moments, "")
    config = compose(["layers.select=1", f"intervention.edit_positions={positions}", "intervention.top_fraction=0.5"])
    shape = {"model_type": model.config.model_type, "layer_count": 3, "model_folder": model_folder}
    return Lens(config, {Site(1): fit_site(config, fit)}, select={Site(1): select}, **shape), model


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("positions", [None, "record", "all", "prompt", "generated", "last"])
def test_text_is_written_without_a_concept(family: str, positions: str | None, tmp_path: Path) -> None:
    made, model = causal_lens(family)
    lens, inputs, before = Lens.load(made.save(tmp_path / "made.lens")), prompts(8), state(model)
    texts = []
    for knobs in ({"tau": 3.0}, {"gate": "joint", "edit": "leace"}, {"gate": "neuron", "edit": "complement_mean"}):
        for use_cache in (True, False):
            with lens.erase(model, "drum", positions=positions, **knobs):
                found = generate(model, inputs, use_cache=use_cache)
            where = "last" if positions in (None, "record") else positions
            with edited(model, lens.edit("drum", **knobs), positions=where):
                wanted = generate(model, inputs, use_cache=not use_cache)
            assert torch.equal(found.sequences, wanted.sequences)
        texts.append(found.logits)
        assert state(model) == before
    plain_text = generate(model, inputs).logits
    assert not torch.equal(torch.stack(texts[-1]), torch.stack(plain_text))
