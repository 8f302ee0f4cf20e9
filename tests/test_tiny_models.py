"""Tiny random models of transformers' own types, built from their config classes: small, seeded, and able to run."""

from __future__ import annotations

import pytest
import torch

from benchmarks.tiny import HEADS, MOST_PARAMETERS, tiny_model

TYPES = ("bert", "gpt2", "llama", "qwen3", "gemma3_text", "modernbert", "falcon", "mamba")


@pytest.mark.parametrize("model_type", TYPES)
def test_a_tiny_model_runs_and_is_the_same_each_time(model_type: str) -> None:
    head = "causal" if model_type in HEADS["causal"][1] and model_type != "bert" else "seq_cls"
    one, other = tiny_model(model_type, head, seed=1), tiny_model(model_type, head, seed=1)
    assert sum(parameter.numel() for parameter in one.parameters()) < MOST_PARAMETERS
    ids = torch.arange(3, 9)[None]
    with torch.no_grad():
        logits = one.eval()(input_ids=ids).logits
        assert torch.isfinite(logits).all()
        assert torch.equal(logits, other.eval()(input_ids=ids).logits)
        assert not torch.equal(logits, tiny_model(model_type, head, seed=2).eval()(input_ids=ids).logits)
