"""Replay against a plain forward with a hook written by hand: equal to the last bit, at every layer, in every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neuronlens.config.layers import resolve_layers
from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import SiteError
from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.masks import position_mask
from neuronlens.hooks.replay import replaced_blocks, replay, run_body, starting_from
from neuronlens.hooks.resolver import blocks_of, resolve_site
from neuronlens.records import Site
from tests.conftest import FAMILY_NAMES, tiny_inputs, tiny_model

BLOCKS: dict[str, Callable[[Any], Any]] = {  # by hand: what hooks/blocks.py finds must agree
    "bert": lambda m: m.bert.encoder.layer,
    "roberta": lambda m: m.roberta.encoder.layer,
    "distilbert": lambda m: m.distilbert.transformer.layer,
    "gpt2": lambda m: m.transformer.h,
    "gpt_neox": lambda m: m.gpt_neox.layers,
    **{
        name: (lambda m: m.model.layers)
        for name in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
    },
}
LAYERS = [(family, layer) for family in FAMILY_NAMES for layer in range(3)]


def _plain(model: Any, family: str, layer: int, inputs: dict[str, Tensor], change: Callable[[Tensor], Tensor]) -> Any:
    """Return (logits, block output before the change) of one hooked forward, written without the package's code."""
    seen = {}

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        seen["hidden"] = hidden.clone()
        return (change(hidden), *output[1:]) if isinstance(output, tuple) else change(hidden)

    handle = BLOCKS[family](model)[layer].register_forward_hook(hook)
    try:
        with torch.no_grad():
            logits = model(**inputs).logits
    finally:
        handle.remove()
    return logits, seen["hidden"]


def _edit(width: int, seed: int = 0) -> tuple[GatedEdit, Callable[[Tensor, Tensor], Tensor]]:
    """Return a random edit, and the same by hand as a function of (hidden, positions to change)."""
    generator = torch.Generator().manual_seed(seed)
    lower = torch.randn(1, 1, width, generator=generator) - 1
    upper, shift = lower + 3, torch.randn(1, width, generator=generator)
    edit = GatedEdit(lower, upper, torch.zeros(1, width), shift, torch.ones(1))

    def by_hand(hidden: Tensor, where: Tensor) -> Tensor:
        inside = (hidden >= lower[0, 0]) & (hidden <= upper[0, 0]) & where[..., None]
        return torch.where(inside, shift[0].expand_as(hidden), hidden)

    return edit, by_hand


def stacked(edits: list[GatedEdit]) -> GatedEdit:
    """Return edits of one cell each as one batch."""
    names = ("lower", "upper", "scale", "shift", "strength")
    return GatedEdit(*(torch.cat([getattr(edit, name) for edit in edits]) for name in names))


@pytest.mark.parametrize(("family", "layer"), LAYERS)
def test_replay_equals_a_plain_hooked_forward_exactly(family: str, layer: int) -> None:
    model, inputs = tiny_model(family), tiny_inputs(family)
    everywhere = inputs["attention_mask"] != 0
    plain, hidden = _plain(model, family, layer, inputs, lambda x: x)
    edit, by_hand = _edit(hidden.shape[-1])
    changed, _ = _plain(model, family, layer, inputs, lambda x: by_hand(x, everywhere))
    with torch.no_grad():
        identity = replay(model, layer, inputs, hidden[None])
        replayed = replay(model, layer, inputs, edit(hidden[None], everywhere))
    assert torch.equal(identity[0], plain)
    assert torch.equal(replayed[0], changed)
    assert not torch.equal(changed, plain)  # the positive control: the edit does something


