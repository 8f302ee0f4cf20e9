"""A manifest comes back as it was written, restores its config, and says so where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neuronlens.config.compose import compose
from neuronlens.config.schema_data import PromptExample
from neuronlens.errors import ConfigError, OutputError
from neuronlens.results.formats import FORMAT, STEPS, brought_up_to_date
from neuronlens.results.manifest import NAME, Manifest, Prompt
from neuronlens.results.provenance import provenance
from neuronlens.storage.files import json_types, write_json


def full_manifest(*overrides: str, **changed: Any) -> Manifest:
    """Return a manifest in which every field is set."""
    fields: dict[str, Any] = {
        "run_id": "2026-01-01_00-00-00",
        "seed": 0,
        "fingerprints": {"model": "a", "data": "b", "fitting": "c"},
        "concepts": ("apple", "bridge"),
        "dropped_concepts": {"cloud": "3 samples"},
        "model_type": "gpt2",
        "layer_count": 3,
        "model_folder": "outputs/cache/finetuned/key",
        "max_length": 16,
        "prompt": Prompt("Text: {text}", (" apple", " bridge"), (PromptExample("w1 w2", "apple"),)),
        "base_correct": ({"split": "test", "concept": "apple", "n": 2, "correct": 1, "accuracy": 0.5, "low": None},),
        "correct_sets": {"test": "d"},
        "timings_s": {"sweep": 1.5, "total": 2.0},
        "peak_memory_gib": 0.5,
    }
    return Manifest(json_types(compose(list(overrides))), **(fields | provenance() | changed))


def test_every_field_comes_back(tmp_path: Path) -> None:
    written = full_manifest("range.tau=inf", "sweep.tau=[0,inf]")
    written.write(tmp_path)
    found = Manifest.read(tmp_path)
    assert found == written
    assert found.config == compose(["range.tau=inf", "sweep.tau=[0,inf]"])
    assert found.config == found.known_config
    assert found.settings == written.stored_config
    stored = json.loads((tmp_path / NAME).read_text())
    assert stored["format"] == FORMAT
    assert stored["config"]["range"]["tau"] == "inf"
    assert stored["versions"]["torch"]


def test_what_was_not_recorded_is_empty(tmp_path: Path) -> None:
    written = Manifest(json_types(compose([])))
    written.write(tmp_path)
    found = Manifest.read(tmp_path)
    assert found == written
    assert (found.concepts, found.prompt, found.layer_count, found.git_revision) == ((), None, None, None)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    full_manifest().write(tmp_path)
    content = json.loads((tmp_path / NAME).read_text())
    write_json(tmp_path / NAME, content | {"format": FORMAT + 1})
    with pytest.raises(OutputError, match=rf"newer neuronlens.*format {FORMAT + 1}.*reads 1 to {FORMAT}.*Next: update"):
        Manifest.read(tmp_path)
    for wrong in ("two", 0, True, None, 1.0):
        write_json(tmp_path / NAME, content | {"format": wrong})
        with pytest.raises(OutputError, match="expected a whole number from 1"):
            Manifest.read(tmp_path)


def test_every_older_format_has_its_step() -> None:
    assert sorted(STEPS) == list(range(1, FORMAT))
    content = {"config": {}, "prompt": {"examples": []}}
    assert brought_up_to_date(content, "here") == {"config": {}, "prompt": None, "format": FORMAT}
    assert content == {"config": {}, "prompt": {"examples": []}}, "the argument is left alone"
    with_prompt = {"config": {}, "prompt": {"text": "{text}", "labels": [" a"], "examples": []}}
    assert brought_up_to_date(with_prompt, "here")["prompt"] == with_prompt["prompt"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"config": "x"}'])
def test_what_is_no_manifest_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / NAME).write_text(text)
    with pytest.raises(OutputError, match=r"is not the (folder of a finished run|manifest of a run)"):
        Manifest.read(tmp_path)


def test_a_config_that_no_longer_holds_is_an_error_only_where_it_is_needed() -> None:
    stored = full_manifest().stored_config
    cases: tuple[tuple[dict[str, Any], tuple[str, ...], str], ...] = (
        ({"wings": 2}, ("wings",), "Unknown option 'wings'"),
        ({"sweep": {**stored["sweep"], "edit": ["melt"]}}, (), "Unknown sweep.edit 'melt'"),
        ({"range": {"_target_": "neuronlens.ranges.gone.Gone", "tau": 2.0}}, (), "a class that neither neuronlens nor"),
    )
    for changed, unknown, message in cases:
        manifest = Manifest({**stored, **changed}, run_id="old")
        assert manifest.unknown_settings == unknown
        assert manifest.known_config.evaluation.bootstrap == 1000
        assert manifest.settings == {**stored, **changed}
        with pytest.raises(
            ConfigError, match=f"of run 'old' does not hold in this version of neuronlens: .*{message}.*report"
        ):
            _ = manifest.config
