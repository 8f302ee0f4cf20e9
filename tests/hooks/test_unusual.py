"""Unusual but common settings: an edit is made exactly, or refused in a sentence; never silently something else."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import accelerate
import pytest
import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import SiteError
from neuronlens.hooks.blocks import blocks_of
from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.replay import replay
from neuronlens.hooks.resolver import width_at
from neuronlens.hooks.wrapped import device_of
from neuronlens.records import Site
from tests.conftest import tiny_causal, tiny_inputs, tiny_model
from tests.hooks.causal import generate, prompts, state

MIDDLE, NEURONS = Site(1), Site(1, "mlp_neurons")


def _set_to(value: float, width: int = 16) -> GatedEdit:
    bounds = torch.full((1, 1, width), torch.inf)
    return GatedEdit(-bounds, bounds, torch.zeros(1, width), torch.full((1, width), value), torch.ones(1))


def _logits(model: Any, inputs: dict[str, Tensor], site: Site, edit: Any, **options: Any) -> Tensor:
    with edited(model, {site: edit}, **options), torch.no_grad():
        return model(**inputs).logits


def test_trap_31_pad_is_eos_appended() -> None:
    model, inputs = tiny_model("gpt2"), tiny_inputs("gpt2", samples=1)
    moved = _logits(model, inputs, Site(2), _set_to(1.0), positions="last")
    assert not torch.equal(moved, _plain(model, inputs))
    ended = {name: torch.cat([tensor, torch.ones_like(tensor[:, :1])], 1) for name, tensor in inputs.items()}
    ended["position_ids"][0, -1] = ended["position_ids"][0, -2] + 1
    ended["input_ids"][0, -1] = model.config.pad_token_id  # the tokenizer's end token, which is its pad token too
    with pytest.raises(SiteError, match=r"pad token 0, which the head of GPT2ForSequenceClassification skips"):
        _logits(model, ended, Site(2), _set_to(1.0), positions="last")
    assert not torch.equal(_logits(model, ended, Site(2), _set_to(1.0)), _plain(model, ended))


def _plain(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("site", [MIDDLE, NEURONS])
@pytest.mark.parametrize("how", ["wrapped", "in place", "forward", "block"])
def test_trap_32_compiled_model(how: str, site: Site) -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    edit = _set_to(1.0, 16 if site == MIDDLE else 32)
    expected, plain = _logits(model, inputs, site, edit), _plain(model, inputs)
    compiled: Any = model
    if how == "wrapped":
        compiled = torch.compile(model, backend="eager")
    elif how == "in place":
        model.compile(backend="eager")
    elif how == "forward":
        model.forward = torch.compile(model.forward, backend="eager")
    else:
        model.model.layers[1].compile(backend="eager")
    torch.testing.assert_close(_plain(compiled, inputs), plain, rtol=1e-4, atol=1e-4)  # compiled before the edit
    assert torch.equal(_logits(compiled, inputs, site, edit), expected)
    with capture(compiled, [site]) as recorded, torch.no_grad():
        compiled(**inputs)
    assert recorded[site].shape[:2] == inputs["input_ids"].shape
    torch.testing.assert_close(_plain(compiled, inputs), plain, rtol=1e-4, atol=1e-4)


def _at_once(first: Callable[[], Any], second: Callable[[], Any]) -> list[Any]:
    """Return what two calls give that run in two threads, both started before either ends."""
    found: list[Any] = [None, None]

    def run(place: int, call: Callable[[], Any]) -> None:
        found[place] = call()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def _meeting(model: Any) -> Any:
    """Make every forward wait at the first block until two are there."""
    barrier = threading.Barrier(2, timeout=30)

    def wait(module: nn.Module, arguments: Any) -> None:
        barrier.wait()

    return blocks_of(model)[0].register_forward_pre_hook(wait)


@pytest.mark.parametrize("site", [MIDDLE, NEURONS])
def test_trap_33_two_threads_in_one_context_edit_with_their_own_masks(site: Site) -> None:
    model, edit = tiny_model("bert"), _set_to(1.0, 16 if site == MIDDLE else 32)
    batches = [tiny_inputs("bert", seed=seed) for seed in range(2)]
    batches[1]["attention_mask"][:, 2:] = 0
    expected = [_logits(model, inputs, site, edit) for inputs in batches]
    handle = _meeting(model)
    with edited(model, {site: edit}), torch.no_grad():
        found = _at_once(*(lambda inputs=inputs: model(**inputs).logits.detach() for inputs in batches))
    with capture(model, [site]) as recorded, torch.no_grad():
        kept = _at_once(*(lambda inputs=inputs: (model(**inputs), recorded[site])[1] for inputs in batches))
    handle.remove()
    assert all(torch.equal(ours, wanted) for ours, wanted in zip(found, expected, strict=True))
    for inputs, ours in zip(batches, kept, strict=True):
        with capture(model, [site]) as alone, torch.no_grad():
            model(**inputs)
        assert torch.equal(ours, alone[site])


def test_trap_33_generate_in_two_threads() -> None:
    model, edits = tiny_causal("llama"), {MIDDLE: _set_to(2.0)}
    batches = [prompts(3, seed=1), {name: tensor[:, 4:] for name, tensor in prompts(3, seed=2).items()}]
    batches[1]["attention_mask"][:] = 1
    with edited(model, edits, positions="generated"):
        expected = [generate(model, inputs).sequences for inputs in batches]
    handle = _meeting(model)
    with edited(model, edits, positions="generated"):
        found = _at_once(*(lambda inputs=inputs: generate(model, inputs).sequences for inputs in batches))
    handle.remove()
    assert all(torch.equal(ours, wanted) for ours, wanted in zip(found, expected, strict=True))
    assert not torch.equal(generate(model, batches[0]).sequences, expected[0])


def _gradient(model: Any, batches: list[dict[str, Tensor]], site: Site, edit: Any, *, inside: bool = True) -> Tensor:
    model.zero_grad()
    with edited(model, {site: edit}):
        loss = sum(model(**inputs).logits.sum() for inputs in batches)
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    return blocks_of(model)[0].mlp.down_proj.weight.grad.clone()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("site", [MIDDLE, NEURONS, Site(1, "attn_out")])
def test_trap_34_checkpointing_with_two_forwards(site: Site, reentrant: bool) -> None:
    model = tiny_model("llama", spread=1.0).train()
    batches = [tiny_inputs("llama", seed=seed) for seed in range(2)]
    batches[1]["attention_mask"][:, 2:] = 0
    batches[1]["attention_mask"][:, 0] = 1
    width = 32 if site == NEURONS else 16
    bounds = torch.full((1, 1, width), 9.0)
    edit = GatedEdit(-bounds, bounds, *torch.full((2, 1, width), 0.3), torch.ones(1))
    expected = _gradient(model, batches, site, edit)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    torch.testing.assert_close(_gradient(model, batches, site, edit), expected)
    if site != MIDDLE:
        with pytest.raises(SiteError, match="call backward inside the block"):
            _gradient(model, batches, site, edit, inside=False)
    own = vars(blocks_of(model)[1])["_gradient_checkpointing_func"]
    assert "neuronlens" not in getattr(own, "__module__", "")


@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "gemma2"])
@pytest.mark.parametrize("asked_before", [True, False])
def test_trap_35_hidden_states_under_an_edit(family: str, asked_before: bool) -> None:
    model, inputs = tiny_model(family), tiny_inputs(family)
    if asked_before:
        model(**inputs, output_hidden_states=True)
    real = inputs["attention_mask"] != 0
    with edited(model, {Site(1): _set_to(7.0)}), torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    assert (states[2][real] == 7.0).all()
    with capture(model, [Site(1)]) as recorded, edited(model, {Site(1): _set_to(7.0)}), torch.no_grad():
        model(**inputs, output_hidden_states=True)
    assert not (recorded[Site(1)][real] == 7.0).any()


def test_trap_36_deepcopy_inside_a_context() -> None:
    model, inputs = tiny_causal("llama"), prompts(3)
    plain, text = _plain(model, inputs), generate(model, inputs).sequences
    with edited(model, {MIDDLE: _set_to(2.0)}), capture(model, [NEURONS]) as recorded:
        other = copy.deepcopy(model)
        assert torch.equal(_plain(other, inputs), plain)
        assert torch.equal(generate(other, inputs).sequences, text)
        assert other.generate.__self__ is other
        assert not len(recorded)
        assert not torch.equal(_plain(model, inputs), plain)
    assert torch.equal(_plain(other, inputs), plain)
    with edited(other, {MIDDLE: _set_to(2.0)}):
        assert not torch.equal(_plain(other, inputs), plain)


def test_trap_38_in_place_edit_under_capture() -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    for site in (MIDDLE, NEURONS, Site(1, "attn_out")):
        with capture(model, [site]) as recorded, torch.no_grad():
            model(**inputs)
        unedited = recorded[site].clone()
        for first in (capture, edited):  # whichever is entered first
            contexts = [capture(model, [site]), edited(model, {site: lambda hidden, mask: hidden.mul_(0)})]
            with contexts[first is edited] as one, contexts[first is capture] as other, torch.no_grad():
                model(**inputs)
            recorded = one if first is capture else other
            assert torch.equal(recorded[site], unedited)
        with capture(model, [site]) as recorded:
            logits = model(**inputs).logits
            with torch.no_grad():
                recorded[site].detach().zero_()
        torch.testing.assert_close(logits, _plain(model, inputs))
    with capture(model, [MIDDLE]) as recorded:
        logits = model(**inputs).logits
    (gradient,) = torch.autograd.grad(logits.sum(), recorded[MIDDLE])
    assert gradient.abs().sum() > 0


def test_offloaded_parameters() -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    other = copy.deepcopy(model)
    accelerate.cpu_offload(other, execution_device="cpu")
    assert all(parameter.device.type == "meta" for parameter in other.parameters())
    assert device_of(other) == torch.device("cpu")
    for site, width in ((MIDDLE, 16), (NEURONS, 32)):
        assert width_at(other, site) == width
        assert torch.equal(
            _logits(other, inputs, site, _set_to(1.0, width)), _logits(model, inputs, site, _set_to(1.0, width))
        )
    states = torch.randn(2, *inputs["input_ids"].shape, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(replay(other, 1, inputs, states), replay(model, 1, inputs, states))


class _Quantised(nn.Module):
    """A matrix of bytes with a scale per row, none of them parameters."""

    def __init__(self, own: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = own.in_features, own.out_features
        self.scale = own.weight.detach().abs().amax(1, keepdim=True) / 127
        self.packed = (own.weight.detach() / self.scale).round().to(torch.int8)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden @ (self.packed * self.scale).T


def test_quantised_module_without_parameters() -> None:
    model, inputs = tiny_model("llama"), tiny_inputs("llama")
    for block in model.model.layers:
        for part, name in ((block.mlp, "down_proj"), (block.mlp, "up_proj"), (block.self_attn, "o_proj")):
            setattr(part, name, _Quantised(getattr(part, name)))
    assert device_of(model.model.layers[1].mlp.down_proj) == torch.device("cpu")
    assert width_at(model, NEURONS) == 32
    seen: dict[str, Tensor] = {}
    handle = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(lambda m, a: seen.update(x=a[0]))
    with edited(model, {NEURONS: _set_to(3.0, 32)}), torch.no_grad():
        assert not torch.equal(model(**inputs).logits, _plain(model, inputs) * 0)
        model(**inputs)
    handle.remove()
    assert (seen["x"][inputs["attention_mask"] != 0] == 3.0).all()


def test_edits_move_to_the_device_of_what_they_edit() -> None:
    model, inputs, moved = tiny_model("llama"), tiny_inputs("llama"), []

    class Edit:
        def to(self, device: torch.device) -> Edit:
            moved.append(device)
            return self

        def __call__(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
            return hidden

    with edited(model, {MIDDLE: Edit()}):
        model(**inputs)
        model(**inputs)
    assert moved == [torch.device("cpu")]


def test_generate_batch_is_refused() -> None:
    model, ids = tiny_causal("llama"), prompts(2)["input_ids"].tolist()
    bound = model.generate_batch
    before = state(model)
    for call in (lambda: model.generate_batch(ids), lambda: bound(ids), lambda: model.init_continuous_batching()):
        with pytest.raises(SiteError, match="Continuous batching packs"), edited(model, {MIDDLE: _set_to(1.0)}):
            call()
    assert state(model) == before
    assert "generate_batch" not in vars(model)


def test_generate_bound_early_is_refused() -> None:
    model, inputs = tiny_causal("llama"), prompts(2)
    bound = model.generate
    with edited(model, {MIDDLE: _set_to(2.0)}, positions="generated"):
        with pytest.raises(SiteError, match=r"call model\.generate inside the block"):
            bound(**inputs, generation_config=GenerationConfig(max_new_tokens=3))
        inside = generate(model, inputs).sequences
    text = bound(**inputs, max_new_tokens=9, do_sample=False, pad_token_id=0)
    assert not torch.equal(text, inside)


def test_data_parallel() -> None:
    model, inputs = tiny_model("bert"), tiny_inputs("bert")
    wrapped = nn.DataParallel(model)
    expected = _logits(model, inputs, MIDDLE, _set_to(1.0))
    assert torch.equal(_logits(wrapped, inputs, MIDDLE, _set_to(1.0)), expected)
    wrapped.device_ids = [0, 1]
    with pytest.raises(SiteError, match="splits each batch"), edited(wrapped, {MIDDLE: _set_to(1.0)}):
        pass


@pytest.mark.parametrize("positions", ["all", "generated"])
def test_out_of_order_exit(positions: str) -> None:
    model, inputs = tiny_causal("llama"), prompts(3)
    before = state(model)
    one, other = (edited(model, {Site(layer): _set_to(2.0)}, positions=positions) for layer in (0, 1))
    with edited(model, {Site(1): _set_to(2.0)}, positions=positions):
        alone = generate(model, inputs).sequences
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert torch.equal(generate(model, inputs).sequences, alone)
    other.__exit__(None, None, None)
    assert state(model) == before
    assert not torch.equal(generate(model, inputs).sequences, alone)


def test_part_of_a_model_run_by_itself_is_refused() -> None:
    model = tiny_model("llama")
    hidden = torch.zeros(1, 3, 16)
    places = torch.arange(3)[None]
    angles = model.model.rotary_emb(hidden, places)
    with edited(model, {MIDDLE: _set_to(1.0)}), pytest.raises(SiteError, match="run by itself"):
        model.model.layers[1](hidden, position_embeddings=angles)
