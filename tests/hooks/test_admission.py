"""Admission: every check holds on sound models, fails on one that breaks it, and leads to the slower path that is exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.tiny import tiny_model as tiny_of_type
from neuronlens.errors import SiteError
from neuronlens.hooks.admission import Admission, Paths, admit
from neuronlens.hooks.blocks import blocks_of
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.reads import position_read
from neuronlens.hooks.takes import takes_positions
from neuronlens.models.batches import collate
from neuronlens.records import Site
from tests.conftest import FAMILY_NAMES, tiny_causal, tiny_model

SITES = [Site(layer) for layer in range(3)]


def batch(model: Any, *, causal: bool, side: str | None = None, labels: bool = True) -> dict[str, Tensor]:
    """Return three samples of made-up tokens as the model's batch, an end token last where its head looks for one."""
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(8, 60, (length,), generator=generator).tolist() for length in (9, 5, 7)]
    if model.config.is_encoder_decoder:
        ids = [[*entry[:-1], 2] for entry in ids]
    positions = takes_positions(model)
    packed = [(20, 21), (33,)] if causal and labels else []
    side = side or ("left" if causal else "right")
    return collate(ids, pad_id=0, padding_side=side, positions=positions, continuations=packed if positions else ())


def admitted(model: Any, *, causal: bool = False, positions: str | None = None, **options: Any) -> Admission:
    reads = position_read(model)
    inputs = options.pop("inputs", None) or batch(model, causal=causal)
    return admit(model, inputs, options.pop("sites", SITES), reads=reads, positions=positions or reads, **options)


def not_taken(paths: Paths) -> set[str]:
    """Return the names of the fast paths that are not taken."""
    return {name for name, taken in vars(paths).items() if not taken}


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("name", ["resid_post", "attn_out", "mlp_neurons"])
def test_a_classifier_of_every_family_takes_every_fast_path(family: str, name: str) -> None:
    admission = admitted(tiny_model(family), sites=[Site(layer, name) for layer in range(3)])
    assert all(check.passed for check in admission.checks), admission.checks
    assert admission.paths == Paths()
    assert not admission.slower
    assert set(admission.sites) == {f"{name}.{layer}" for layer in range(3)}


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name not in ("bert", "roberta", "distilbert")])
def test_a_language_model_of_every_family_takes_every_fast_path(family: str) -> None:
    admission = admitted(tiny_causal(family), causal=True, writes=True)
    assert all(check.passed for check in admission.checks), admission.checks
    names = [check.name for check in admission.checks]
    for expected in (
        "labels that share a prompt",
        "cells that branch off a prompt",
        "generation with and without a cache",
    ):
        assert expected in names
    assert {"batch size and padding", "padding on the other side", "identity replay from block 0"} <= set(names)


SLOWER = {  # type, head -> the fast paths that are not exact for it
    ("gpt_neo", "causal"): {"branches", "packs"},  # local attention that counts columns
    ("recurrent_gemma", "causal"): {"branches", "packs"},  # a recurrence runs through what stands before it in the row
    ("qwen2_moe", "causal"): set(),
    ("mamba", "causal"): {"branches"},  # its labels are one token: no continuation can be packed without positions
    ("bart", "causal"): {"branches", "pads"},  # positions counted by columns
    ("zaya", "causal"): {"replays", "branches", "packs"},  # blocks hand a second stream on
    ("t5", "seq_cls"): {"replays"},  # the first block makes the position bias of all
    ("eurobert", "seq_cls"): {"shrinks"},  # the head reads the mean
    ("fnet", "seq_cls"): {"pads"},  # a Fourier transform over the pads
}


@pytest.mark.parametrize(("model_type", "head"), SLOWER)
def test_what_is_inexact_takes_the_slower_path(model_type: str, head: str) -> None:
    model = tiny_of_type(model_type, head)
    positions = "all" if position_read(model) == "mean" else None
    admission = admitted(model, causal=head == "causal", positions=positions, writes=head == "causal")
    assert not_taken(admission.paths) == SLOWER[model_type, head]
    failed = [check.instead for check in admission.checks if not check.passed and check.instead]
    assert admission.slower == failed
    if "replays" in SLOWER[model_type, head]:
        assert admission.paths.start_of(Site(2)) == -1, "every cell runs the whole model"
    assert Paths().start_of(Site(2)) == 2


