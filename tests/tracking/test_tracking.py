"""An offline W&B run read back: config, history, tables, charts, numbers to sort by, artifacts and their lineage."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.errors import ConfigError, NeuronLensError
from neuronlens.lens.lens import Lens
from neuronlens.measures.headline import headline_row
from neuronlens.pipeline import run
from neuronlens.records import Job
from neuronlens.results.folder import RunFolder
from neuronlens.tracking import Tracker
from neuronlens.tracking.columns import MOST_COLUMNS
from neuronlens.tracking.destination import labels_of
from neuronlens.tracking.scalars import chosen, undominated
from tests.tracking.offline_run import OfflineRun

SWEPT = ["sweep.layers=[0,last]", "sweep.tau=[1.0,2.5,inf]", "sweep.gate=[range,neuron]", "sweep.edit=[zero,mean]"]


@pytest.fixture(scope="module")
def folder(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run over two layers, followed by W&B."""
    path = tmp_path_factory.mktemp("tracked") / "run"
    overrides = [entry for entry in tiny_overrides if entry != "logger=csv" and not entry.startswith("sweep.tau")]
    run(compose([*overrides, *SWEPT, "logger=wandb", "logger.tags=[mine]"]), path)
    return path


@pytest.fixture(scope="module")
def read(folder: Path) -> OfflineRun:
    """The W&B run of that folder."""
    return OfflineRun(folder)


def test_the_run_is_named_grouped_and_tagged(read: OfflineRun) -> None:
    assert (read.run.project, read.run.run_group, read.run.job_type) == ("neuronlens", "tiny_bert-made_up", "run")
    assert read.run.display_name == "tiny_bert-made_up/run"
    assert list(read.run.tags) == ["mine"]
    assert read.exit_code == 0


def test_the_config_is_the_whole_resolved_one(folder: Path, read: OfflineRun) -> None:
    stored = json.loads((folder / "manifest.json").read_text())["config"]
    for key, value in stored.items():
        if key not in ("saliency", "range"):
            assert read.config[key] == value, key
    assert read.config["saliency"] == {"name": "max"}, "by the option's name, not by its class"
    assert read.config["range"] == {"name": "gaussian", "tau": stored["range"]["tau"]}
    assert read.config["sweep"]["tau"] == [1.0, 2.5, "inf"]  # JSON has no infinity


def test_the_results_table_holds_every_row_with_its_types_and_nulls(folder: Path, read: OfflineRun) -> None:
    rows, table = pd.read_parquet(folder / "results.parquet"), read.table("results")
    assert table["ncols"] == len(table["columns"]) == MOST_COLUMNS
    assert set(table["columns"]) - {"method"} <= set(rows.columns)
    assert {"method", "layers", "concept", "tau", "n_neurons", "selectivity", "kl"} <= set(table["columns"])
    assert len(table["data"]) == len(rows) == 4 * (1 + 2 * 3 * (3 + 1) * 2)
    logged = pd.DataFrame(table["data"], columns=table["columns"])
    types = table["column_types"]["params"]["type_map"]
    for name in set(table["columns"]) - {"method"}:
        said = {kind["wb_type"] for kind in types[name]["params"]["allowed_types"]}
        missing = rows[name].isna()
        assert (logged[name].isna() == missing).all(), name
        if name == "tau":
            assert said == {"none", "string"}
            assert set(logged[name].dropna()) == {"1.0", "2.5", "inf"}
        elif pd.api.types.is_numeric_dtype(rows[name]):
            assert said == {"none", "number"}, name
            np.testing.assert_array_equal(logged[name][~missing].astype(float), rows[name][~missing].astype(float))
        else:
            assert said == {"none", "string"}, name
            assert (logged[name][~missing] == rows[name][~missing]).all(), name
    assert logged["tau"].isna().any()  # the neuron mask has none: null, not 0
    shown = {f"{name}, 50% of the neurons" for name in ("neuron zero", "range (gaussian 2.5) zero")}
    assert set(logged["method"]) >= {"unedited", *shown}