@pytest.mark.parametrize(("family", "layer"), LAYERS)
@pytest.mark.parametrize("positions", ["record", "all"])
def test_the_edited_context_equals_a_plain_hooked_forward_exactly(family: str, layer: int, positions: str) -> None:
    model, inputs = tiny_model(family), tiny_inputs(family)
    reads = "cls" if family in ("bert", "roberta", "distilbert") else "last"
    where = inputs["attention_mask"] != 0
    if positions == "record":
        index = torch.zeros(len(where), dtype=torch.long) if reads == "cls" else inputs["attention_mask"].sum(1) - 1
        where = torch.zeros_like(where)
        where[torch.arange(len(where)), index] = True
    _, hidden = _plain(model, family, layer, inputs, lambda x: x)
    edit, by_hand = _edit(hidden.shape[-1])
    changed, _ = _plain(model, family, layer, inputs, lambda x: by_hand(x, where))
    with edited(model, {Site(layer): edit}, positions=reads if positions == "record" else "all"), torch.no_grad():
        ours = model(**inputs).logits
    assert torch.equal(ours, changed)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_several_cells_in_one_forward_are_each_their_own(family: str) -> None:
    model, inputs = tiny_model(family), tiny_inputs(family)
    _, hidden = _plain(model, family, 1, inputs, lambda x: x)
    edits = [_edit(hidden.shape[-1], seed)[0] for seed in range(3)]
    both = stacked(edits)
    with torch.no_grad():
        together = replay(model, 1, inputs, both(hidden[None]))
        alone = [replay(model, 1, inputs, edit(hidden[None]))[0] for edit in edits]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=2e-5)
    assert (together.argmax(-1) == torch.stack(alone).argmax(-1)).all()


def test_trap_11_the_model_is_as_before_after_replay_and_after_an_exception() -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    blocks = list(blocks_of(model))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError):
        replay(model, 1, inputs, torch.zeros(1, 2, 3, 999))
    with pytest.raises(ZeroDivisionError), starting_from(model, 2, torch.zeros(1)):
        _ = 1 / 0
    assert all(ours is theirs for ours, theirs in zip(blocks_of(model), blocks, strict=True))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_replacement_that_fails_halfway_is_undone() -> None:
    model = tiny_model("bert")
    blocks = list(blocks_of(model))
    with pytest.raises(TypeError), replaced_blocks(model, {0: torch.nn.Identity(), 1: "no module"}):  # type: ignore[dict-item]
        pass
    assert list(blocks_of(model)) == blocks


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_stopping_early_records_the_same_and_runs_no_block_above(family: str) -> None:
    model, inputs = tiny_model(family), tiny_inputs(family)
    _, hidden = _plain(model, family, 0, inputs, lambda x: x)
    ran = []
    handle = BLOCKS[family](model)[1].register_forward_hook(lambda *_: ran.append(1))
    with capture(model, [Site(0)]) as recorded, torch.no_grad():
        run_body(model, inputs, deepest=0)
    handle.remove()
    assert torch.equal(recorded[Site(0)], hidden)
    assert not ran


def test_the_blocks_that_are_found_are_those_by_hand() -> None:
    for family in FAMILY_NAMES:
        model = tiny_model(family)
        assert blocks_of(model) is BLOCKS[family](model)


def test_trap_13_a_layer_past_the_end_or_a_wrong_site_is_an_error_with_near_names() -> None:
    model = tiny_model("bert")
    with pytest.raises(SiteError, match="3 layers"):
        resolve_site(model, Site(3))
    with pytest.raises(SiteError, match="3 layers"):
        resolve_site(model, Site(-4))
    with pytest.raises(SiteError, match="Did you mean 'resid_post'"):
        resolve_site(model, Site(0, "resid_pst"))
    with pytest.raises(SiteError, match="past the end"):
        resolve_layers([0, 9], 3)
    with pytest.raises(SiteError, match="Did you mean 'last'"):
        resolve_layers("lst", 3)
    with pytest.raises(SiteError, match="empty"):
        resolve_layers([], 3)
    with pytest.raises(SiteError, match="not a number"):
        resolve_layers([1.5], 3)
    assert resolve_site(model, Site(-1)).module is model.bert.encoder.layer[2]


def test_record_mask_for_left_and_right_padding() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    hidden = torch.zeros(2, 4, 3)
    found = position_mask(mask, hidden, "last")
    assert found is not None
    assert found.int().tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
