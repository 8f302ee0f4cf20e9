"""Following a run where things go wrong, under a sweep agent, in several processes; and TensorBoard and CSV read back."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from joblib import Parallel, delayed

from neuronlens.cli import run_command
from neuronlens.config.compose import compose
from neuronlens.config.fingerprint import plain
from neuronlens.pipeline import run
from neuronlens.results.folder import RunFolder
from neuronlens.tracking import Tracker
from neuronlens.tracking.scalars import chosen, flat
from tests.tracking.offline_run import OfflineRun

SWEEP = Path(__file__).resolve().parents[2] / "experiments" / "sweep.yaml"


@pytest.fixture
def wandb_overrides(tiny_overrides: list[str]) -> list[str]:
    """The tiny run, followed by W&B."""
    return [*(entry for entry in tiny_overrides if entry != "logger=csv"), "logger=wandb"]


@pytest.fixture(scope="module")
def folder(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run followed by TensorBoard and a CSV file at once, with both kinds of dose."""
    path = tmp_path_factory.mktemp("both") / "run"
    methods = "[{gate:[range,neuron],edit:[zero]},{gate:[neuron],edit:[leace],strength:[0.5,1.0]}]"
    kept = [entry for entry in tiny_overrides if entry != "logger=csv"]
    run(compose([*kept, f"sweep.methods={methods}", "logger.kind=tensorboard+csv"]), path)
    return path


