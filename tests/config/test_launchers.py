"""Launchers: what installs one is named, and one in an experiment's file is refused before anything runs."""

from __future__ import annotations

import configparser
from pathlib import Path

import pandas as pd
import pytest

from neuronlens.cli import run_command
from neuronlens.config import extras
from neuronlens.config.compose import compose
from neuronlens.config.launchers import EXTRA_OF
from neuronlens.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "extra"),
    [("joblib", "joblib"), ("submitit_local", "submitit"), ("submitit_slurm", "submitit"), ("ray", "ray")],
)
def test_a_launcher_that_is_not_installed_names_its_extra(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extras.LAUNCHERS, extra, ("not_there_at_all.launcher",))
    with pytest.raises(ConfigError, match=rf"hydra/launcher={name} needs .*pip install 'neuronlens\[{extra}\]'"):
        compose([f"hydra/launcher={name}"])


@pytest.mark.parametrize(
    "text",
    [
        "defaults:\n  - override /hydra/launcher: joblib\n",
        "defaults:\n  - override /hydra/launcher: basic\n",
        "hydra:\n  launcher:\n    n_jobs: 2\n",
    ],
)
def test_a_launcher_in_an_experiment_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text(f"# @package _global_\n{text}seed: 3\n")
    with pytest.raises(
        ConfigError, match=r"names a launcher .*Next: leave it out there, and hydra/launcher=<launcher>"
    ):
        compose(["experiment=mine"], config_dir=tmp_path)
    file.write_text("# @package _global_\nseed: 3\n")
    assert compose(["experiment=mine"], config_dir=tmp_path).seed == 3


def test_every_launcher_has_its_extra_in_setup() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    for extra in set(EXTRA_OF.values()):
        assert setup["options.extras_require"][extra].strip().startswith(f"hydra-{extra}-launcher>=1.2")
        assert extra in extras.LAUNCHERS


@pytest.mark.slow
def test_jobs_in_processes_of_joblib_give_the_table_of_one_after_the_other(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    own = ["model.finetune.epochs=2", "sweep.top_fraction=[0.5]", "evaluation.refine=false", "quiet=true"]
    swept = ["layers.select=0,1", "saliency=max,dprime", "range=gaussian,quantile"]
    for launcher in ("basic", "joblib"):
        words = [*tiny_overrides, *own, f"hydra.sweep.dir={tmp_path}/{launcher}/several", f"hydra/launcher={launcher}"]
        cache = f"paths.cache_dir={tmp_path}/{launcher}/cache"
        assert run_command(["run", *words, cache, *swept, "-m"]) == 0
    basic, joblib = ((tmp_path / name / "several" / "gathered.csv").read_bytes() for name in ("basic", "joblib"))
    assert len(set(pd.read_csv(tmp_path / "basic" / "several" / "gathered.csv")["job"])) == 8
    assert basic == joblib