def test_history_has_a_line_per_dose_equal_to_the_means_over_concepts(folder: Path, read: OfflineRun) -> None:
    rows = pd.read_parquet(folder / "results.parquet")
    lines = {line["neurons"]: line for line in read.history if "neurons" in line}
    assert list(lines) == [4, 8, 16]
    for neurons, line in lines.items():
        own = rows[(rows["n_neurons"] == neurons) & (rows["layer"] == 0) & (rows["edit"] == "mean")]
        for key, part in (
            ("range_mean_gaussian_tau2_5_max", own[own["tau"] == 2.5]),
            ("range_mean_gaussian_tauinf_max", own[own["tau"] == np.inf]),
            ("neuron_mean_max", own[own["gate"] == "neuron"]),
        ):
            assert len(part) == 4
            for measure in ("concept_accuracy_drop", "complement_confidence_drop", "kl"):
                logged = line[f"by_neurons/resid_post_0/{key}/{measure}"]
                assert logged == pytest.approx(part[measure].mean(), abs=1e-12)
    assert read.metrics["by_neurons/*"].step_metric == "neurons"
    assert not any(str(key).startswith("by_neurons/") for key in read.summary)


def test_history_has_a_line_per_stage_with_its_seconds(folder: Path, read: OfflineRun) -> None:
    timings = json.loads((folder / "manifest.json").read_text())["timings_s"]
    lines = [line for line in read.history if "stage" in line]
    assert [line["stage"] for line in lines] == list(range(len(lines)))
    for name, seconds in timings.items():
        if name != "total":
            (logged,) = [line[key] for line in lines if (key := f"timing/{name.replace(' ', '_')}_s") in line]
            assert logged == pytest.approx(seconds)
            assert read.summary[f"timing/{name.replace(' ', '_')}_s"] == logged  # a number, to sort by
    assert timings["total"] >= sum(seconds for name, seconds in timings.items() if name != "total")


def test_the_summary_holds_few_numbers_the_message_and_an_interval(folder: Path, read: OfflineRun) -> None:
    config = RunFolder(folder).read_manifest().known_config
    few = chosen(RunFolder(folder).read_results(), config)
    own = {key: value for key, value in read.summary.items() if isinstance(key, str)}
    numbers = [key for key in own if not key.startswith("_")]
    assert len(numbers) <= 60, sorted(numbers)
    media = {key[0] for key in read.summary if not isinstance(key, str)} - {"_wandb"}
    assert len(numbers) + len(media) <= 60, sorted(media)
    assert {key: own[key] for key in few} == pytest.approx(few, abs=1e-12)
    assert own["message"] == json.loads((folder / "summary.json").read_text())["message"]
    compared = pd.read_parquet(folder / "comparison.parquet")
    row = headline_row(compared, config)
    assert row is not None
    assert own["headline/concepts"] == row["n_concepts"]
    for end in ("low", "high"):
        assert own[f"headline/confidence_{end}"] == pytest.approx(row[f"complement_confidence_drop_{end}"], abs=1e-12)
        assert own[f"levels/erased_60/confidence_{end}"] == own[f"headline/confidence_{end}"]
    assert len(read.table("budget_comparison")["data"]) == len(pd.read_parquet(folder / "budget_comparison.parquet"))
    base = json.loads((folder / "base.json").read_text())
    assert (own["base/accuracy"], own["base/n"]) == (base["accuracy"], base["n"])


def test_nothing_to_sort_runs_by_rests_on_one_concept(folder: Path) -> None:
    table, config = RunFolder(folder).read_results(), RunFolder(folder).read_manifest().known_config
    lonely = replace(table, comparison=table.comparison.assign(n_concepts=1))
    assert any(name.startswith("headline/confidence") for name in chosen(table, config))
    assert [name for name in chosen(lonely, config) if not name.startswith(("base/", "cells/"))] == [
        "headline/erased",
        "headline/concepts",
    ]


