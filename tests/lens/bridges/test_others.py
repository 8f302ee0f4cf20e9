"""transformers pipelines, PEFT and nnsight under a lens, each against the real package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from neuronlens.errors import ModelError
from neuronlens.lens.lens import Lens
from neuronlens.records import Site
from tests.conftest import CONCEPTS, tiny_causal, tiny_model, tiny_tokenizer
from tests.lens.test_fit import TEXTS, fit


@pytest.fixture(scope="module")
def writer() -> Lens:
    """A lens of a tiny language model."""
    return fit(tiny_causal("llama"), layers=[0, 1], tau=3.0, edit="complement_mean", top_fraction=0.5)


def test_a_classification_pipeline_answers_without_the_concept() -> None:
    model = tiny_model("bert")
    model.config.id2label = dict(enumerate(CONCEPTS))
    lens = fit(model, tau=3.0, edit="complement_mean")
    classify = pipeline("text-classification", model=model, tokenizer=tiny_tokenizer(), top_k=None, device="cpu")
    plain = classify([TEXTS[0]])[0]
    with lens.erase(model, "apple"):
        erased = classify([TEXTS[0]])[0]
    batch = tiny_tokenizer()(TEXTS[0], return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad(), lens.erase(model, "apple"):
        wanted = model(**inputs).logits.softmax(-1)[0]
    scores = {row["label"]: row["score"] for row in erased}
    np.testing.assert_allclose([scores[name] for name in CONCEPTS], wanted, atol=1e-6)
    assert max(abs(scores[row["label"]] - row["score"]) for row in plain) > 1e-3
    assert classify([TEXTS[0]])[0] == plain


def test_a_text_generation_pipeline_writes_without_the_concept(writer: Lens) -> None:
    model = writer.loaded.model
    write = pipeline("text-generation", model=model, tokenizer=tiny_tokenizer(), device="cpu")
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "return_full_text": False}
    plain = write("w3 w14 w9", **options)[0]["generated_text"]
    with writer.erase(model, "drum", positions="all"):
        without = write("w3 w14 w9", **options)[0]["generated_text"]
    ids = tiny_tokenizer()("w3 w14 w9", return_tensors="pt")["input_ids"]
    with writer.erase(model, "drum", positions="all"):
        wanted = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, 3:]
    assert without.split() == tiny_tokenizer().decode(wanted).split()
    assert plain != without


def test_a_peft_model_is_fitted_and_edited_as_it_is() -> None:
    peft = pytest.importorskip("peft")
    base = tiny_causal("llama")
    lens_of_base = fit(tiny_causal("llama"), layers=1)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.eval()
    lens = fit(adapted, layers=1, tau=3.0, edit="complement_mean", top_fraction=0.5)
    batch = tiny_tokenizer()(TEXTS[:3], padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        plain = adapted(**inputs).logits
        with lens.erase(adapted, "apple", positions="all"):
            erased = adapted(**inputs).logits
        merged = adapted.merge_and_unload()
        with lens.erase(merged, "apple", positions="all", other_model=True):
            torch.testing.assert_close(merged(**inputs).logits, erased, atol=1e-4, rtol=1e-4)
    assert not torch.equal(plain, erased)
    with (
        pytest.raises(ModelError, match=r"it has no weight layers.0.self_attn.q_proj.weight"),
        lens_of_base.erase(
            peft.get_peft_model(tiny_causal("llama"), peft.LoraConfig(target_modules=["q_proj"])), "apple"
        ),
    ):
        pass


def test_the_same_edit_in_an_nnsight_trace(writer: Lens) -> None:
    nnsight = pytest.importorskip("nnsight", reason="nnsight is not installed")
    model = writer.loaded.model
    traced = nnsight.NNsight(model)
    ids = tiny_tokenizer()("w3 w14 w9 w20", return_tensors="pt")["input_ids"]
    edits = writer.edit("drum", layer=1)
    edit = edits[Site(1)]
    with torch.no_grad():
        with traced.trace(ids):
            traced.model.layers[1].output[:] = edit(traced.model.layers[1].output[None])[0]
            logits = traced.output.logits.save()
        plain = model(ids).logits
        with writer.erase(model, "drum", layer=1, positions="all"):
            wanted = model(ids).logits
    torch.testing.assert_close(logits, wanted)
    assert not torch.allclose(wanted, plain)
