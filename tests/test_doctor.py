"""The doctor's checks, each seen to pass on sound models of every kind and to fail on a broken one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neuronlens import doctor
from neuronlens.doctor import check
from neuronlens.records import Site
from tests.activations.test_extract import loaded
from tests.sweep.test_evaluator_causal import language_model


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("name", ["resid_post", "mlp_neurons", "attn_out"])
def test_sound_models_pass_at_every_layer(family: str, name: str) -> None:
    findings = list(check(loaded(family), [Site(layer, name) for layer in range(3)], edit_positions="record"))
    assert len(findings) == 4 * 3 + 4
    assert all(finding.passed for finding in findings), [finding for finding in findings if not finding.passed]


def _failed(model: Any, positions: str = "record") -> set[str]:
    return {finding.name for finding in check(model, [Site(1)], edit_positions=positions) if not finding.passed}


def test_an_edit_where_the_head_does_not_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("bert", record_position="last")
    findings = {f.name: f.passed for f in check(model, [Site(2)], edit_positions="record")}
    assert not findings["edit at resid_post.2 reaches the logits"]


def test_wrong_positions_under_padding_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "takes_positions", lambda model: False)
    assert "padding" in _failed(loaded("gpt2"))


def test_a_model_that_mixes_samples_is_found() -> None:
    model = loaded("bert")
    inner = model.model.bert.encoder.layer[0]
    own = inner.forward
    inner.forward = lambda *a, **k: own(*a, **k) - own(*a, **k).mean(0, keepdim=True)
    assert "batch size" in _failed(model)


def test_a_weight_that_moves_is_found() -> None:
    model = loaded("bert")
    inner = model.model.bert.encoder.layer[0]
    own = inner.forward

    def drifting(*arguments: Any, **named: Any) -> torch.Tensor:
        with torch.no_grad():
            model.model.classifier.weight.add_(1e-3)
        return own(*arguments, **named)

    inner.forward = drifting
    assert "weights unchanged" in _failed(model)


def test_a_hook_left_on_the_model_is_found() -> None:
    model = loaded("bert")
    model.model.classifier.register_forward_hook(lambda *_: None)
    assert "no hook left" in _failed(model)


@pytest.mark.parametrize(
    ("family", "head", "side"),
    [("gpt2", "label_logprob", "left"), ("llama", "label_token", "right"), ("gemma2", "generation", "left")],
)
def test_a_language_model_passes(family: str, head: str, side: str) -> None:
    model = language_model(family, head, side)
    assert not _failed(model)
    assert "padding" in [finding.name for finding in check(model, [Site(1)], edit_positions="record")]


def test_positions_that_ignore_the_mask_are_found() -> None:
    """A language model whose positions come from the columns instead of the mask fails the padding check (TRAPS 2)."""
    model = language_model("gpt2")
    own = model.model.forward

    def by_column(*arguments: Any, **named: Any) -> Any:
        named.pop("position_ids", None)
        return own(*arguments, **named)

    model.model.forward = by_column
    assert "padding" in _failed(model)