def test_headlines_have_fixed_names_and_are_the_configured_comparison_at_the_deepest_layer(
    folder: Path, read: OfflineRun
) -> None:
    compared = pd.read_parquet(folder / "comparison.parquet")
    own = compared[(compared["tau"] == 2.5) & (compared["edit"] == "zero") & (compared["layers"] == "2")]
    row = own[own["level"] == 0.6].iloc[0]
    for name, column in (
        ("confidence_difference", "complement_confidence_drop_difference"),
        ("accuracy_difference", "complement_accuracy_drop_difference"),
        ("range_collateral", "complement_confidence_drop_range"),
        ("neuron_collateral", "complement_confidence_drop_neuron"),
    ):
        assert read.summary[f"headline/{name}"] == pytest.approx(row[column], abs=1e-12)
    assert read.summary["headline/erased"] == 0.6


def test_trap_26_the_headline_is_chosen_by_the_config_not_by_its_result(folder: Path) -> None:
    compared = pd.read_parquet(folder / "comparison.parquet")
    config = compose(["intervention.edit=mean", "range.tau=1.0"])
    chosen = headline_row(compared, config)
    better = compared.assign(complement_confidence_drop_difference=-1.0 * compared.index)
    assert chosen is not None
    again = headline_row(better, config)
    assert again is not None
    for name in ("tau", "edit", "layers", "level"):
        assert again[name] == chosen[name]
    assert (chosen["tau"], chosen["edit"]) == (1.0, "mean")
    unswept = headline_row(compared, compose(["intervention.edit=dampen", "range.tau=7.0"]))
    assert unswept is not None
    assert (unswept["tau"], unswept["edit"]) == tuple(compared[["tau", "edit"]].iloc[0])
    assert headline_row(compared.iloc[:0], config) is None


def test_a_run_without_a_ranking_or_a_range_has_numbers_too(tiny_overrides: list[str], tmp_path: Path) -> None:
    cases = {
        "no ranking": "[{gate:[neuron],edit:[leace],strength:[0.5,1.0]}]",
        "no tau": "[{gate:[range,neuron],range:[quantile],edit:[zero]}]",
        "controls alone": "[{gate:[range,neuron],edit:[zero],control:[random_neurons]}]",
    }
    headlines = {}
    for name, methods in cases.items():
        config = compose([*tiny_overrides, f"sweep.methods={methods}", "evaluation.diagnostics=false", "quiet=true"])
        table = run(config, tmp_path / name)
        numbers = [line.split(",")[0] for line in (tmp_path / name / "metrics.csv").read_text().splitlines()]
        assert sum(number.startswith("methods/") for number in numbers) > 0, name
        assert any(number.startswith("by_") for number in numbers), name
        headlines[name] = headline_row(table.comparison, config)
    assert headlines["no ranking"] is headlines["controls alone"] is None
    assert headlines["no tau"] is not None
    assert headlines["no tau"]["range"] == "quantile"


def test_metric_names_are_ones_that_wandb_can_sort_by_and_stand_once(read: OfflineRun) -> None:
    names = [str(key) for key in read.summary if "/" in str(key) and not isinstance(key, tuple)]
    names += [str(key) for line in read.history for key in line if "/" in str(key) and not isinstance(key, tuple)]
    assert len(names) > 60
    for name in names:
        assert re.fullmatch(r"[_a-zA-Z][_a-zA-Z0-9/]*", name), name
    assert len({name.lower() for name in names}) == len(set(names))  # W&B does not tell case apart


