"""Composition, typed schema, and the sentences bad input is told in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from neuronlens.config.compose import compose, register
from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.groups import config_dir, option_names
from neuronlens.config.knobs import swept
from neuronlens.config.parts import build
from neuronlens.config.plan import grid
from neuronlens.errors import ConfigError

GROUPS = ("model", "dataset", "layers", "saliency", "range", "intervention", "evaluation", "sweep", "trainer", "logger")
OPTIONS = [(group, name) for group in GROUPS for name in option_names(group)]


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_yaml_composes_and_builds(group: str, name: str) -> None:
    path = [f"{group}.path=."] if name == "local" else []
    config = compose([f"{group}={name}", *path])
    assert getattr(config, group)


CELLS = {
    "methods": 50,
    "methods_below": 50,
    "language": 16,
    "language_finetuned": 16,
    "main_table": 7 * 2 * 2,
    "polysemanticity": 1,
    "normality": 1,
    "rankers": 4 * 5 * 2 * 2,
    "general_ability": 4,
    "ablations": 2 * 8 + 9 * 2 * 2 + 4 * 2 * 5 - 2,
    "ablation_layers": 4,
    "conditional": 40,
}
"""Cells of a concept that an experiment sweeps at least; the tau of the fractions' ablation is one of the taus'."""


@pytest.mark.parametrize("name", option_names("experiment"))
def test_every_experiment_composes_and_its_grid_holds(name: str) -> None:
    config = compose([f"experiment={name}"])
    assert len(grid(config)) >= CELLS[name]
    assert config.run_name.startswith(f"{name}-")
    assert config.run_name.endswith("-newsgroups20")
    assert 0.8 in config.evaluation.erasure_levels


@pytest.mark.parametrize("name", option_names("evaluation/questions"))
def test_every_source_of_questions_composes(name: str) -> None:
    path = ["evaluation.general.questions.path=."] if name == "local" else []
    asked = compose([f"evaluation/questions={name}", *path]).evaluation.general.questions
    source = next(source for source in ("path", "wheel", "hub") if getattr(asked, source))  # the first one set counts
    assert source == {"local": "path", "mmlu": "hub", "mmlu_wheel": "wheel"}[name]
    assert (asked.file is not None) == (name == "mmlu_wheel")


def test_every_group_has_options() -> None:
    assert {group for group, _ in OPTIONS} == set(GROUPS)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=minilmm", "Did you mean 'minilm'"),
        ("range=gausian", "Did you mean 'gaussian'"),
        ("dataset.pth=1", "Did you mean 'dataset.path'"),
        ("+dataset.pth=1", "Did you mean 'dataset.path'"),
        ("sweep.taus=[1]", "Did you mean 'sweep.tau'"),
        ("+range.taau=1", "Did you mean 'range.tau'"),
        ("nonsense=1", "Unknown option 'nonsense'"),
        ("sweep.tau=[-1]", "tau is -1"),
        ("range.tau=-0.5", "tau"),
        ("sweep.tau=[wide]", "expected a list of numbers, or null"),
        ("sweep.top_fraction=[1.5]", "in [0, 1]"),
        ("intervention.top_fraction=-0.1", None),
        ("sweep.top_fraction=[]", "empty list"),
        ("sweep.edit=[zeroo]", "Did you mean 'zero'"),
        ("sweep.gate=[rnage]", "Did you mean 'range'"),
        ("dataset.prompt.labels.apple=x", "Next: ++dataset.prompt.labels.apple="),
        ("intervention.edit_positions=everything", "Available: all, generated, prompt, record"),
        ("layers.site=resid_pre", "Did you mean 'resid_post'"),
        ("model.record_position=mean", "needs one position"),
        ("model.record_position=live_mean", "needs one position"),
        ("model.record_position=livemean", "Did you mean 'live_mean'"),
        ("evaluation.samples_below_last=0", "at least 1, or null"),
        ("model.dtype=int8", "Unknown model.dtype"),
        ("evaluation.level=1", "share in (0, 1)"),
        ("dataset.samples_per_concept.test=1", "at least 2"),
        ("dataset.samples_per_concept.train=0", "Fine-tuning needs examples"),
        ("seed=first", "seed is 'first', expected a whole number"),
        ("a b", "expected key=value"),
        ("evaluation/documents=wikipdia", "Did you mean 'wikipedia'"),
        ("evaluation.general.documents.limit=0", "at least 1"),
        ("evaluation.general.documents.max_length=1", "at least 2 tokens"),
        ("evaluation.general.questions.shots=-1", "at least 0"),
        ("evaluation.general.questions.edit_positions=generated", "Available: all, record"),
        ("evaluation.general.concepts=[]", "empty list"),
        ("evaluation.general={perplexity:true,tau:[7]}", "values that the sweep has"),
        ("evaluation.general={perplexity:true,documents:{wheel:null}}", "names no source"),
        ("evaluation.general={mmlu:true,questions:{hub:null}}", "names no source"),
    ],
)
def test_bad_overrides_are_told_in_one_sentence(override: str, said: str | None) -> None:
    overrides = [override] if said else [override, "sweep=single"]
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert (said or "in [0, 1]") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_error_costs_no_heavy_import() -> None:
    code = (
        "import sys; from neuronlens.cli import run_command; code = run_command(['sweep.tau=[-1]']);"
        "assert not {'torch', 'transformers', 'pytorch_lightning'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_trap_29_zero_is_a_value_not_a_missing_one() -> None:
    config = compose(["seed=0", "sweep.tau=[0]", "sweep.strength=[0]", "sweep.top_fraction=[0]"])
    assert config.seed == 0
    assert swept(config, "tau") == [0.0]
    assert swept(config, "strength") == [0.0]
    assert swept(config, "top_fraction") == [0.0]
    assert build(config.range, "range", tau=0.0).tau == 0.0
    assert fingerprint({"seed": 0}) != fingerprint({"seed": None})


def test_trap_8_every_key_of_a_built_node_is_used_or_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean"):
        build({"_target_": "neuronlens.ranges.gaussian.GaussianRange", "tua": 1.0}, "range")
    narrow = build({"_target_": "neuronlens.ranges.gaussian.GaussianRange", "tau": 1.0}, "range")
    wide = build({"_target_": "neuronlens.ranges.gaussian.GaussianRange", "tau": 3.0}, "range")
    assert narrow.tau != wide.tau


@pytest.mark.parametrize("name", option_names("evaluation/documents"))
def test_general_ability_is_off_and_its_documents_are_chosen_by_name(name: str) -> None:
    general = compose([f"evaluation/documents={name}"]).evaluation.general
    assert not general.perplexity
    assert not general.mmlu
    assert general.documents.name == name
    assert (general.documents.wheel is not None) == (name == "book_excerpts")
    assert (general.documents.hub is not None) == (name == "wikipedia")


def test_single_values_serve_where_nothing_is_swept() -> None:
    config = compose(["sweep=single", "intervention.edit=mean", "range.tau=1.5"])
    assert [swept(config, knob) for knob in ("edit", "tau", "layers")] == [["mean"], [1.5], ["last"]]


def test_tau_may_be_infinite() -> None:
    assert swept(compose(["sweep.tau=[inf,2]"]), "tau") == [float("inf"), 2.0]


def test_the_config_folder_is_found_and_shipped() -> None:
    assert (config_dir() / "config.yaml").is_file()
    assert Path(config_dir()).name == "conf"


def test_a_dataset_path_names_the_dataset() -> None:
    assert compose(["dataset.path=somewhere/emotions"]).run_name == "minilm-emotions"
    assert compose([]).run_name == "minilm-newsgroups20"


@pytest.mark.parametrize("lost", ["source_name", "reference_confidence", "reference_fit_on"])
def test_every_resolver_is_registered_whichever_is_there_already(lost: str) -> None:
    """A program that cleared, or brought, one of them gets the others."""
    register()
    OmegaConf.clear_resolver(lost)
    config = compose(["preset=reference", "model=smollm2", "dataset=local", "dataset.path=/data/made_up"])
    assert OmegaConf.has_resolver(lost)
    assert (config.model.confidence, config.evaluation.fit_on) == ("first_token", "correct")
    assert config.run_name.endswith("made_up")
