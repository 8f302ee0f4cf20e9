"""Whole runs of a tiny language model: prompted, fine-tuned and writing; its numbers read back through the lens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from neuronlens.config.compose import compose
from neuronlens.errors import ModelError, NeuronLensError
from neuronlens.lens.lens import Lens
from neuronlens.pipeline import run
from neuronlens.results.folder import RunFolder
from tests.conftest import CONCEPTS, FAMILY_CONFIGS, texts_of, tiny_causal, tiny_tokenizer

LABELS = "++dataset.prompt.labels={apple:w3,bridge:'w20 w21',cloud:w40,drum:w55}"


@pytest.fixture(scope="module")
def overrides(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for a prompted run of a tiny Llama, with perplexity on made-up prose."""
    folder = tmp_path_factory.mktemp("causal")
    tiny_causal("llama").save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    (folder / "prose.txt").write_text("\n\n".join(text for c in range(4) for text in texts_of(c, 3, seed=77)))
    return [
        *(
            entry
            for entry in tiny_overrides
            if not entry.startswith(("model.path", "model.finetune", "model.max_length"))
        ),
        f"model.path={folder}/model",
        "model.head=label_logprob",
        "model.max_length=48",
        "dataset.prompt.template='w1 {text} w0'",
        "dataset.prompt.shots=2",
        "dataset.prompt.max_shot_tokens=8",
        LABELS,
        "dataset.samples_per_concept={train:4,fit:12,select:4,test:10}",
        "sweep.top_fraction=[0.5]",
        "evaluation.general.perplexity=true",
        "evaluation.general.documents={path:" + str(folder / "prose.txt") + ",limit:null,max_length:16}",
        "evaluation.general.tau=[2.5]",
    ]


def test_a_prompted_run_and_its_lens_say_the_same(overrides: list[str], tmp_path: Path) -> None:
    config = compose([*overrides, "layers.select=1"])
    table = run(config, tmp_path / "run")
    manifest = RunFolder(tmp_path / "run").read_manifest()
    assert manifest.prompt is not None
    assert manifest.prompt.text.count("w1") >= 3, "two examples and the question"
    assert len(manifest.prompt.examples) == 2
    counted = [row for row in manifest.base_correct if row["split"] == "test"]
    assert [row["n"] for row in counted] == [10] * 4
    rows = table.rows[(table.rows["gate"] == "range") & (table.rows["tau"] == 2.5) & (table.rows["edit"] == "zero")]
    lens = Lens.load(tmp_path / "run")
    loaded = lens.load_model()
    samples = _samples(tmp_path / "run")
    for concept in CONCEPTS[:2]:
        mine = [text for text, label in samples if label == concept]
        ids = loaded.encode(mine)
        with lens.erase(loaded.model, concept, tau=2.5, gate="range", edit="zero", top_fraction=0.5):
            gold = [_gold(loaded.model, one, loaded.prompt.labels(), CONCEPTS.index(concept)) for one in ids]
        row = rows[rows["concept"] == concept].iloc[0]
        assert row["concept_confidence"] == pytest.approx(np.mean(gold), abs=1e-5)


def _samples(folder: Path) -> list[tuple[str, str]]:
    import pandas as pd

    table = pd.read_parquet(folder / "samples.parquet")
    return [(row.text, row.label) for row in table[table["split"] == "test"].itertuples()]


def _gold(model: torch.nn.Module, prompt: list[int], labels: tuple[tuple[int, ...], ...], wanted: int) -> float:
    """Return the gold label's share, one forward per label; the record position is the prompt's end, so it is told."""
    scores = []
    for label in labels:
        ids = torch.tensor([[*prompt, *label]])
        with torch.no_grad():
            generated = model(
                input_ids=ids[:, : len(prompt)], use_cache=True
            )  # the prompt: its end is the record position
            steps = [generated.logits[0, -1].log_softmax(-1)[label[0]]]
            if len(label) > 1:
                steps += _rest(model, generated.past_key_values, ids, len(prompt), label)
        scores.append(torch.stack(steps).mean())
    return float(torch.stack(scores).softmax(-1)[wanted])


def _rest(
    model: torch.nn.Module, cache: object, ids: torch.Tensor, end: int, label: tuple[int, ...]
) -> list[torch.Tensor]:
    """Continue from the prompt's cache without any edit: a label's own tokens lie behind the record position."""
    hooks = {name: module._forward_hooks.copy() for name, module in model.named_modules()}
    for module in model.modules():
        module._forward_hooks.clear()
    logits = model(input_ids=ids[:, end:-1], past_key_values=cache, use_cache=True).logits[0].log_softmax(-1)
    for name, module in model.named_modules():
        module._forward_hooks.update(hooks[name])
    return [logits[place, token] for place, token in enumerate(label[1:])]