def test_the_tradeoff_and_its_frontier_are_charts(folder: Path, read: OfflineRun) -> None:
    for chart, stroke in (("tradeoff", "method"), ("frontier", "place")):
        panel = read.config[("_wandb", "visualize", chart)]
        fields = panel["panel_config"]["fieldSettings"]
        assert fields == {"x": "share_erased", "y": "complement_confidence_drop", "stroke": stroke}
    rows = pd.read_parquet(folder / "results.parquet")
    edited = rows[rows["edit"] != "none"]
    edited = edited.assign(share_erased=edited["concept_accuracy_drop"] / edited["base_concept_accuracy"])
    knobs = ["layers", "edit", "gate", "tau", "n_neurons"]
    means = edited.groupby(knobs, dropna=False)[["share_erased", "complement_confidence_drop"]].mean()
    drawn = pd.DataFrame(read.table("tradeoff_table")["data"], columns=read.table("tradeoff_table")["columns"])
    assert len(drawn) == len(means) == 2 * 2 * 4 * 3
    for name in means:
        np.testing.assert_allclose(np.sort(drawn[name]), np.sort(means[name]), atol=1e-12)
    front = read.table("frontier_table")
    kept = pd.DataFrame(front["data"], columns=front["columns"])
    for layers, group in means.reset_index().groupby("layers"):
        points = list(zip(group["share_erased"], group["complement_confidence_drop"], strict=True))
        best = [
            (erased, cost)
            for erased, cost in points
            if not any(e >= erased and c <= cost and (e, c) != (erased, cost) for e, c in points)
        ]
        own = kept[kept["place"] == f"resid_post_{layers}"]
        assert len(own) == len(best) > 0
        np.testing.assert_allclose(own["share_erased"], sorted(e for e, _ in best), atol=1e-12)


def test_the_frontier_of_random_points_is_that_of_a_double_loop(generator: np.random.Generator) -> None:
    points = generator.integers(0, 6, size=(60, 2)) / 5
    slow = [not any(w >= a and c <= b and (w > a or c < b) for w, c in points) for a, b in points]
    assert undominated(points[:, 0], points[:, 1]).tolist() == slow
    assert 0 < sum(slow) < 60


def test_figures_are_images(folder: Path, read: OfflineRun) -> None:
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    logged = {key.split("/")[1] for line in read.history for key in _media(line) if key.startswith("figures/")}
    assert logged == drawn > set()
    assert all((read.folder / "files" / path).is_file() for path in read.files if path.startswith("media/"))


def _media(line: dict[Any, Any]) -> set[str]:
    return {key[0] for key in line if isinstance(key, tuple)}


def _md5(path: Path) -> str:
    return base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()


