"""Heads' options: what they declare is read without torch, and enters the fingerprint by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neuronlens.config.compose import compose, restore
from neuronlens.config.fingerprint import plain
from neuronlens.config.heads import head_option
from neuronlens.config.parts import option_names
from neuronlens.config.schema import ModelConfig
from neuronlens.errors import ConfigError


@pytest.mark.parametrize("name", option_names("head"))
def test_every_option_says_whether_it_is_prompted_and_what_it_takes(name: str) -> None:
    option = head_option(compose([f"model.head={name}", "model.finetune.blocks=null"]).model)
    assert option.prompted == (name != "seq_cls")
    assert ("confidence" in option.parameters) == (name != "seq_cls")


def test_what_a_head_declares_is_read_without_torch() -> None:
    code = """
import sys
from neuronlens.config.compose import compose
config = compose(["model=smollm2", "model.head=generation", "preset=reference"])
assert (config.model.confidence, config.evaluation.fit_on) == ("first_token", "correct")
assert not {"torch", "transformers"} & set(sys.modules), "heavy import"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_first_token_confidence_needs_a_head_that_takes_it() -> None:
    with pytest.raises(ConfigError, match=r"needs a head that reads words, and model\.head is 'seq_cls'"):
        compose(["model.confidence=first_token"])


def test_a_restored_config_knows_a_head_of_ones_own() -> None:
    config = compose(["++model.head_options.tempered={_target_: m.Head, prompted: false}", "model.head=tempered"])
    option = head_option(restore(plain(config)).model)
    assert (option.target, option.prompted, dict(option.parameters)) == ("m.Head", False, {})


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"_target_": "m.Head"}, r"head/mine.yaml has _target_: m.Head and prompted: None, expected the import path"),
        ({"prompted": True}, r"_target_: None and prompted: True"),
    ],
)
def test_an_option_that_says_too_little_is_refused(option: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        head_option(ModelConfig(head="mine", head_options={"mine": option}))


def test_an_unknown_head_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Unknown model\.head 'label_tokens'. Did you mean 'label_token'"):
        compose(["model.head=label_tokens"])
    with pytest.raises(ConfigError, match=r"Unknown model\.head 'label_tokens'. Did you mean 'label_token'"):
        compose(["model.head=label_tokens", "preset=reference"])


def test_an_option_of_the_package_takes_its_values_from_the_models_own_keys() -> None:
    typed = ["model.head=generation", "model.finetune.blocks=null", "model.max_new_tokens=3", "model.parse=contains"]
    config = compose(typed).model
    assert config.head_options == {}
    option = head_option(config)
    assert option.prompted
    assert option.parameters == {"confidence": "labels", "parse": "contains", "max_new_tokens": 3}
    assert option.identity == {
        "head": "generation",
        "head.confidence": "labels",
        "head.parse": "contains",
        "head.max_new_tokens": 3,
    }
    assert head_option(compose([]).model).identity == {"head": "seq_cls"}


def test_a_head_typed_as_a_group_gets_the_key_that_names_it() -> None:
    with pytest.raises(ConfigError, match=r"chosen by name. Next: model\.head=<name>"):
        compose(["head=label_token"])
