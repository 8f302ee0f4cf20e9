"""Capture and edit in a running model: nothing left behind, nothing silent, nothing mixed up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neuronlens.config.schema import EDIT_POSITIONS, RECORD_POSITIONS, TOKEN_POSITIONS
from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import SiteError
from neuronlens.hooks.contexts import capture, edited, hidden_of, read_positions, with_hidden
from neuronlens.hooks.masks import EDITED
from neuronlens.hooks.replay import only_up_to
from neuronlens.records import Site
from tests.conftest import FAMILY_NAMES, tiny_inputs, tiny_model


def _constant(width: int, value: float, neurons: slice = slice(None)) -> GatedEdit:
    bounds = torch.full((1, 1, width), -torch.inf)
    bounds[..., neurons] = torch.inf
    lower = torch.where(bounds > 0, -torch.inf, torch.inf)
    return GatedEdit(lower, bounds, torch.zeros(1, width), torch.full((1, width), value), torch.ones(1))


def _digest(model: Any) -> tuple[Any, ...]:
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return (
        hooks,
        model.config.to_json_string(),
        [tensor.clone() for tensor in model.state_dict().values()],
        model.training,
    )


def _same(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    tensors = zip(before[2], after[2], strict=True)
    return before[:2] == after[:2] and before[3] == after[3] and all(torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_trap_11_nothing_is_left_on_the_model(family: str) -> None:
    model, inputs = tiny_model(family), tiny_inputs(family)
    before, plain = _digest(model), model(**inputs).logits
    with edited(model, {Site(1): _constant(16, 1.0)}), capture(model, [Site(0)]):
        assert not torch.equal(model(**inputs).logits, plain)
    assert _same(before, _digest(model))
    with pytest.raises(ZeroDivisionError), edited(model, {Site(1): _constant(16, 1.0)}):
        _ = 1 / 0
    assert _same(before, _digest(model))
    assert torch.equal(model(**inputs).logits, plain)


def test_trap_11_an_edit_that_raises_leaves_no_hook() -> None:
    model, inputs = tiny_model("gpt2"), tiny_inputs("gpt2")

    def broken(hidden: Tensor, mask: Tensor | None) -> Tensor:
        raise ArithmeticError("inside the edit")

    before = _digest(model)
    with pytest.raises(ArithmeticError), edited(model, {Site(0): broken}):
        model(**inputs)
    assert _same(before, _digest(model))


def test_trap_13_no_hook_is_registered_when_one_name_of_two_is_wrong() -> None:
    model = tiny_model("bert")
    with pytest.raises(SiteError), edited(model, {Site(0): _constant(16, 0.0), Site(9): _constant(16, 0.0)}):
        pass
    assert _digest(model)[0] == 0


def test_trap_13_a_hook_that_never_fires_is_an_error() -> None:
    model, inputs = tiny_model("bert"), tiny_inputs("bert")
    with pytest.raises(SiteError, match=r"resid_post\.2 never fired"), capture(model, [Site(2)]), only_up_to(model, 1):
        model(**inputs)


def test_trap_12_two_sites_two_edits_both_applied() -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    edits = {Site(0): _constant(16, 1.0, slice(0, 4)), Site(2): _constant(16, -2.0, slice(8, 12))}
    with edited(model, edits):
        seen: dict[int, Tensor] = {}
        handles = [
            model.model.layers[layer].register_forward_hook(lambda m, a, out, layer=layer: seen.update({layer: out}))
            for layer in (0, 2)
        ]
        model(**inputs)
        for handle in handles:
            handle.remove()
    real = inputs["attention_mask"] != 0
    assert (seen[0][real][:, :4] == 1.0).all()
    assert (seen[2][real][:, 8:12] == -2.0).all()
    assert not (seen[0][real][:, 8:12] == -2.0).any()


@pytest.mark.parametrize("edit_first", [True, False])
def test_trap_5_capture_records_before_any_edit(edit_first: bool) -> None:
    model, inputs = tiny_model("bert"), tiny_inputs("bert")
    with capture(model, [Site(1)]) as recorded:
        model(**inputs)
    unedited = recorded[Site(1)]
    contexts = [lambda: edited(model, {Site(1): _constant(16, 5.0)}), lambda: capture(model, [Site(1)])]
    first, second = contexts if edit_first else contexts[::-1]
    with first() as one, second() as other:
        model(**inputs)
    recorded = other if edit_first else one
    assert torch.equal(recorded[Site(1)], unedited)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_trap_3_pads_are_never_edited(family: str) -> None:
    model, inputs = tiny_model(family), tiny_inputs(family)
    with capture(model, [Site(1)]) as recorded:
        model(**inputs)
    unedited, seen = recorded[Site(1)], []
    with edited(model, {Site(1): _constant(16, 9.0)}):
        inner = model.base_model.get_submodule({"gpt2": "h", "llama": "layers", "bert": "encoder.layer"}[family])[1]
        handle = inner.register_forward_hook(lambda m, a, out: seen.append(hidden_of(out)))
        model(**inputs)
        handle.remove()
    pads = inputs["attention_mask"] == 0
    assert torch.equal(seen[0][pads], unedited[pads])
    assert (seen[0][~pads] == 9.0).all()


def test_trap_4_the_block_output_is_recorded_not_what_follows_the_final_norm() -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    with capture(model, [Site(2)]) as recorded, torch.no_grad():
        hidden_states = model(**inputs, output_hidden_states=True).hidden_states
    assert torch.equal(model.model.norm(recorded[Site(2)]), hidden_states[-1])
    assert not torch.equal(recorded[Site(2)], hidden_states[-1])


def test_trap_4_tuples_and_tensors_are_both_block_outputs() -> None:
    tensor, other = torch.ones(1, 2, 3), torch.zeros(1, 2, 3)
    assert hidden_of((tensor, "cache")) is tensor
    assert hidden_of(tensor) is tensor
    assert with_hidden((tensor, "cache"), other) == (other, "cache")
    assert with_hidden(tensor, other) is other


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_trap_1_2_the_last_attended_token_on_either_side_and_in_any_batch(family: str) -> None:
    model, width = tiny_model(family), 16
    right, left = tiny_inputs(family, side="right"), tiny_inputs(family, side="left")
    for inputs in (right, left):  # the same tokens on both sides
        inputs["lengths"] = inputs["attention_mask"].sum(1)
    for row, length in enumerate(right.pop("lengths")):
        left["input_ids"][row, -length:] = right["input_ids"][row, :length]
    left.pop("lengths")
    vectors = []
    for inputs in (right, left):
        with capture(model, [Site(1)]) as recorded, torch.no_grad():
            logits = model(**inputs).logits
        vectors.append((read_positions(recorded[Site(1)], inputs["attention_mask"], "last"), logits))
    for row in range(len(right["input_ids"])):
        real = right["attention_mask"][row] != 0
        with capture(model, [Site(1)]) as recorded, torch.no_grad():
            logits = model(**{name: tensor[row : row + 1, real] for name, tensor in right.items()}).logits
        for found, other in vectors:
            torch.testing.assert_close(found[row], recorded[Site(1)][0, -1], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(other[row], logits[0], rtol=1e-4, atol=1e-4)
    assert vectors[0][0].shape[1] == width


def test_pooled_record_positions_leave_pads_out() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert read_positions(hidden, mask, "mean").item() == 2.0
    assert read_positions(hidden, mask, "max").item() == 3.0
    with pytest.raises(SiteError, match="Did you mean"):
        read_positions(hidden, mask, "lst")


def test_an_unknown_edit_position_is_refused() -> None:
    with (
        pytest.raises(SiteError, match="Available: all, all_but_first, cls, generated, last, prompt, prompt_but_first"),
        edited(tiny_model("bert"), {}, positions="first"),
    ):
        pass


def test_the_record_positions_of_the_config_are_those_that_are_read() -> None:
    hidden, mask = torch.arange(12.0).view(1, 4, 3), torch.tensor([[1, 1, 1, 0]])
    expected = {"cls": [0.0, 1, 2], "last": [6.0, 7, 8], "mean": [3.0, 4, 5], "max": [6.0, 7, 8]}
    assert {*expected, "live_mean"} == set(RECORD_POSITIONS), "live_mean becomes mean or the head's own position"
    for position, values in expected.items():
        assert read_positions(hidden, mask, position)[0].tolist() == values
    with pytest.raises(SiteError, match=r"'lst'\. Did you mean 'last'\? Available: cls, last, max, mean\."):
        read_positions(hidden, mask, "lst")
    without_sink = {"all_but_first", "prompt_but_first"}
    assert set(EDITED) == {*EDIT_POSITIONS, *TOKEN_POSITIONS, *without_sink} - {"record"}
