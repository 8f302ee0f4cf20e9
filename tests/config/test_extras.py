"""Optional libraries: which extra brings them, and what is refused, left out or taken instead where one is missing."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import re
from pathlib import Path

import pytest

from neuronlens.cli import run_command
from neuronlens.config import extras
from neuronlens.config.compose import compose, restore
from neuronlens.config.extras import EXTRAS, missing, refuse_missing, to_install
from neuronlens.config.fingerprint import plain
from neuronlens.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every optional library from the question whether it is there."""
    found, hidden = importlib.util.find_spec, {name for names in EXTRAS.values() for name in names}
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name in hidden else found(name))


def test_every_extra_is_what_setup_installs() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = {name: text.split() for name, text in setup["options.extras_require"].items()}
    assert installed["all"] == [f"neuronlens[{','.join(EXTRAS)}]"]
    assert "neuronlens[all]" in installed["dev"]
    provided = importlib.metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        wanted = {re.split(r"[<>=]", requirement)[0].lower() for requirement in installed[extra]}
        assert {provided[module][0].lower() for module in modules} == wanted


def test_with_everything_installed_nothing_is_missing() -> None:
    for extra in EXTRAS:
        assert missing(extra) == []
        assert to_install("this", extra) is None
    refuse_missing(compose(["logger.kind=wandb+tensorboard", "model=smollm2"]))


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["logger=wandb"],
            ["logger.kind=wandb needs wandb, which is not installed", "'neuronlens[wandb]', or logger=csv"],
        ),
        (["logger=tensorboard"], ["pip install 'neuronlens[tensorboard]'"]),
        (["logger.kind=csv+tensorboard+wandb"], ["neuronlens[tensorboard]", "neuronlens[wandb]"]),
        (["model=smollm2"], ["needs gguf and accelerate, which are not installed", "pip install 'neuronlens[gguf]'"]),
    ],
)
def test_what_is_asked_for_and_not_there_is_refused_with_its_extra(
    overrides: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(overrides)
    with pytest.raises(ConfigError) as caught:
        refuse_missing(config)
    for part in said:
        assert part in str(caught.value)
    assert run_command(["run", *overrides]) == 2
    assert said[0] in capsys.readouterr().err


@pytest.mark.usefixtures("bare")
def test_the_default_and_a_stored_config_ask_for_nothing() -> None:
    refuse_missing(compose([]))
    refuse_missing(compose(["logger=csv"]))
    assert restore(plain(compose(["logger=wandb"]))).logger.kind == "wandb"