def test_offline_starts_wandb_without_its_error_reports_which_ask_a_name_server(
    wandb_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    seen: list[tuple[Any, str | None]] = []

    def init(**options: Any) -> Any:
        seen.append((options["mode"], os.environ.get("WANDB_ERROR_REPORTING")))
        raise OSError("no space left on device")

    monkeypatch.setattr(wandb, "init", init)
    told: list[str] = []
    for override in ("logger.offline=true", "logger.offline=false"):
        with Tracker(compose([*wandb_overrides, override]), RunFolder(tmp_path), warn=told.extend):
            pass
    assert seen == [("offline", "false"), ("online", None), ("offline", "false")]
    assert "WANDB_ERROR_REPORTING" not in os.environ
    assert len(told) == 2
    assert all("could not start (OSError: no space left on device)" in line for line in told)


def test_where_wandb_cannot_be_reached_the_run_is_recorded_offline_and_told_so(
    wandb_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    own = wandb.init

    def init(**options: Any) -> Any:
        if options["mode"] == "online":
            raise wandb.errors.CommError("the server did not answer")
        return own(**options)

    monkeypatch.setattr(wandb, "init", init)
    told: list[str] = []
    with Tracker(compose([*wandb_overrides, "logger.offline=false"]), RunFolder(tmp_path), warn=told.extend) as tracker:
        tracker.log_stage("sweep", 2.0)
    (line,) = told
    assert "the server did not answer" in line
    assert f"wandb sync {OfflineRun(tmp_path).folder}" in line
    assert OfflineRun(tmp_path).summary["timing/sweep_s"] == 2.0
    assert list(tracker.notes) == [f"wandb sync {OfflineRun(tmp_path).folder}"]


def test_wandb_failing_half_way_loses_nothing_and_the_others_go_on(
    wandb_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from neuronlens.tracking.weights_and_biases import WeightsAndBiases

    def full(self: WeightsAndBiases, *values: Any, **more: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(WeightsAndBiases, "log_flat", full)
    config = compose([*wandb_overrides, "logger.kind=wandb+csv", "quiet=true"])
    table = run(config, tmp_path / "run")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    (warning,) = said.err.splitlines()
    assert "logger=wandb stopped recording (OSError: no space left on device)" in warning
    assert f"its results are in {tmp_path / 'run'}" in warning
    pd.testing.assert_frame_equal(RunFolder(tmp_path / "run").read_results().rows, table.rows)
    assert (tmp_path / "run" / "manifest.json").is_file()
    assert "headline/confidence_difference" in (tmp_path / "run" / "metrics.csv").read_text()
    assert OfflineRun(tmp_path / "run").exit_code == 1


def test_a_mistake_in_the_numbers_themselves_does_not_stop_the_run(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mistaken(*arguments: Any) -> Any:
        raise ZeroDivisionError("a mean of nothing")

    monkeypatch.setattr("neuronlens.tracking.tracker.flat", mistaken)
    run(compose([*tiny_overrides, "quiet=true"]), tmp_path / "run")
    assert "logger=csv did not get all results (ZeroDivisionError: a mean of nothing)" in capsys.readouterr().err
    assert RunFolder(tmp_path / "run").read_results().rows.shape[0] > 0


def test_the_report_page_is_logged_where_there_is_one(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "a run", ignore=shutil.ignore_patterns("report.html", "tensorboard"))
    copied = RunFolder(tmp_path / "a run")
    page = "<p>what a neuron says</p>"
    (copied.path / "report.html").write_text(page)
    with Tracker(compose(["logger=wandb"]), copied, warn=_no_warning) as tracker:
        tracker.log_results(copied.read_results(), copied.read_manifest())
    read = OfflineRun(copied.path)
    (line,) = [line for line in read.history if ("report", "path") in line]
    assert line[("report", "_type")] == "html-file"
    assert (read.folder / "files" / line[("report", "path")]).read_text() == page
    artifact = next(found for name, found in read.artifacts.items() if name.startswith("results-"))
    assert "report.html" in {entry.path for entry in artifact.manifest.contents}
    assert list(tracker.notes) == [f"wandb sync '{read.folder}'"]  # the folder's name holds a space


def _no_warning(warnings: Any) -> None:
    raise AssertionError(warnings)


def test_a_run_that_the_caller_has_open_is_left_alone(
    tiny_overrides: list[str], wandb_overrides: list[str], tmp_path: Path
) -> None:
    import wandb

    with wandb.init(mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True, console="off")) as mine:
        run(compose(wandb_overrides), tmp_path / "run")
        assert wandb.run is mine
        mine.log({"still": 1})
    ours, theirs = OfflineRun(tmp_path / "run"), OfflineRun(tmp_path)
    assert ours.run.run_id != theirs.run.run_id
    assert any("still" in line for line in theirs.history)
    assert not any("still" in line for line in ours.history)


@pytest.mark.slow
def test_under_a_sweep_agent_the_run_is_the_agents_and_keeps_the_whole_config(
    wandb_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    chosen = tmp_path / "config.yaml"
    chosen.write_text(yaml.safe_dump({"saliency": {"value": "dprime"}, "layers.select": {"value": "last"}}))
    wandb.teardown()  # an agent starts each run in a process of its own
    for name, value in (
        ("SWEEP_ID", "swp1"),
        ("RUN_ID", "agents1"),
        ("PROJECT", "theirs"),
        ("SWEEP_PARAM_PATH", chosen),
    ):
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    overrides = [*wandb_overrides, "saliency=dprime", "layers.select=last"]
    run(compose(overrides), tmp_path / "run")
    wandb.teardown()
    read = OfflineRun(tmp_path / "run")
    assert (read.run.run_id, read.run.sweep_id, read.run.project) == ("agents1", "swp1", "theirs")
    assert (read.config["saliency"], read.config["layers.select"]) == ("dprime", "last")
    assert "saliency._target_" not in read.config, "the option's name says it"
    assert read.config["dataset"]["samples_per_concept"]["fit"] == 15
    assert "headline/confidence_difference" in read.summary


def _sweep_points() -> list[dict[str, Any]]:
    parameters = yaml.safe_load(SWEEP.read_text())["parameters"]
    values = [parameters[name]["values"] for name in parameters]
    return [dict(zip(parameters, point, strict=True)) for point in itertools.product(*values)]


def test_every_point_of_the_sweep_file_composes_as_the_agent_would_type_it() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load(SWEEP.read_text())
    assert sweep["method"] in ("grid", "random", "bayes")
    points = _sweep_points()
    assert len(points) == 8
    typed = []
    for point in points:
        filled = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
        command = []
        for part in sweep["command"]:
            own = {"${env}": ["/usr/bin/env"], "${program}": [sweep["program"]]}.get(part, filled.get(part[2:-1]))
            command += [part] if own is None else own
        assert command[:3] == ["/usr/bin/env", "neuronlens", "run"]
        config = compose(command[3:])
        assert not config.logger.offline
        typed.append((config.dataset.name, config.saliency["_target_"].split(".")[2], str(config.layers.select)))
    assert sorted(typed) == sorted(tuple(point.values()) for point in points)
    line = next(line for line in SWEEP.read_text().splitlines() if "neuronlens run -m" in line)
    lists = {key: value.split(",") for key, value in (part.split("=") for part in line.split("-m ")[1].split())}
    assert lists == {name: spec["values"] for name, spec in sweep["parameters"].items()}  # the multirun it stands for


def test_the_sweep_optimises_a_number_that_runs_really_write(folder: Path) -> None:
    metric = yaml.safe_load(SWEEP.read_text())["metric"]
    manifest = json.loads((folder / "manifest.json").read_text())
    written = chosen(RunFolder(folder).read_results(), compose(["range.tau=2.5"]))
    assert metric["name"] in written
    assert metric["goal"] == "minimize"
    assert manifest["config"]["range"]["tau"] == 2.5


def _one_job(overrides: list[str], path: Path) -> int:
    run(compose(overrides), path)
    return os.getpid()


@pytest.mark.slow
def test_jobs_in_worker_processes_have_a_run_each(wandb_overrides: list[str], tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    run(compose(wandb_overrides), tmp_path / "first")  # fills the cache, and leaves W&B started in this process
    pids = Parallel(n_jobs=2)(delayed(_one_job)(wandb_overrides, path) for path in paths)
    assert os.getpid() not in pids
    reads = [OfflineRun(path) for path in paths]
    assert len({read.run.run_id for read in reads}) == 3
    assert {read.exit_code for read in reads} == {0}


@pytest.mark.slow
def test_a_multirun_with_a_failing_job_finishes_the_wandb_runs_of_the_others(
    wandb_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*wandb_overrides, f"paths.output_dir={tmp_path}/outputs", "model.max_length=999,16", "-m"]
    assert run_command(["run", *overrides]) == 1
    (multirun,) = (tmp_path / "outputs" / "multirun").iterdir()
    assert not (multirun / "0").exists(), "a job that is refused leaves nothing"
    good = OfflineRun(multirun / "1")
    assert good.exit_code == 0
    assert good.run.run_group == f"multirun-{multirun.name}"
    assert good.run.display_name.endswith("/#1 model.max_length=16")
    assert "results" in {line_key[0] for line in good.history for line_key in line if isinstance(line_key, tuple)}
    printed = capsys.readouterr().err
    assert "64 positions" in printed
    assert "model.max_length=999" in printed
    assert "#1 sweep" in printed


def test_tensorboard_reads_scalars_by_dose_numbers_images_text_and_hyperparameters(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    table = RunFolder(folder).read_results()
    for name, value in flat(table, compose([])).items():
        (event,) = events.Scalars(name)
        assert event.value == pytest.approx(value, rel=1e-5), name  # TensorBoard keeps float32
    rows = table.rows
    own = rows[(rows["edit"] == "zero") & (rows["tau"] == 2.5)].groupby("n_neurons")["kl"].mean()
    drawn = {
        event.step: event.value for event in events.Scalars("by_neurons/resid_post_2/range_zero_gaussian_tau2_5_max/kl")
    }
    assert drawn == pytest.approx(own.to_dict(), rel=1e-5)
    mixing = rows[rows["edit"] == "leace"].groupby("strength")["kl"].mean()
    (tag,) = [tag for tag in events.Tags()["scalars"] if tag.startswith("by_strength/") and tag.endswith("/kl")]
    assert {event.step / 100: event.value for event in events.Scalars(tag)} == pytest.approx(mixing.to_dict(), rel=1e-5)
    assert set(events.Tags()["images"]) == {f"figures/{path.stem}" for path in (folder / "figures").glob("*.png")}
    text = events.Tensors("tables/comparison/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"{table.comparison['complement_confidence_drop_difference'].iloc[0]:.4g}" in text
    (exit_code,) = events.Scalars("exit_code")
    assert exit_code.value == 0
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    values = HParamsPluginData.FromString(plugin).session_start_info.hparams
    assert values["model.finetune.epochs"].number_value == 20
    assert values["dataset.name"].string_value not in ("", "local")
    stages = [tag for tag in events.Tags()["scalars"] if tag.startswith("timing/")]
    assert [events.Scalars(f"timing/{name}_s")[0].step for name in ("model_files", "data", "model")] == [0, 1, 2]
    assert len(stages) == 10


def test_the_csv_file_holds_the_same_numbers(folder: Path) -> None:
    with (folder / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    numbers = {row["name"]: float(row["value"]) for row in rows if not row["axis"]}
    table = RunFolder(folder).read_results()
    assert numbers == flat(table, compose([]))
    assert {row["axis"] for row in rows} == {"", "stage", "neurons", "strength"}
    own = table.rows[(table.rows["gate"] == "neuron") & (table.rows["edit"] == "zero")]
    means = own.groupby("n_neurons")["selectivity"].mean()
    told = {
        int(row["at"]): float(row["value"])
        for row in rows
        if row["name"] == "by_neurons/resid_post_2/neuron_zero_max/selectivity"
    }
    assert told == pytest.approx(means.to_dict(), abs=1e-12)
    assert np.isfinite([float(row["value"]) for row in rows]).all()


def test_plain_config_is_flat_for_tensorboard() -> None:
    from neuronlens.tracking.tensorboard_files import _flat

    found = dict(_flat(plain(compose(["sweep.tau=[1.0]"]))))
    assert found["sweep.tau"] == "[1.0]"
    assert found["model.finetune.blocks"] == 2
    assert "model.path" not in found  # null has no value there
