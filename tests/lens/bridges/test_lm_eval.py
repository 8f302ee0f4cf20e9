"""lm-evaluation-harness runs a task without network with and without an edit; its numbers are our own scorer's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuronlens.errors import ConfigError
from neuronlens.lens.lens import Lens
from tests.conftest import CONCEPTS, WORDS, texts_of, tiny_causal, tiny_tokenizer
from tests.lens.test_fit import fit

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
QUESTIONS = [(text, WORDS[index : index + 3]) for index, text in enumerate(texts_of(0, 6, 5))]


@pytest.fixture(scope="module")
def lens() -> Lens:
    """A lens of a tiny language model that moves what it says."""
    return fit(tiny_causal("llama"), layers=[0, 1], tau=3.0, edit="complement_mean", top_fraction=0.5)


def task(folder: Path) -> Any:
    """Return a multiple-choice task over a file."""
    from lm_eval.tasks import TaskManager

    lines = [
        {"question": text, "choices": choices, "gold": index % 3} for index, (text, choices) in enumerate(QUESTIONS)
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = {
        "task": "made_up",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "questions.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "target_delimiter": " ",
        "metric_list": [{"metric": "acc"}],
    }
    return TaskManager, config


def harness(model: Any, folder: Path) -> tuple[float, list[float]]:
    """Return the task's accuracy and the log-likelihood of every choice."""
    manager, config = task(folder)
    found = lm_eval.simple_evaluate(
        model=model, tasks=[config], task_manager=manager(), bootstrap_iters=0, log_samples=True
    )
    rows = [float(response[0][0]) for sample in found["samples"]["made_up"] for response in sample["resps"]]
    return float(found["results"]["made_up"]["acc,none"]), rows


def own(lens: Lens, *concepts: str) -> list[float]:
    """Return the log-likelihood of every choice by a plain forward of each question by itself."""
    model, tokenizer, found = lens.loaded.model, tiny_tokenizer(), []
    for text, choices in QUESTIONS:
        for choice in choices:
            ids = tokenizer(f"{text} {choice}", return_tensors="pt")["input_ids"]
            with torch.no_grad():
                if concepts:
                    with lens.erase(model, *concepts, positions="all"):
                        logits = model(ids).logits
                else:
                    logits = model(ids).logits
            found.append(float(logits[0, -2].log_softmax(-1)[ids[0, -1]]))
    return found


def accuracy(scores: list[float]) -> float:
    best = np.array(scores).reshape(-1, 3).argmax(1)
    return float((best == np.arange(len(best)) % 3).mean())


def test_its_numbers_are_our_own_scorers(lens: Lens, tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    from neuronlens.lens.bridges.lm_eval import ErasedLM

    model = lens.loaded.model
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "[SEP]"  # the harness asks for one
    options = {"tokenizer": tokenizer, "backend": "causal", "device": "cpu", "batch_size": 4, "max_length": 64}
    plain, erased = own(lens), own(lens, "apple", "drum")
    assert np.abs(np.array(plain) - erased).max() > 1e-3
    found = harness(HFLM(pretrained=model, **options), tmp_path)
    assert found[0] == accuracy(plain)
    np.testing.assert_allclose(found[1], plain, atol=1e-4)
    with lens.erase(model, "apple", "drum", positions="all"):
        inside = harness(HFLM(pretrained=model, **options), tmp_path)
    registered = harness(ErasedLM(model, lens=lens, concept="apple+drum", **options), tmp_path)
    for accurate, rows in (inside, registered):
        assert accurate == accuracy(erased)
        np.testing.assert_allclose(rows, erased, atol=1e-4)


def test_it_is_registered_under_its_name(lens: Lens) -> None:
    from lm_eval.api.registry import get_model

    from neuronlens.lens.bridges.lm_eval import ErasedLM

    assert get_model("neuronlens") is ErasedLM
    with pytest.raises(ConfigError, match=r"Unknown positions 'last'.*passes no attention mask"):
        ErasedLM(lens.loaded.model, lens=lens, concept="drum", positions="last")
    with pytest.raises(ConfigError, match="Did you mean 'drum'"):
        ErasedLM(lens.loaded.model, lens=lens, concept="drun")
    assert CONCEPTS[3] == "drum"
