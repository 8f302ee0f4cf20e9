"""Admission of loaded models: kept under the fingerprint, in the manifest, and refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers.processors import TemplateProcessing

from benchmarks.tiny import VOCABULARY
from benchmarks.tiny import tiny_model as tiny_of_type
from neuronlens.config.compose import compose
from neuronlens.config.schema import ModelConfig
from neuronlens.errors import ModelError
from neuronlens.hooks import admission as hooks_admission
from neuronlens.hooks.admission import Paths
from neuronlens.models import admission
from neuronlens.models.admission import LENGTHS, admitted, sample_batch
from neuronlens.models.load import load
from neuronlens.models.source import locate
from neuronlens.pipeline import run
from neuronlens.records import Site
from neuronlens.storage.cache import Store
from tests.activations.test_extract import CPU, loaded
from tests.conftest import CONCEPTS, texts_of, tiny_model, tiny_tokenizer
from tests.sweep.test_evaluator_causal import language_model

TEXTS = texts_of(0, 3, seed=1)


def test_an_admission_is_made_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    own = admission.admit
    monkeypatch.setattr(admission, "admit", lambda *a, **k: (made.append(1), own(*a, **k))[1])
    options: dict[str, Any] = {"edit_positions": "record", "store": Store(tmp_path), "trainer": CPU}
    model = loaded("bert")
    first = admitted(model, TEXTS, [Site(1)], **options)[1]
    again, found = admitted(model, TEXTS, [Site(1)], **options)
    assert found == first
    assert again.paths == Paths()
    assert len(made) == 1
    admitted(replace(model, fingerprint="another"), TEXTS, [Site(1)], **options)
    admitted(model, TEXTS, [Site(2)], **options)
    admitted(model, TEXTS, [Site(1)], **{**options, "edit_positions": "all"})
    assert len(made) == 4


def test_the_samples_are_the_runs_own_cut_to_a_few_tokens() -> None:
    model = replace(loaded("bert"), max_length=64)
    long = [" ".join(TEXTS * 3), TEXTS[0], " ".join(TEXTS)]
    batch = sample_batch(model, long)
    lengths = batch["attention_mask"].sum(1).tolist()
    assert lengths[0] == LENGTHS[0]
    assert lengths == [min(most, len(ids)) for most, ids in zip(LENGTHS, model.encode(long), strict=True)]
    ids = model.encode(long)[0]
    assert batch["input_ids"][0, :8].tolist() == ids[:8]
    assert batch["input_ids"][0, 8 : LENGTHS[0]].tolist() == ids[-16:]


def test_labels_of_several_tokens_are_refused_where_they_cannot_share_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks_admission, "_packs", lambda model, inputs: (False, "0.4 nats apart at most"))
    options: dict[str, Any] = {"edit_positions": "record", "store": Store(tmp_path), "trainer": CPU}
    with pytest.raises(ModelError, match=r"labels that share a prompt.*0\.4 nats apart.*Next: model\.head=label_token"):
        admitted(language_model("llama"), TEXTS, [Site(1)], **options)
    assert admitted(language_model("llama", "label_token"), TEXTS, [Site(1)], **options)[0].paths.packs


def test_a_head_that_reads_the_mean_needs_other_edit_positions(tmp_path: Path) -> None:
    model = replace(loaded("bert"), record_position="mean")
    options: dict[str, Any] = {"store": Store(tmp_path), "trainer": CPU}
    with pytest.raises(ModelError, match=r"not one position.*intervention\.edit_positions=all"):
        admitted(model, TEXTS, [Site(1)], edit_positions="record", **options)
    assert admitted(model, TEXTS, [Site(1)], edit_positions="all", **options)[0].paths == Paths()


def test_without_an_exact_cache_the_model_writes_without_one(tmp_path: Path) -> None:
    model = language_model("llama", "generation")
    assert admission.with_paths(model, Paths()).model.generation_config.use_cache
    assert not admission.with_paths(model, Paths(caches=False)).model.generation_config.use_cache


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "has a multi-label head, which says yes or no to each label"),
        ({"problem_type": "regression"}, "has a regression head, which gives a number"),
        ({"num_labels": 1}, "has a regression head, which gives a number"),
    ],
)
def test_trap_37_multi_label_and_regression_heads_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = tiny_model("bert", labels=changes.get("num_labels", 4))
    model.config.problem_type = changes.get("problem_type")
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    config = ModelConfig(name="tiny", path=str(tmp_path / "model"), max_length=16)
    source = locate(config, Store(tmp_path))
    with pytest.raises(ModelError, match=f"{message}.*Next: model.finetune.blocks=2"):
        load(config, source)
    fresh = load(config, source, ("one", "other"), stage="untrained")
    assert fresh.model.config.problem_type is None


def _folder(model_type: str, place: Path) -> Path:
    """Save a tiny model of a type under the concepts' names, with a tokenizer that ends texts where the head wants it."""
    model = tiny_of_type(model_type, "seq_cls")
    tokenizer = tiny_tokenizer()
    if model.config.is_encoder_decoder:
        model.config.eos_token_id = 3
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A [SEP]", special_tokens=[("[SEP]", 3)])
    assert len(tokenizer) <= VOCABULARY
    model.config.id2label = dict(enumerate(CONCEPTS))
    model.config.label2id = {name: number for number, name in enumerate(CONCEPTS)}
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.mark.parametrize(
    ("model_type", "slower", "extra"),
    [
        ("t5", "every cell runs the whole model", ["layers.select=0"]),
        ("eurobert", "whole texts are kept at the last layer", ["intervention.edit_positions=all"]),
        ("fnet", "every text is a batch of its own", []),
        ("falcon", None, ["layers.site=mlp_neurons"]),
        ("modernbert", None, ["layers.site=attn_out"]),
    ],
)
def test_a_type_that_no_list_named_runs_from_end_to_end(
    model_type: str, slower: str | None, extra: list[str], tiny_overrides: list[str], tmp_path: Path
) -> None:
    folder = _folder(model_type, tmp_path / "model")
    kept = [entry for entry in tiny_overrides if not entry.startswith(("model.", "paths."))]
    own = [f"model.path={folder}", "model.max_length=16", f"paths.cache_dir={tmp_path}/cache", "layers.select=last"]
    run(compose([*kept, *own, *extra, f"paths.output_dir={tmp_path}"]), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    found = manifest["admission"]
    assert found["model_type"] == manifest["model_type"] == model_type
    taken = [check["instead"] for check in found["checks"] if not check["passed"] and check["instead"]]
    assert (slower in taken) if slower else not taken
    results = pd.read_csv(tmp_path / "run" / "results.csv")
    assert len(results)
    assert np.isfinite(results["concept_confidence_drop"]).all()


def test_a_model_that_no_stored_state_serves_is_not_fine_tuned(tiny_overrides: list[str], tmp_path: Path) -> None:
    folder = _folder("t5", tmp_path / "model")
    kept = [entry for entry in tiny_overrides if not entry.startswith(("model.path", "paths."))]
    own = [f"model.path={folder}", f"paths.cache_dir={tmp_path}/cache", f"paths.output_dir={tmp_path}"]
    with pytest.raises(ModelError, match="cannot be trained from stored states"):
        run(compose([*kept, *own, "model.finetune.blocks=1"]), tmp_path / "run")
