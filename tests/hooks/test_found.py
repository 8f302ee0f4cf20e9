"""What is found in a model against the table that was written by hand for twelve types, and the reasons of refusals."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from benchmarks.tiny import tiny_model as tiny_of_type
from neuronlens.errors import SiteError
from neuronlens.hooks.blocks import blocks_of, found_blocks, layer_count
from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.inner_sites import found_inner_sites
from neuronlens.hooks.probe import made_up_tokens, unwatched
from neuronlens.hooks.reads import position_read
from neuronlens.hooks.replay import starting_from
from neuronlens.hooks.resolver import resolve_site
from neuronlens.hooks.takes import is_causal, mask_form, takes_positions
from neuronlens.hooks.wrapped import body_of
from neuronlens.records import Site
from tests.conftest import FAMILY_NAMES, tiny_causal, tiny_inputs, tiny_model


class Row(NamedTuple):
    """One row of the table by hand."""

    blocks: str
    reads: str
    position_ids: bool
    attn_out: str
    mlp_out: str
    masks_by_layer_type: bool = False


ENCODER = Row("encoder.layer", "cls", False, "attention.output.dense", "output.dense")
DECODER = Row("layers", "last", True, "self_attn.o_proj", "mlp.down_proj")
WINDOWS = DECODER._replace(masks_by_layer_type=True)
TABLE = {
    "bert": ENCODER,
    "roberta": ENCODER,
    "distilbert": Row("transformer.layer", "cls", False, "attention.out_lin", "ffn.lin2"),
    "gpt2": Row("h", "last", True, "attn.c_proj", "mlp.c_proj"),
    "gpt_neox": Row("layers", "last", True, "attention.dense", "mlp.dense_4h_to_h"),
    "llama": DECODER,
    "mistral": DECODER,
    "qwen2": WINDOWS,
    "qwen3": WINDOWS,
    "gemma": DECODER,
    "gemma2": WINDOWS,
    "gemma3_text": WINDOWS,
}


@pytest.mark.parametrize("family", TABLE)
def test_the_twelve_rows_by_hand_are_found(family: str) -> None:
    row, model = TABLE[family], tiny_model(family)
    found = found_blocks(model)
    assert found.path == row.blocks
    assert found.width == 16
    assert {returned.kind for returned in found.returned} == {None}
    assert [(sites.attn_out, sites.mlp_out) for sites in found_inner_sites(model)] == [(row.attn_out, row.mlp_out)] * 3
    assert all(sites.projection and not sites.flat for sites in found_inner_sites(model))
    assert position_read(model) == row.reads
    assert takes_positions(model) == is_causal(model) == row.position_ids
    assert layer_count(model.config) == 3
    if row.reads == "last":
        assert mask_form(model) == ("by_type" if row.masks_by_layer_type else "tensor")
        assert position_read(tiny_causal(family)) == "last"


def test_every_family_of_the_tests_is_in_the_table() -> None:
    assert set(FAMILY_NAMES) == set(TABLE)


REFUSED = {
    "albert": "run 3 times in one forward: its layers are shared",
    "hrm_text": "run 6 times in one forward: its layers are shared",
    "xlm": "no single list of blocks: attentions, layer_norm1, ffns, layer_norm2 take turns",
    "flaubert": "no single list of blocks",
    "xlnet": r"pass on \[position, batch, neuron\]",
    "canine": "another number of positions, 1 for 7 tokens",
    "funnel": "another number of positions, 4 for 7 tokens",
    "deepseek_v4": "several streams per position",
    "squeezebert": "never called as modules",
    "perceiver": "does not run on token ids and an attention mask alone",
}


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_has_no_list_of_blocks_is_refused_with_the_reason(model_type: str) -> None:
    model = tiny_of_type(model_type, "causal" if model_type in ("hrm_text", "deepseek_v4") else "seq_cls")
    with pytest.raises(SiteError, match=REFUSED[model_type]), edited(model, {Site(0): lambda hidden, mask: hidden}):
        pass


def test_fused_experts_have_an_output_and_no_neurons() -> None:
    model = tiny_of_type("mixtral", "causal")
    assert resolve_site(model, Site(0, "mlp_out")).module is model.model.layers[0].mlp
    with pytest.raises(SiteError, match="has no mlp_neurons: its experts are fused in one tensor"):
        resolve_site(model, Site(0, "mlp_neurons"))
    inputs = {"input_ids": torch.arange(10, 15)[None], "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    with capture(model, [Site(0, "mlp_out")]) as recorded, torch.no_grad():
        model(**inputs)
    assert recorded[Site(0, "mlp_out")].shape == (1, 5, 32)


def test_layers_of_different_kinds_have_their_own_sites() -> None:
    sites = found_inner_sites(tiny_of_type("jamba", "causal"))
    assert [entry.attn_out for entry in sites] == ["mamba.out_proj", "self_attn.o_proj", "mamba.out_proj"]
    mixed = tiny_of_type("nemotron_h", "causal")
    kinds = {entry.attn_out for entry in found_inner_sites(mixed)}
    assert {"mixer.out_proj", "mixer.o_proj", None} <= kinds
    layer = next(number for number, entry in enumerate(found_inner_sites(mixed)) if entry.attn_out is None)
    with pytest.raises(SiteError, match=r"has no attn_out: it mixes no positions"):
        resolve_site(mixed, Site(layer, "attn_out"))


def test_a_projection_whose_positions_are_flattened_is_captured_by_position() -> None:
    model, ids = tiny_of_type("opt", "seq_cls"), torch.arange(10, 24).view(2, 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    site = Site(1, "mlp_neurons")
    assert "mlp_neurons" in found_inner_sites(model)[1].flat
    seen: dict[str, torch.Tensor] = {}
    handle = blocks_of(model)[1].fc2.register_forward_pre_hook(lambda m, a: seen.update(x=a[0]))
    with capture(model, [site]) as recorded, torch.no_grad():
        model(**inputs)
    assert seen["x"].dim() == 2
    assert torch.equal(recorded[site].flatten(0, 1), seen["x"])
    inputs["attention_mask"][1, 4:] = 0
    with edited(model, {site: lambda hidden, mask: hidden.masked_fill(mask[..., None], 7.0)}), torch.no_grad():
        model(**inputs)
    handle.remove()
    assert torch.equal((seen["x"] == 7.0).all(-1).view(2, 7), inputs["attention_mask"] != 0)


@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_no_trace(training: bool) -> None:
    model = tiny_model("llama").train(training)
    other, ran = copy.deepcopy(model), []
    handle = blocks_of(other)[1].register_forward_hook(lambda *_: ran.append(1))
    state, before = torch.random.get_rng_state(), [tensor.clone() for tensor in model.state_dict().values()]
    hidden = torch.zeros(1, 4, 16)
    with starting_from(other, 2, hidden):  # while blocks are replaced
        found_inner_sites(other)
        position_read(other)
        assert mask_form(other) == "tensor"
    handle.remove()
    assert not ran
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(one, tensor) for one, tensor in zip(model.state_dict().values(), before, strict=True))
    assert other.training == training
    assert not any(module._forward_hooks for module in other.modules())
    assert all(parameter.grad is None for parameter in other.parameters())


def test_a_model_is_looked_at_once_and_forgotten_with_it() -> None:
    model, runs = tiny_model("gpt2"), []
    own = model.transformer.h[0].forward
    model.transformer.h[0].forward = lambda *a, own=own, **k: (runs.append(1), own(*a, **k))[1]
    found_inner_sites(model)
    first = len(runs)
    assert first > 0
    for _ in range(3):
        resolve_site(model, Site(1, "mlp_out"))
        blocks_of(model)
    assert len(runs) == first
    gone = weakref.ref(model.transformer)
    del model, own
    gc.collect()
    assert gone() is None


def test_made_up_tokens_hold_no_special_one() -> None:
    model = tiny_model("bert")
    model.config.pad_token_id, model.config.eos_token_id = 9, 10
    assert not torch.isin(made_up_tokens(model.bert)["input_ids"], torch.tensor([9, 10])).any()


def test_a_head_that_goes_around_the_model_is_edited_all_the_same() -> None:
    for model_type in ("opt", "bart"):
        model: Any = tiny_of_type(model_type, "causal")
        ids = torch.arange(10, 24).view(2, 7)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        inputs["attention_mask"][0, :3] = 0
        seen: list[torch.Tensor] = []

        def note(hidden: torch.Tensor, mask: torch.Tensor, seen: list[torch.Tensor] = seen) -> torch.Tensor:
            seen.append(mask)
            return hidden

        with edited(model, {Site(1): note}), torch.no_grad():
            model(**inputs)
        assert torch.equal(seen[-1], inputs["attention_mask"] != 0), model_type


def test_a_body_that_raises_leaves_the_next_forward_right() -> None:
    model, inputs = tiny_model("bert"), tiny_inputs("bert")
    masks: list[torch.Tensor] = []

    def note(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        masks.append(mask)
        if len(masks) == 1:
            raise ArithmeticError("inside the edit")
        return hidden

    with edited(model, {Site(1): note}):
        with pytest.raises(ArithmeticError):
            model(**inputs)
        model(**inputs)
    assert torch.equal(masks[1], inputs["attention_mask"] != 0)


def test_unwatched_puts_hooks_back_when_the_model_raises() -> None:
    model = tiny_model("gpt2")
    model.transformer.register_forward_hook(lambda *_: None)
    hooks = model.transformer._forward_hooks
    with unwatched(body_of(model)):
        assert not model.transformer._forward_hooks
    with pytest.raises(ZeroDivisionError), unwatched(body_of(model)):
        _ = 1 / 0
    assert model.transformer._forward_hooks is hooks
    assert isinstance(blocks_of(model), nn.ModuleList)
