"""The kernel against its formula in float64 numpy, and what must hold for every input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuronlens.edits.gated import GatedEdit, apply_gated
from neuronlens.errors import ShapeError

WIDTH = 5
FLOATS = st.floats(-1e4, 1e4, width=32)
BOUNDS = FLOATS | st.sampled_from([np.inf, -np.inf])
VALUES = hnp.arrays(np.float32, (1, 3, 2, WIDTH), elements=FLOATS)


def _edit(lower: np.ndarray, upper: np.ndarray, scale: np.ndarray, shift: np.ndarray, strength: float) -> GatedEdit:
    return GatedEdit(
        torch.from_numpy(lower)[None],
        torch.from_numpy(upper)[None],
        torch.from_numpy(scale)[None],
        torch.from_numpy(shift)[None],
        torch.tensor([strength], dtype=torch.float32),
    )


@st.composite
def edits(draw: st.DrawFn) -> GatedEdit:
    intervals = draw(st.integers(1, 3))
    bounds = hnp.arrays(np.float32, (intervals, WIDTH), elements=BOUNDS)
    factors = hnp.arrays(np.float32, WIDTH, elements=st.floats(-3, 3, width=32))
    return _edit(
        draw(bounds),
        draw(bounds),
        draw(factors),
        draw(hnp.arrays(np.float32, WIDTH, elements=FLOATS)),
        draw(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5])),
    )


def _reference(values: np.ndarray, edit: GatedEdit) -> np.ndarray:
    x = values.astype(np.float64)
    lower, upper = edit.lower[0].double().numpy(), edit.upper[0].double().numpy()
    inside = np.zeros(x.shape, dtype=bool)
    for low, high in zip(lower, upper, strict=True):
        inside |= (x >= low) & (x <= high)
    target = edit.scale[0].double().numpy() * x + edit.shift[0].double().numpy()
    return x + float(edit.strength[0]) * inside * (target - x)


@given(VALUES, edits())
@settings(deadline=None)
def test_the_kernel_is_its_formula(values: np.ndarray, edit: GatedEdit) -> None:
    ours = apply_gated(torch.from_numpy(values), edit).numpy()
    np.testing.assert_allclose(ours, _reference(values, edit), rtol=1e-5, atol=2e-2)


@given(VALUES, edits())
@settings(deadline=None)
def test_trap_7_finite_inputs_give_finite_outputs(values: np.ndarray, edit: GatedEdit) -> None:
    assert torch.isfinite(apply_gated(torch.from_numpy(values), edit)).all()


@given(VALUES, edits())
@settings(deadline=None)
def test_trap_29_strength_0_is_the_identity_to_the_bit(values: np.ndarray, edit: GatedEdit) -> None:
    still = GatedEdit(edit.lower, edit.upper, edit.scale, edit.shift, torch.zeros(1))
    assert torch.equal(apply_gated(torch.from_numpy(values), still), torch.from_numpy(values))


@given(VALUES, edits())
@settings(deadline=None)
def test_strength_1_reaches_the_target_to_the_bit(values: np.ndarray, edit: GatedEdit) -> None:
    full = GatedEdit(edit.lower, edit.upper, torch.zeros(1, WIDTH), edit.shift, torch.ones(1))
    found = apply_gated(torch.from_numpy(values), full)
    inside = torch.from_numpy(_reference(values, full) != values.astype(np.float64))
    assert torch.equal(found[inside], edit.shift.expand(found.shape)[inside])


@given(VALUES, edits(), st.sampled_from([torch.bfloat16, torch.float16, torch.float32]))
@settings(deadline=None)
def test_trap_9_values_outside_keep_their_bits_and_bounds_are_compared_in_float32(
    values: np.ndarray, edit: GatedEdit, dtype: torch.dtype
) -> None:
    hidden = torch.from_numpy(values).to(dtype)
    found = apply_gated(hidden, edit)
    assert found.dtype == dtype
    wide = hidden.float()
    inside = torch.zeros_like(wide, dtype=torch.bool)
    for low, high in zip(edit.lower[0], edit.upper[0], strict=True):
        inside |= (wide >= low) & (wide <= high)
    assert torch.equal(found[~inside], hidden[~inside])


def test_trap_9_a_bound_between_two_bf16_numbers_is_not_rounded() -> None:
    low = np.full((1, WIDTH), 1.001, dtype=np.float32)  # 1.0 in bf16
    edit = _edit(low, np.full_like(low, np.inf), np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32), 1.0)
    hidden = torch.ones(1, 1, 1, WIDTH, dtype=torch.bfloat16)
    assert torch.equal(apply_gated(hidden, edit), hidden)


def test_trap_9_nan_is_never_inside() -> None:
    whole = np.full((1, WIDTH), np.inf, dtype=np.float32)
    edit = _edit(-whole, whole, np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32), 1.0)
    hidden = torch.tensor([[[[float("nan"), 1.0, 2.0, 3.0, 4.0]]]])
    found = apply_gated(hidden, edit)
    assert torch.isnan(found[0, 0, 0, 0])
    assert (found[0, 0, 0, 1:] == 0).all()


def test_bounds_are_inclusive_at_both_ends() -> None:
    low, high = np.full((1, WIDTH), -1.0, np.float32), np.full((1, WIDTH), 1.0, np.float32)
    edit = _edit(low, high, np.zeros(WIDTH, np.float32), np.full(WIDTH, 7.0, np.float32), 1.0)
    beyond = float(np.nextafter(np.float32(1), np.float32(2)))
    found = apply_gated(torch.tensor([[[[-1.0, 1.0, 0.0, beyond, -beyond]]]]), edit)
    assert found[0, 0, 0].tolist() == [7.0, 7.0, 7.0, beyond, -beyond]


@given(VALUES, edits())
@settings(deadline=None)
def test_trap_6_the_neuron_gate_contains_the_range_gate(values: np.ndarray, edit: GatedEdit) -> None:
    hidden = torch.from_numpy(values)
    away = GatedEdit(edit.lower, edit.upper, torch.zeros(1, WIDTH), torch.full((1, WIDTH), 1e9), torch.ones(1))
    whole = torch.full_like(edit.lower, torch.inf)
    neuron = GatedEdit(-whole, whole, away.scale, away.shift, away.strength)
    touched_by_range = apply_gated(hidden, away) != hidden
    assert (apply_gated(hidden, neuron) != hidden)[touched_by_range].all()


def test_trap_3_masked_positions_keep_their_bits() -> None:
    whole = np.full((1, WIDTH), np.inf, dtype=np.float32)
    edit = _edit(-whole, whole, np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32), 1.0)
    hidden, mask = torch.randn(1, 3, 2, WIDTH), torch.tensor([[True, False], [False, True], [True, True]])
    found = apply_gated(hidden, edit, mask)[0]
    assert torch.equal(found[~mask], hidden[0][~mask])
    assert (found[mask] == 0).all()


def test_the_input_is_not_modified_and_cells_are_independent() -> None:
    hidden = torch.randn(1, 4, 1, WIDTH)
    kept = hidden.clone()
    whole = torch.full((2, 1, WIDTH), torch.inf)
    edit = GatedEdit(-whole, whole, torch.zeros(2, WIDTH), torch.tensor([[1.0], [2.0]]).expand(2, WIDTH), torch.ones(2))
    found = edit(hidden)
    assert torch.equal(hidden, kept)
    assert (found[0] == 1).all()
    assert (found[1] == 2).all()


@pytest.mark.parametrize("shape", [(1, 3, 2, WIDTH + 1), (3, 2, WIDTH), (3, 1, 1, WIDTH)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    whole = torch.full((2, 1, WIDTH), torch.inf)
    edit = GatedEdit(-whole, whole, torch.zeros(2, WIDTH), torch.zeros(2, WIDTH), torch.ones(2))
    with pytest.raises(ShapeError, match="do not fit"):
        apply_gated(torch.zeros(shape), edit)
