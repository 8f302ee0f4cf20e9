"""Jobs checked before the first one starts, and values that were typed and play no part."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronlens.config.compose import compose
from neuronlens.config.flags import take_apart
from neuronlens.config.jobs import checked_jobs, unused
from neuronlens.errors import ConfigError


def test_every_job_of_a_multirun_has_its_config() -> None:
    jobs = checked_jobs(["seed=1,2", "layers.select=0"], multirun=True, config_dir=None)
    assert [job.config.seed for job in jobs] == [1, 2]
    assert {job.config.layers.select for job in jobs} == {0}


def test_a_problem_of_some_jobs_names_them_and_one_of_all_names_none() -> None:
    with pytest.raises(ConfigError) as caught:
        checked_jobs(["seed=1,x", "layers.select=0,1", "range.tau=hello"], multirun=True, config_dir=None)
    lines = str(caught.value).splitlines()
    assert any(line.startswith("range.tau is 'hello'") for line in lines)
    assert any(line.startswith("Job 2 (seed=x layers.select=0) and 1 more: seed is 'x'") for line in lines)
    assert len(lines) == 2


def test_values_that_an_experiment_sweeps_are_jobs_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\n# Mine.\nhydra: {sweeper: {params: {seed: '1,2', range.tau: 3}}}\n")
    overrides = ["experiment=mine", "layers.select=0,1"]
    jobs = checked_jobs(overrides, multirun=True, config_dir=str(tmp_path))
    assert [(job.config.seed, job.config.layers.select) for job in jobs] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert {job.config.headline_tau for job in jobs} == {3}
    file.write_text(file.read_text().replace("1,2", "1,x"))
    with pytest.raises(ConfigError, match=r"seed is 'x', expected a whole number"):
        checked_jobs(overrides, multirun=True, config_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["intervention.edit=mean", "sweep.edit=[zero]"],
            "intervention.edit is not used: sweep.edit lists the values.",
        ),
        (["intervention.edit=mean"], "intervention.edit is not used"),  # the default sweep lists edits
        (["layers.select=0", "sweep.layers=[1]"], "layers.select is not used"),
        (["intervention.top_count=5", "sweep.top_fraction=[0.1]"], "sweep.top_fraction is not used"),
        (
            ["intervention.edit=mean", "sweep.edit=null", "sweep.methods=[{edit:[zero]}]"],
            "intervention.edit is not used",
        ),
        (["intervention.edit=mean", "sweep.edit=null", "sweep.methods=[{edit:[zero]},{}]"], None),
        (["intervention.edit=mean", "sweep=single"], None),
        (["range.tau=3", "sweep.tau=[1]"], None),  # the tau of headlines
        (["layers.select=0"], None),
    ],
)
def test_a_single_value_beside_a_list_is_named_as_unused(overrides: list[str], said: str | None) -> None:
    sentences = unused(overrides, compose(overrides))
    assert bool(sentences) == (said is not None)
    assert said is None or sentences[0].startswith(said)


def test_overrides_stand_before_flags_whatever_the_order() -> None:
    flags = take_apart(["a=1", "-m", "b=2,3", "--config-dir", "mine", "c=4"])
    assert flags.words == ["a=1", "b=2,3", "c=4", "--multirun", "--config-dir", "mine"]
    assert take_apart(["--info", "all"]).words == ["--info", "all"]