def test_artifacts_hold_the_files_with_fingerprints_and_the_lens_rests_on_the_ranges(
    folder: Path, read: OfflineRun, tmp_path: Path
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = {name.split("-")[0]: found for name, found in read.artifacts.items() if name.endswith("-tiny_bert-made_up")}
    assert set(kept) == {"ranges", "lens", "results"}
    for kind, artifact in kept.items():
        assert artifact.type == kind
        about = json.loads(artifact.metadata)
        assert about["fingerprints"] == manifest["fingerprints"]
        assert about["concepts"] == manifest["concepts"]
        for entry in artifact.manifest.contents:
            if not entry.ref:
                assert Path(entry.local_path) == folder / entry.path  # taken as it stands: what `wandb sync` sends
                assert entry.digest == _md5(folder / entry.path), entry.path
    referred = {entry.path: entry.ref for entry in kept["lens"].manifest.contents if entry.ref}
    ranges = {entry.path: entry for entry in kept["ranges"].manifest.contents}
    assert set(referred) == set(ranges) == {"ranges.safetensors", "ranges.json"}
    for path, ref in referred.items():
        assert ref == f"wandb-client-artifact://{kept['ranges'].client_id}/{path}"
    assert json.loads(kept["lens"].metadata)["rests_on"]["ranges"]["digest"] == kept["ranges"].digest
    order = list(read.artifacts)
    assert order.index("ranges-tiny_bert-made_up") < order.index("lens-tiny_bert-made_up")
    for entry in kept["lens"].manifest.contents:  # what the artifact holds is all that a lens needs
        shutil.copy(folder / entry.path, tmp_path / entry.path)
    assert Lens.load(tmp_path).edit("apple", layer=2)
    for name in ("results.parquet", "comparison.parquet", "summary.json", "table.md"):
        assert name in {entry.path for entry in kept["results"].manifest.contents}


def test_wandb_writes_nothing_outside_the_run_folder_and_its_run_is_not_left_open(
    folder: Path, read: OfflineRun
) -> None:
    import wandb

    assert wandb.run is None
    assert "WANDB_DATA_DIR" not in os.environ
    assert "WANDB_ERROR_REPORTING" not in os.environ
    for artifact in read.artifacts.values():
        kept = [Path(entry.local_path) for entry in artifact.manifest.contents if not entry.ref]
        assert kept
        for path in kept:
            assert path.is_relative_to(folder)
            assert path.is_file()


def test_the_run_folder_is_whole_before_anything_is_logged(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    own = Tracker.log_results

    def watched(self: Tracker, *arguments: Any) -> None:
        seen.append({path.name for path in self.folder.path.rglob("*")})
        own(self, *arguments)

    monkeypatch.setattr(Tracker, "log_results", watched)
    run(compose(tiny_overrides), tmp_path / "run")
    assert {"manifest.json", "results.parquet", "summary.json", "table.md", "tradeoff.png"} <= seen[0]
    after = {path.name for path in (tmp_path / "run").rglob("*")}
    assert after == seen[0]


def test_an_unknown_logger_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'tensorboard'"):
        compose(["logger.kind=tensorbord"])
    with pytest.raises(ConfigError, match="Did you mean 'wandb'"):
        compose(["logger.kind=csv+wand"])
    with pytest.raises(ConfigError, match="Did you mean 'wandb'"):
        compose(["logger=wandbb"])
    assert compose(["logger.kind=csv+wandb"]).logger.kind == "csv+wandb"


def test_labels_default_to_what_the_run_is_and_the_users_own_win() -> None:
    path, job = Path("outputs/x/2026-01-01"), Job(3, ("dataset=imdb",), "multirun-2026-02-02")
    plain_labels = labels_of(compose(["model=gpt2", "dataset=imdb", "saliency=dprime"]), path)
    assert (plain_labels.group, plain_labels.job_type) == ("gpt2-imdb", "run")
    assert plain_labels.tags == ("gpt2", "imdb", "dprime", "gaussian")
    assert labels_of(compose(["experiment=methods"]), path).job_type == "methods"
    in_multirun = labels_of(compose([]), path, job)
    assert (in_multirun.group, in_multirun.name) == ("multirun-2026-02-02", "minilm-newsgroups20/#3 dataset=imdb")
    own = compose(["logger.group=g", "logger.job_type=j", "logger.tags=[a]", "experiment=methods"])
    found = labels_of(own, path, job)
    assert (found.group, found.job_type, found.tags) == ("g", "j", ("a",))
    assert compose(["logger.group=${dataset.name}"]).logger.group == "newsgroups20"


def test_csv_keeps_wandb_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with Tracker(compose(["logger=csv"]), RunFolder(tmp_path), warn=_no_warning) as tracker:
        tracker.log_stage("sweep", 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def _no_warning(warnings: Any) -> None:
    raise AssertionError(warnings)


def test_a_failed_run_is_finished_as_failed_and_the_next_one_is_a_run_of_its_own(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    overrides = [*(entry for entry in tiny_overrides if entry != "logger=csv"), "logger=wandb"]

    def broken(*arguments: Any, **options: Any) -> Any:
        raise NeuronLensError("the sweep broke")

    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    for name, failure, error in (("bad", broken, NeuronLensError), ("stopped", interrupted, KeyboardInterrupt)):
        with monkeypatch.context() as patch:
            patch.setattr("neuronlens.pipeline.sweep_group", failure)
            with pytest.raises(error):
                run(compose(overrides), tmp_path / name)
        assert wandb.run is None
    run(compose(overrides), tmp_path / "good")
    bad, stopped, good = (OfflineRun(tmp_path / name) for name in ("bad", "stopped", "good"))
    assert (bad.exit_code, stopped.exit_code, good.exit_code) == (1, 130, 0)
    assert len({bad.run.run_id, stopped.run.run_id, good.run.run_id}) == 3
    assert "timing/activations_s" in bad.summary
    assert "headline/confidence_difference" not in bad.summary
    assert "headline/confidence_difference" in good.summary
