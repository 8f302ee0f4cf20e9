"""What a part's YAML gives, held against its constructor: ours and somebody else's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import pytest
import yaml
from omegaconf import OmegaConf

from neuronlens.config.arguments import factory_of, parameters, wrong_arguments
from neuronlens.config.compose import compose
from neuronlens.config.groups import config_dir, option_names, part_entries
from neuronlens.config.nodes import PROTOCOLS
from neuronlens.config.parts import build
from neuronlens.config.rules import at_least
from neuronlens.config.schema import Config
from neuronlens.config.values import expected
from neuronlens.errors import ConfigError

if TYPE_CHECKING:
    from decimal import Decimal

OPTIONS = [(group, name) for group in PROTOCOLS for name in option_names(group)]


class Part:
    """Somebody else's part."""

    def __init__(self, *, width: Annotated[float, at_least(0)] = 1.0, names: list[str] | None = None) -> None:
        """Keep the arguments."""
        self.width, self.names = width, names


class Unresolved:
    """A part whose annotations cannot be resolved at run time."""

    def __init__(self, *, price: Decimal | None = None) -> None:
        """Keep the argument."""
        self.price = price


NODE = {"_target_": f"{__name__}.Part"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"width": "hello"}, "mine.width is 'hello', expected a number, at least 0."),
        ({"width": [1, 2]}, "mine.width is [1, 2], expected a number, at least 0."),
        ({"width": None}, "mine.width is null, expected a number, at least 0."),
        ({"width": -1}, "mine.width is -1, expected at least 0."),
        ({"names": "a"}, "mine.names is 'a', expected a list of texts, or null."),
        ({"widht": 1}, "Unknown option 'mine.widht'. Did you mean 'mine.width'?"),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: dict[str, object], said: str) -> None:
    ((key, sentence),) = wrong_arguments(arguments, Part, "mine")
    assert key == f"mine.{next(iter(arguments))}"
    assert sentence.startswith(said)
    with pytest.raises(ConfigError, match=re.escape(said)):
        build({**NODE, **arguments}, "mine")


def test_right_arguments_build_the_part_and_all_wrong_ones_are_told() -> None:
    assert build({**NODE, "width": 2, "names": ["a"]}, "mine").names == ["a"]
    assert build(NODE, "mine", width=3.0).width == 3.0
    with pytest.raises(ConfigError) as caught:
        build({**NODE, "width": -1, "names": 3, "more": 1}, "mine")
    assert len(str(caught.value).splitlines()) == 3


def test_annotations_that_cannot_be_resolved_let_everything_through() -> None:
    assert list(wrong_arguments({"price": "any"}, Unresolved, "mine")) == []


@pytest.mark.parametrize(
    "target", [None, "", "nowhere.at.all.Part", "neuronlens.ranges.gaussian.Gausian", "plain", "os.path."]
)
def test_a_target_that_is_nothing_is_told(target: str | None) -> None:
    with pytest.raises(ConfigError, match="mine"):
        factory_of({"_target_": target}, "mine")


@pytest.mark.parametrize(
    "override",
    [
        "range.tau=hello",
        "range.tau=[1,2]",
        "range.tau=null",
        "range.tau=nan",
        "range.tau=-1",
        "range=mixture range.seed=hello",
        "range=mixture range.n_jobs=hello",
        "range=mixture range.n_jobs=0",
        "range=mixture range.restarts=nan",
        "range=mixture range.finalists=0",
        "range=mixture range.tol=inf",
        "range=posterior range.theta=true",
        "range=posterior range.density=gausian",
        "range=posterior range.max_components=0",
        "range=quantile range.q=0.5",
        "saliency=random saliency.seed=nan",
        "saliency=random saliency.seed=100000000000000000000",
        "saliency=probe saliency.l1=inf",
        "saliency=probe saliency.scaled_by_std=1",
    ],
)
def test_arguments_of_our_parts_are_refused_as_config(override: str) -> None:
    *group, wrong = override.split()
    for beside in ([], ["sweep.range=[gaussian,quantile]", "sweep.saliency=[max,dprime]"]):
        with pytest.raises(ConfigError) as caught:
            compose([*group, *beside, wrong])
        assert wrong.partition("=")[0] in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_options_yaml_says_what_its_constructor_takes(group: str, name: str) -> None:
    node = yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text())
    taken = parameters(factory_of(node, group))
    written = {entry.key.rpartition(".")[2]: entry for entry in part_entries(group, name)}
    assert set(written) == set(taken)
    for key, entry in written.items():
        assert entry.about, f"{group}/{name}.yaml: {key} has no comment"
        default = OmegaConf.select(OmegaConf.structured(Config), re.sub(r"^\$\{(.*)\}$", r"\1", str(entry.value)))
        assert (entry.value if default is None else default) == taken[key].default
        wanted = expected(taken[key].annotation)
        assert entry.rule == ", ".join(rule.words for rule in wanted.rules), f"{group}/{name}.yaml: {key}"
        assert default is not None or wanted.words.startswith(entry.wanted.words)
