"""What help prints and the reference page holds: everything, of the YAML files and the schema as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from neuronlens.config.entries import entries
from neuronlens.config.groups import config_dir, default_options, group_names, option_names, package, phrase
from neuronlens.config.help import described, every_entry, overview
from neuronlens.config.reference import PAGE, main, page
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = [(group, name) for group in group_names() for name in option_names(group)]


def test_groups_are_the_folders_of_conf() -> None:
    assert {"preset", "evaluation/documents", "evaluation/questions"} <= set(group_names())
    for path in config_dir().rglob("*.yaml"):
        group = path.parent.relative_to(config_dir()).as_posix()
        assert group == "." or (group, path.stem) in OPTIONS


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_has_a_phrase(group: str, name: str) -> None:
    said = phrase(group, name)
    assert len(said) > 10, f"conf/{group}/{name}.yaml does not say in its first comment what it is"
    assert said.endswith("."), said


def test_the_defaults_are_those_that_compose() -> None:
    defaults = default_options()
    assert defaults["model"] == "minilm"
    assert defaults["evaluation/documents"] == "book_excerpts"
    assert "experiment" not in defaults
    assert "minilm*" in overview()
    assert package("evaluation/documents") == "evaluation.general.documents"
    assert package("experiment") == ""


@pytest.mark.parametrize(
    "key", [entry.key for entry in entries(Config()) if entry.key not in ("range", "saliency", "gate", "edit")]
)
def test_help_finds_every_key(key: str) -> None:
    told = described(key)
    assert f"  {key}\n" in told
    assert "default" in told


@pytest.mark.parametrize(
    ("word", "said", "not_said"),
    [
        ("dataset.prompt", ["dataset.prompt.shots", "dataset.prompt.seed"], ["dataset.name"]),
        ("tau", ["range.tau", "sweep.tau", "evaluation.general.tau", "With range=mixture:"], ["range.theta"]),
        ("range", ["gaussian ", "range.theta", "With range=posterior:", "one of scott, silverman"], ["saliency"]),
        ("evaluation/questions", ["mmlu_wheel", "evaluation.general.questions.shots"], ["evaluation.level"]),
        ("experiment", ["main_table"], ["model.name", "default null"]),
        ("seed", ["\n  dataset.seed"], ["dataset.name"]),
    ],
)
def test_help_finds_keys_by_their_beginning_their_end_and_their_group(
    word: str, said: list[str], not_said: list[str]
) -> None:
    told = described(word)
    for part in said:
        assert part in told
    for part in not_said:
        assert part not in told


def test_help_lists_the_options_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "edit").mkdir()
    (tmp_path / "edit" / "mine.yaml").write_text(
        "# Halves what a neuron says.\n_target_: mine.Halve\nshare: 0.5  # What is left. Expected: a share in [0, 1]\n"
    )
    text = described("edit", [tmp_path])
    assert "mine                 Halves what a neuron says." in text
    assert "edit.mine.share" in text
    assert "mine" not in described("edit")


@pytest.mark.parametrize(
    ("word", "near"), [("modle", "model"), ("sweep.taus", "sweep.tau"), ("range.tua", "range.tau")]
)
def test_help_on_a_misspelt_key_names_the_nearest(word: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean '{near}'"):
        described(word)


def test_the_reference_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(), "run `make reference`"


def test_the_reference_page_holds_every_key_and_option_once() -> None:
    text = page()
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]*) \| `((?:[^`])*)` \| (.*) \| (.+) \|$", text, flags=re.MULTILINE)
    assert [row[0] for row in rows if not row[0].startswith(("range.", "saliency."))].count("sweep.tau") == 1
    assert sorted(row[0] for row in rows) == sorted(entry.key for _, entry in every_entry())
    for group, name in OPTIONS:
        assert re.search(rf"^\| `{re.escape(name)}`(?: \(default\))? \| .+ \|$", text, flags=re.MULTILINE), (
            group,
            name,
        )
    assert "<folder>" not in text  # it would be read as a tag


def test_the_page_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    main([str(tmp_path / "new" / "page.md")])
    assert (tmp_path / "new" / "page.md").read_text() == page()
