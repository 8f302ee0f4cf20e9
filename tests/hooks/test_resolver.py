"""Sites inside a block, against hooks on modules named by hand, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.replay import replay, starts_at
from neuronlens.hooks.resolver import width_at
from neuronlens.records import Site
from tests.conftest import FAMILY_NAMES, tiny_inputs, tiny_model
from tests.hooks.test_replay import BLOCKS, _edit, stacked

INSIDE = ("attn_out", "mlp_out", "mlp_neurons")


def _module(family: str, block: Any, name: str) -> Any:
    """Return the projection behind a site by its own attribute path."""
    if family in ("bert", "roberta"):
        return block.attention.output.dense if name == "attn_out" else block.output.dense
    if family == "distilbert":
        return block.attention.out_lin if name == "attn_out" else block.ffn.lin2
    if family == "gpt2":
        return block.attn.c_proj if name == "attn_out" else block.mlp.c_proj
    if family == "gpt_neox":
        return block.attention.dense if name == "attn_out" else block.mlp.dense_4h_to_h
    return block.self_attn.o_proj if name == "attn_out" else block.mlp.down_proj


def _by_hand(model: Any, family: str, site: Site, inputs: dict[str, torch.Tensor], change: Any) -> Any:
    """Return (logits, the site's vector before the change) of a forward with one hook written here."""
    seen, module = {}, _module(family, BLOCKS[family](model)[site.layer], site.name)

    def before(m: Any, arguments: Any) -> Any:
        seen["x"] = arguments[0]
        return (change(arguments[0]), *arguments[1:])

    def after(m: Any, arguments: Any, output: Any) -> Any:
        seen["x"] = output
        return change(output)

    is_input = site.name == "mlp_neurons"
    handle = module.register_forward_pre_hook(before) if is_input else module.register_forward_hook(after)
    with torch.no_grad():
        logits = model(**inputs).logits
    handle.remove()
    return logits, seen["x"]


@pytest.mark.parametrize("family", FAMILY_NAMES)
@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_capture_edit_and_replay_inside_a_block_equal_a_hook_by_hand(family: str, name: str, layer: int) -> None:
    model, inputs, site = tiny_model(family), tiny_inputs(family), Site(layer, name)
    where = inputs["attention_mask"] != 0
    plain, vector = _by_hand(model, family, site, inputs, lambda x: x)
    edit, change = _edit(vector.shape[-1])
    expected, _ = _by_hand(model, family, site, inputs, lambda x: change(x, where))
    with capture(model, [site]) as recorded, torch.no_grad():
        model(**inputs)
    assert torch.equal(recorded[site], vector)
    assert vector.shape[-1] == {"mlp_neurons": 64 if family == "gpt2" else 32}.get(name, 16)
    assert width_at(model, site) == vector.shape[-1]
    assert width_at(model, Site(layer)) == 16
    with edited(model, {site: edit}), torch.no_grad():
        assert torch.equal(model(**inputs).logits, expected)
    start = starts_at(site)
    states = torch.zeros(1, *where.shape, 0)
    if start >= 0:
        with capture(model, [Site(start)]) as recorded, torch.no_grad():
            model(**inputs)
        states = recorded[Site(start)][None]
    with edited(model, {site: edit}), torch.no_grad():
        assert torch.equal(replay(model, start, inputs, states)[0], expected)
    assert not torch.equal(expected, plain)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_several_cells_inside_a_block_are_each_their_own(family: str) -> None:
    model, inputs, site = tiny_model(family), tiny_inputs(family), Site(1, "mlp_neurons")
    _, vector = _by_hand(model, family, site, inputs, lambda x: x)
    edits = [_edit(vector.shape[-1], seed)[0] for seed in range(3)]
    both = stacked(edits)
    with capture(model, [Site(0)]) as recorded, torch.no_grad():
        model(**inputs)
    states = recorded[Site(0)][None]
    with torch.no_grad():
        with edited(model, {site: both}, cells=3, positions="last"):
            together = replay(model, 0, inputs, states.expand(3, -1, -1, -1))
        for place, edit in enumerate(edits):
            with edited(model, {site: edit}, positions="last"):
                alone = replay(model, 0, inputs, states)[0]
            torch.testing.assert_close(together[place], alone, rtol=0, atol=2e-5)


def test_two_sites_of_one_block_are_both_edited() -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    first, second = (_edit(width, seed)[0] for width, seed in ((16, 1), (32, 2)))
    with torch.no_grad():
        with edited(model, {Site(1, "attn_out"): first}):
            one = model(**inputs).logits
        with edited(model, {Site(1, "attn_out"): first, Site(1, "mlp_neurons"): second}):
            two = model(**inputs).logits
    assert not torch.equal(one, two)