def test_an_edit_on_the_slower_path_is_that_of_a_hook_by_hand() -> None:
    model = tiny_of_type("t5", "seq_cls")
    inputs = batch(model, causal=False)
    real = inputs["attention_mask"] != 0

    def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
        return (torch.where(real[..., None], output[0] * 0.5, output[0]), *output[1:])

    handle = blocks_of(model)[1].register_forward_hook(hook)
    with torch.no_grad():
        expected = model(**inputs).logits
        handle.remove()
        with edited(model, {Site(1): lambda hidden, mask: torch.where(mask[..., None], hidden * 0.5, hidden)}):
            assert torch.equal(model(**inputs).logits, expected)
        assert not torch.equal(model(**inputs).logits, expected)
    assert blocks_of(model) is model.transformer.decoder.block


def test_trap_31_a_run_refuses_a_head_that_skips_the_end_token() -> None:
    model = tiny_model("gpt2")
    inputs = batch(model, causal=False)
    last = inputs["attention_mask"].sum(1) - 1
    assert admitted(model, inputs=inputs).paths == Paths()
    inputs["input_ids"][torch.arange(3), last] = model.config.pad_token_id
    with pytest.raises(SiteError, match=r"Refused by the check 'the head reads the position 'last''"):
        admitted(model, inputs=inputs)


def test_cls_under_left_padding_is_no_pad_but_the_first_token_of_a_batch_of_one() -> None:
    model = tiny_model("bert")
    admission = admitted(model, inputs=batch(model, causal=False, side="left"))
    assert not_taken(admission.paths) == {"pads"}
    assert admission.slower == ["every text is a batch of its own"]


def test_an_edit_that_does_not_reach_the_head_is_refused() -> None:
    with pytest.raises(SiteError, match="an edit at position 'last' cannot reach the head, which reads 'cls'"):
        admitted(tiny_model("bert"), positions="last", sites=[Site(2)])


def test_a_model_that_mixes_samples_gets_batches_of_one() -> None:
    model = tiny_model("bert")
    inner = blocks_of(model)[0]
    own = inner.forward
    inner.forward = lambda *a, **k: own(*a, **k) - own(*a, **k).mean(0, keepdim=True) * 0.5
    assert not_taken(admitted(model).paths) == {"pads"}


def test_a_block_that_reads_what_is_not_handed_on_is_not_replayed() -> None:
    model = tiny_model("bert")
    kept: dict[str, Tensor] = {}
    first, last = blocks_of(model)[0], blocks_of(model)[2]
    own_first, own_last = first.forward, last.forward

    def remembers(*arguments: Any, **named: Any) -> Any:
        kept["hidden"] = own_first(*arguments, **named)
        return kept["hidden"]

    first.forward = remembers
    last.forward = lambda *a, **k: own_last(*a, **k) + kept["hidden"][:, :1]
    admission = admitted(model, sites=[Site(1)])
    assert not_taken(admission.paths) == {"replays"}
    assert admission.paths.start_of(Site(1)) == -1


def test_a_cache_that_loses_the_edit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_causal("gpt2")
    own = model.prepare_inputs_for_generation

    def forgets(*arguments: Any, **named: Any) -> Any:
        found = own(*arguments, **named)
        if found.get("past_key_values") is not None and found["input_ids"].shape[1] == 1:
            found["position_ids"] = torch.zeros_like(found["input_ids"])
        return found

    monkeypatch.setattr(model, "prepare_inputs_for_generation", forgets)
    admission = admitted(model, causal=True, writes=True)
    assert not_taken(admission.paths) == {"caches"}
    assert admission.slower == ["texts are written without a KV cache"]


def test_nothing_is_left_on_the_model() -> None:
    model = tiny_causal("llama")
    before = model.config.to_json_string(), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    admitted(model, causal=True, writes=True)
    assert model.config.to_json_string() == before[0]
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in model.state_dict().items())
    assert not any(
        m._forward_hooks or m._forward_pre_hooks or "_compiled_call_impl" in vars(m) for m in model.modules()
    )
    assert "generate" not in vars(model)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_admission_costs_a_handful_of_forwards(family: str) -> None:
    model, runs = tiny_model(family), []
    handle = blocks_of(model)[2].register_forward_hook(lambda *_: runs.append(1))
    admitted(model)
    handle.remove()
    assert len(runs) <= 30
