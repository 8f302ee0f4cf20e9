"""Early and last layers in one run: the `live_mean` record position, and fewer test samples where blocks are replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.activations.extract import extract
from neuronlens.config.compose import compose
from neuronlens.config.schema import Config
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.fitting import fit_site
from neuronlens.hooks.contexts import capture
from neuronlens.hooks.replay import starts_at
from neuronlens.measures.metrics import MEASURES
from neuronlens.pipeline import run
from neuronlens.records import Knobs, Site
from neuronlens.sweep.incremental import activations_under
from tests.activations.test_extract import CPU, dataset, loaded

NUMBERS = [name + end for name in MEASURES for end in ("", "_low", "_high")]
METHODS = "sweep.methods=[{gate:[range,neuron,joint],edit:[zero,mean]},{gate:[neuron,joint],edit:[leace]}]"
SHARED = ["sweep.tau=[1.5]", "sweep.top_fraction=[0.5,1.0]", METHODS]
LIVE = ["model.record_position=live_mean", "intervention.edit_positions=all"]


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
    return pd.read_parquet(folder / "results.parquet")


def at_layer(rows: pd.DataFrame, layer: int) -> pd.DataFrame:
    return rows[rows["layer"] == layer].drop(columns=["run_id", "cell_id", "edit_positions"]).reset_index(drop=True)


def test_live_mean_is_the_head_s_position_at_the_last_layer_and_the_mean_below(
    trained: list[str], tmp_path: Path
) -> None:
    live = rows_of([*trained, *LIVE, "layers.select=[0,last]"], tmp_path / "live")
    cls = rows_of([*trained, "layers=last"], tmp_path / "cls")
    pd.testing.assert_frame_equal(at_layer(live, 2), at_layer(cls, 2), check_exact=True)
    assert (at_layer(live, 2)["kl"] > 1e-4).any()
    averaged = ["model.record_position=mean", "intervention.edit_positions=all", "layers.select=0"]
    mean = rows_of([*trained, *averaged], tmp_path / "mean")
    pd.testing.assert_frame_equal(at_layer(live, 0), at_layer(mean, 0), check_exact=False, atol=1e-6)
    assert (at_layer(live, 0)["kl"] > 1e-4).any()


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_live_mean_takes_every_token_that_is_still_read(family: str) -> None:
    sites = [Site(1), Site(1, "mlp_neurons"), Site(2), Site(2, "attn_out"), Site(2, "mlp_neurons")]
    model, data = loaded(family, record_position="live_mean"), dataset()
    found = extract(model, data, "test", sites=sites, trainer=CPU).activations
    for place, row in enumerate(data.rows("test")):
        ids = torch.tensor([model.tokenizer(data.texts[row])["input_ids"][:16]])
        with capture(model.model, sites) as recorded, torch.no_grad():
            model.model(input_ids=ids)
        for site in sites:
            tokens = recorded[site][0]
            read = tokens[0 if family == "bert" else -1] if site.layer == 2 else tokens.mean(0)
            np.testing.assert_allclose(found[site].values[place], read.numpy(), rtol=1e-4, atol=1e-5)


def test_incremental_fits_record_at_live_mean_too() -> None:
    model, data, config = (
        loaded("bert", record_position="live_mean"),
        dataset(per_concept=12),
        compose(["sweep=single"]),
    )
    first, second = Site(0), Site(2)
    found = extract(model, data, "fit", sites=[first, second], keep=[starts_at(first)], trainer=CPU)
    builder = EditBuilder(Config(), {"none": fit_site(config, found.activations[first])})
    still = (Knobs(saliency="max", top_fraction=0.5, gate="neuron", edit="zero", strength=0.0), 0)
    options: dict[str, Any] = {"edit_positions": "all", "tokens_per_forward": 100, "trainer": CPU}
    under = activations_under(model, found.states[0], {first: builder}, [still], found.activations[second], **options)
    np.testing.assert_allclose(under[still]().values, found.activations[second].values, atol=1e-5)


@pytest.mark.parametrize("site", ["resid_post", "mlp_out"])
def test_fewer_samples_below_the_last_layer_equal_a_dataset_of_just_these(
    site: str, trained: list[str], dataset_folder: Path, tmp_path: Path
) -> None:
    shared = [*trained, *LIVE, f"layers.site={site}", "layers.select=[0,last]"]
    fewer = rows_of([*shared, "evaluation.samples_below_last=6"], tmp_path / "fewer")
    samples = pd.read_parquet(tmp_path / "fewer" / "samples.parquet")
    test = samples[samples["split"] == "test"]
    for name in ("train", "test"):
        table = pd.read_csv(dataset_folder / f"{name}.csv")
        if name == "test":
            table = test.groupby("label").head(6)[["text", "label"]]
            assert len(table) == 4 * 6 < len(test)
        (tmp_path / "small").mkdir(exist_ok=True)
        table.to_csv(tmp_path / "small" / f"{name}.csv", index=False)
    small = [entry for entry in shared if not entry.startswith(("dataset.path", "dataset.samples"))]
    counts = "dataset.samples_per_concept={train:40,fit:15,select:5,test:6}"
    own = rows_of([*small, f"dataset.path={tmp_path}/small", counts], tmp_path / "own")
    last_is_replayed = site != "resid_post"  # a site inside the last block starts at the block below
    for layer, limited in ((0, True), (2, last_is_replayed)):
        ours, theirs = at_layer(fewer, layer), at_layer(own, layer)
        assert len(ours) == len(theirs) > 0
        assert set(ours["n_concept"]) == {6 if limited else 15}
        assert set(ours["n_complement"]) == {18 if limited else 45}
        same = np.allclose(ours[NUMBERS].astype(float), theirs[NUMBERS].astype(float), atol=1e-5)
        assert same == limited
    assert set(fewer.loc[fewer["edit"] == "none", "n_concept"]) == {15}
    assert fewer["cell_id"].is_unique


def test_fewer_samples_leave_the_choice_on_select_to_the_whole_select_split(trained: list[str], tmp_path: Path) -> None:
    choosing = [*trained, "layers.select=0", "evaluation.select=matched_erasure", "evaluation.erasure_levels=[0.3]"]
    points = []
    for number in ("null", "6"):
        folder = tmp_path / number
        run(compose([*choosing, f"evaluation.samples_below_last={number}"]), folder)
        points.append(pd.read_parquet(folder / "operating_points.parquet"))
    everything, fewer = points
    knobs = ["gate", "edit", "concept", "top_fraction", "strength", "select_complement_confidence_drop"]
    pd.testing.assert_frame_equal(everything[knobs], fewer[knobs])
    assert set(fewer["n_concept"].dropna()) == {6}
    assert set(everything["n_concept"].dropna()) == {15}
    assert set(everything["cell_id"].dropna()).isdisjoint(fewer["cell_id"].dropna())
