"""What parts are built from, and that all of it is checked without the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neuronlens.config.compose import compose
from neuronlens.config.groups import option_names
from neuronlens.config.nodes import PROTOCOLS, node, part
from neuronlens.config.parts import build
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError

HEAVY = ("torch", "transformers", "pytorch_lightning", "sklearn", "scipy", "pandas", "joblib")
EVERY_OPTION = """
import itertools, sys
from neuronlens.config.compose import compose
from neuronlens.config.plan import grid
from neuronlens.config.groups import group_names, option_names
from neuronlens.errors import ConfigError

def light(what):
    heavy = set(HEAVY) & set(sys.modules)
    assert not heavy, f"{what} imports {heavy}"

by_name = {"gate", "edit", "head"}
composed = [group for group in group_names() if group not in by_name | {"experiment"}]
local = {"model": ["model.path=."], "dataset": ["dataset.path=."]}
rounds = itertools.zip_longest(*(option_names(group) for group in composed))
for chosen in rounds:
    picked = [(group, name) for group, name in zip(composed, chosen) if name is not None]
    paths = [path for group, name in picked if name == "local" for path in local.get(group, [])]
    grid(compose([*(f"{group}={name}" for group, name in picked), *paths]))
    light(picked)
for name in option_names("experiment"):
    grid(compose([f"experiment={name}"]))
    light(name)
for name in option_names("head"):
    grid(compose([f"model.head={name}"]))
    light(name)
parts = {group: option_names(group) for group in ("saliency", "range", "gate", "edit")}
means = ["model.record_position=mean", "intervention.edit_positions=all"]  # for gates that decide for whole samples
cells = grid(compose([*(f"sweep.{group}=[{','.join(names)}]" for group, names in parts.items()), *means]))
for group, names in parts.items():
    assert {getattr(cell, group) for cell in cells} - {None} == set(names)
light("all parts in one sweep")
wrong = [f"{group}={name} +{group}.nonsense=1" for group in ("saliency", "range") for name in parts[group]]
wrong += [f"++{group}.{name}.nonsense=1" for group in ("gate", "edit") for name in parts[group]]
wrong += ["sweep.edit=[zeroo]", "sweep.gate=[rang]", "sweep.range=[gausian]", "sweep.saliency=[mx]", "++edit.dampen.beta=1"]
wrong += [f"range=mixture range.{key}" for key in ("backend=x", "init=x", "device=x", "tol=-1", "tau=-1", "w_min=1")]
wrong += [f"range=posterior range.{key}" for key in ("theta=1", "density=x", "bandwidth=x", "max_components=0")]
wrong += ["range=quantile range.q=1", "saliency=probe saliency.l1=-1", "++edit.leace.covariance=x"]
for overrides in wrong:
    try:
        compose(overrides.split())
    except ConfigError as error:
        light(overrides)
    else:
        raise AssertionError(f"{overrides} is let through")
assert "numpy" in sys.modules
import neuronlens.edits.build
assert {"torch", "neuronlens.edits.gated"} <= set(sys.modules), "the positive control"
"""


def test_every_option_and_every_mistake_is_checked_without_a_heavy_import() -> None:
    code = f"HEAVY = {HEAVY!r}\n{EVERY_OPTION}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("group", PROTOCOLS)
def test_every_option_meets_its_protocol_and_says_all_its_parameters(group: str) -> None:
    names = option_names(group)
    gates = option_names("gate") if group == "gate" else ["neuron", "range", "joint", "outside"]
    means = ["model.record_position=mean", "intervention.edit_positions=all"]
    config = compose([f"sweep.{group}=[{','.join(names)}]", f"sweep.gate=[{','.join(gates)}]", *means])
    assert set(config.parts[group]) >= set(names)
    for name in names:
        part(config, group, name)
        found = node(config, group, name)
        assert config.parts[group][name] == found
        assert build(found, group) is not None
        assert "${" not in str(found)
    if group == "edit":
        assert {name for name in names if "beta" in config.parts[group][name]} == {"dampen", "dampen_distance"}


def test_a_part_is_found_for_a_config_that_was_never_composed() -> None:
    config = Config()
    assert node(config, "edit", "dampen") == {"_target_": "neuronlens.edits.dampening.Dampen", "beta": 0.125}
    config.intervention.beta = 0.5
    assert part(config, "edit", "dampen").beta == 0.5
    config.edit["dampen"] = {"beta": 0.25}
    assert part(config, "edit", "dampen").beta == 0.25


def test_what_parameters_of_an_edit_say_wins_over_its_yaml_and_is_checked() -> None:
    both = compose(["intervention.beta=0.5", "++edit.dampen.beta=0.25", "sweep.edit=[dampen,dampen_distance]"])
    assert [both.parts["edit"][name]["beta"] for name in ("dampen", "dampen_distance")] == [0.25, 0.5]
    with pytest.raises(ConfigError, match=r"edit\.dampen\.beta is 1, expected a factor in \[0, 1\)"):
        compose(["++edit.dampen.beta=1"])
