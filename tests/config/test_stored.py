"""Stored configs are read as far as they are known, and nothing of the rest is lost."""

from __future__ import annotations

from typing import Any

from neuronlens.config.compose import compose
from neuronlens.config.stored import completed, dotted, known_part
from neuronlens.storage.files import json_types


def test_a_config_of_this_version_is_known_whole() -> None:
    for overrides in (["range.tau=inf", "sweep.tau=[0,inf]"], ["experiment=methods"], ["dataset=sst2", "model=gpt2"]):
        config = compose(overrides)
        stored = json_types(config)
        found, unknown = known_part(stored)
        assert unknown == {}
        assert found.headline_tau == config.headline_tau
        assert json_types(found) == stored


def test_what_is_not_known_has_its_default_and_is_kept_beside() -> None:
    stored: dict[str, Any] = json_types(compose(["range=mixture", "range.tau=2.0", "seed=3"]))
    stored["model"]["wings"] = {"left": 1, "right": 2}
    stored["evaluation"]["level"] = "high"
    stored["garden"] = "rose"
    config, unknown = known_part(stored)
    assert unknown == {"garden": "rose", "model": {"wings": {"left": 1, "right": 2}}, "evaluation": {"level": "high"}}
    assert sorted(dotted(unknown)) == ["evaluation.level", "garden", "model.wings.left", "model.wings.right"]
    assert (config.seed, config.headline_tau, config.evaluation.level) == (3, 2.0, 0.95)
    assert completed(json_types(config), unknown) == stored


def test_a_part_that_is_gone_does_not_hide_the_rest() -> None:
    stored = json_types(compose([]))
    stored["range"] = {"_target_": "neuronlens.ranges.gone.GoneRange", "tau": "inf"}
    config, unknown = known_part(stored)
    assert unknown == {}
    assert config.headline_tau == float("inf")
    assert config.range["_target_"] == "neuronlens.ranges.gone.GoneRange"


def test_settings_that_were_not_stored_have_their_defaults() -> None:
    config, unknown = known_part({"model": {"name": "a"}, "range": {}})
    assert unknown == {}
    assert (config.model.name, config.model.batch_size, config.headline_tau) == ("a", 32, None)