def test_perplexity_stands_beside_the_results(overrides: list[str], tmp_path: Path) -> None:
    table = run(compose([*overrides, "layers.select=2"]), tmp_path / "run")
    assert table.general is not None
    base = table.general[table.general["edit"] == "none"]
    cells = table.general[table.general["edit"] != "none"]
    assert len(base) == 1
    assert set(cells["cell_id"]) <= set(table.rows["cell_id"])
    assert len(cells) == 2 * 2 * 4, "two gates, two edits, four concepts"
    assert (cells["difference"].abs() > 0).any()
    again = RunFolder(tmp_path / "run").read_results().general
    assert again is not None
    assert len(again) == len(table.general)
    assert "## General ability" in (tmp_path / "run" / "table.md").read_text()


def test_the_published_procedure_runs(overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["preset=reference", "++dataset.prompt.labels.bridge=w20", "evaluation.general.tau=null", "layers.select=1"]
    config = compose([*(entry for entry in overrides if not entry.startswith("sweep")), *more])
    assert (config.evaluation.fit_on, config.model.confidence) == ("correct", "first_token")
    table = run(config, tmp_path / "run")
    edited = table.rows[table.rows["edit"] != "none"]
    assert set(edited["edit_positions"]) == {"all"}
    assert set(edited["tau"].dropna()) == {2.0}
    assert set(edited["top_fraction"]) == {0.3}
    assert set(edited["edit"]) == {"zero"}
    assert edited["skipped"].notna().any(), "a random model answers some concept right in under two of twelve"
    counts = [row for row in RunFolder(tmp_path / "run").read_manifest().base_correct if row["split"] == "test"]
    poor = sum(float(row["low"] or 0) <= 0.25 for row in counts)
    assert poor
    assert f"near chance (0.25) on {poor} of 4 concepts" in capsys.readouterr().err


def test_written_answers_are_swept(overrides: list[str], tmp_path: Path) -> None:
    quiet = [entry for entry in overrides if "general" not in entry]
    more = ["model.head=generation", "model.max_new_tokens=2", "model.parse=first_word", "layers.select=1"]
    table = run(compose([*quiet, *more, "sweep.tau=[2.5]"]), tmp_path / "run")
    assert table.rows["skipped"].isna().all()
    assert table.rows["concept_accuracy"].between(0, 1).all()


def test_trap_16_labels_that_share_a_first_token_are_refused(overrides: list[str], tmp_path: Path) -> None:
    shared = ["model.head=label_token", "++dataset.prompt.labels.apple='w20 w5'"]
    with pytest.raises(ModelError, match="share their first token"):
        run(compose([*overrides, *shared]), tmp_path / "run")


def test_trap_17_confidence_is_the_gold_labels_over_all_samples(overrides: list[str], tmp_path: Path) -> None:
    """Gold over all samples, right or wrong; not the predicted class's over the right ones."""
    import pandas as pd

    table = run(compose([*overrides, "layers.select=2"]), tmp_path / "run")
    samples = pd.read_parquet(tmp_path / "run" / "samples.parquet")
    test = samples[samples["split"] == "test"]
    for concept in CONCEPTS:
        row = table.rows[(table.rows["edit"] == "none") & (table.rows["concept"] == concept)].iloc[0]
        own = test[test["label"] == concept]
        assert row["concept_confidence"] == pytest.approx(own["base_confidence"].mean(), abs=1e-6)
        assert row["concept_accuracy"] == pytest.approx((own["base_prediction"] == concept).mean())


def test_an_encoder_with_a_word_head_has_a_pseudo_perplexity(tiny_overrides: list[str], tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_config(FAMILY_CONFIGS["bert"]())
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "prose.txt").write_text("w1 w2 w3 w4\n\nw5 w9 w30 w31 w32")
    words = tiny_tokenizer()
    words.mask_token = "[UNK]"  # the made-up vocabulary has no other to spare
    words.save_pretrained(tmp_path / "model")
    more = [f"model.path={tmp_path}/model", "evaluation.general.perplexity=true", "sweep.tau=[2.5]", "layers.select=2"]
    more += [f"evaluation.general.documents.path={tmp_path}/prose.txt", "evaluation.general.documents.max_length=16"]
    table = run(compose([*tiny_overrides, *more, "sweep.top_fraction=[1.0]"]), tmp_path / "run")
    assert table.general is not None
    assert set(table.general["measure"]) == {"pseudo_perplexity"}
    assert (table.general["difference"].abs() > 0).any()


def test_a_classifier_has_no_perplexity(tiny_overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "prose.txt").write_text("w1 w2 w3 w4")
    more = ["evaluation.general.perplexity=true", f"evaluation.general.documents.path={tmp_path}/prose.txt"]
    with pytest.raises(NeuronLensError, match="no masked-language-model head"):
        run(compose([*tiny_overrides, *more, "evaluation.general.documents.max_length=16"]), tmp_path / "run")
