"""A model with its edits in one module gives what `erase` gives, is saved, moved and compiled, and can be detached."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from neuronlens.errors import ModelError, SiteError
from neuronlens.lens.lens import Lens
from tests.conftest import CONCEPTS, tiny_causal, tiny_model, tiny_tokenizer
from tests.hooks.causal import generate
from tests.lens.test_fit import TEXTS, fit

KNOBS: list[dict[str, Any]] = [
    {},
    {"gate": "joint", "edit": "leace"},
    {"edit": "dampen_distance", "range": "mixture"},
]


def inputs(count: int = 4, side: str = "right") -> dict[str, torch.Tensor]:
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    batch = tokenizer(TEXTS[:count], padding=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.fixture(scope="module")
def lens() -> Lens:
    """A lens at two layers of a tiny classifier."""
    return fit(tiny_model("bert"), layers=[0, 2], select=(TEXTS[::2], [name for name in CONCEPTS for _ in range(6)]))


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
@pytest.mark.parametrize("positions", ["record", "all"])
def test_it_gives_what_erase_gives(lens: Lens, knobs: dict[str, Any], positions: str) -> None:
    model = lens.loaded.model
    with torch.no_grad():
        plain = model(**inputs()).logits
        with lens.erase(model, "apple", "drum", positions=positions, **knobs):
            wanted = model(**inputs()).logits
        attached = lens.attach(model, "apple", "drum", positions=positions, **knobs)
        assert torch.equal(attached(**inputs()).logits, wanted)
        assert not torch.equal(wanted, plain)
        assert torch.equal(model(**inputs()).logits, plain)  # called by itself it is as it was
        assert attached.detach() is model
        assert torch.equal(attached(**inputs()).logits, plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_it_is_compiled_with_its_edits(lens: Lens) -> None:
    model = lens.loaded.model
    attached = lens.attach(model, "apple", "cloud", positions="all")
    with torch.no_grad():
        wanted = attached(**inputs()).logits
        torch._dynamo.reset()
        compiled = torch.compile(attached, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(**inputs()).logits, wanted)
        plain = attached.detach()(**inputs()).logits
    assert not torch.allclose(wanted, plain)


def test_its_state_is_that_of_the_model_and_the_edits(lens: Lens) -> None:
    first = lens.attach(tiny_model("bert"), "apple")
    second = lens.attach(tiny_model("bert"), "drum", tau=1.0)
    kept = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert {name.split(".")[0] for name in kept} == {"model", "edits"}
    with torch.no_grad():
        wanted = first(**inputs()).logits
        assert not torch.equal(second(**inputs()).logits, wanted)
        second.load_state_dict(kept)
        assert torch.equal(second(**inputs()).logits, wanted)


def test_a_coarser_dtype_moves_no_bound(lens: Lens) -> None:
    attached = lens.attach(tiny_model("bert"), "apple")
    before = {name: tensor.clone() for name, tensor in attached.edits.state_dict().items()}
    attached.to(torch.bfloat16)
    assert attached.dtype == torch.bfloat16
    after = attached.edits.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    with torch.no_grad():
        assert torch.isfinite(attached(**inputs()).logits).all()
    moved = lens.attach(tiny_model("bert"), "apple").to("meta")
    assert {tensor.device.type for tensor in moved.edits.state_dict().values()} == {"meta"}


def test_it_is_neither_pickled_nor_copied(lens: Lens) -> None:
    attached = lens.attach(tiny_model("bert"), "apple")
    for act in (pickle.dumps, copy.deepcopy):
        with pytest.raises(ModelError, match=r"not pickled or copied. Next: save attached.state_dict"):
            act(attached)


def test_it_writes_without_the_concepts() -> None:
    model = tiny_causal("llama")
    lens = fit(model, layers=[0, 1], tau=3.0, top_fraction=0.5, edit="complement_mean", edit_positions="all")
    with lens.erase(model, "apple"):
        wanted = generate(model, inputs(side="left"))
    attached = lens.attach(model, "apple")
    found = generate(attached, inputs(side="left"))
    assert torch.equal(found.sequences, wanted.sequences)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found.logits, wanted.logits, strict=True))
    assert not torch.equal(
        torch.stack(generate(attached.detach(), inputs(side="left")).logits), torch.stack(wanted.logits)
    )


def test_a_pad_in_the_place_of_the_edited_position_is_refused(lens: Lens) -> None:
    attached = lens.attach(tiny_model("bert"), "apple", positions="cls")
    with pytest.raises(SiteError, match="a pad in a text padded on the left"):
        attached(**inputs(side="left"))
