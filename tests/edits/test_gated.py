"""The kernel against its formula in float64 numpy, and its promises as properties (TRAPS 3, 6, 7, 9 and 29)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from neuronlens.edits.gated import GatedEdit, apply_gated
from neuronlens.errors import ShapeError
from neuronlens.ranges.intervals import EMPTY, WHOLE, complement

CELLS, SAMPLES, POSITIONS, NEURONS = 3, 2, 2, 3
DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64])
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SMALL = st.floats(-4, 4, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0])

STRENGTH = st.floats(0, 1, width=32)
BOOLEANS = st.booleans()


def bits(tensor: Tensor) -> Tensor:
    """Return the tensor's bytes: unlike ==, they tell -0.0 from 0.0 and find a NaN equal to itself."""
    return tensor.contiguous().view(torch.uint8)


@st.composite
def hidden_states(draw: st.DrawFn, elements: st.SearchStrategy[float] = FINITE) -> Tensor:
    array = draw(arrays(np.float32, (1, SAMPLES, POSITIONS, NEURONS), elements=elements))
    dtype = draw(DTYPES)
    limit = torch.finfo(dtype).max  # a float16 has no 1e6: such a draw becomes the largest it has
    return torch.from_numpy(array).double().clamp(-limit, limit).to(dtype)


@st.composite
def bounds(draw: st.DrawFn, intervals: int = 2) -> tuple[Tensor, Tensor]:
    """Draw sorted ends with every special interval among them: a point, empty, whole and half-infinite."""
    shape = (CELLS, intervals, NEURONS)
    ends = np.sort(draw(arrays(np.float32, (2, *shape), elements=SMALL | FINITE)), axis=0)
    kind = draw(arrays(np.int8, shape, elements=st.integers(0, 6)))
    lower, upper = ends
    lower = np.select([kind == 1, kind == 2, kind == 3], [upper, EMPTY[0], WHOLE[0]], lower)
    upper = np.select([kind == 2, kind == 3, kind == 4], [EMPTY[1], WHOLE[1], np.inf], upper)
    lower = np.where(kind == 5, -np.inf, lower)
    return torch.from_numpy(lower.astype(np.float32)), torch.from_numpy(upper.astype(np.float32))


@st.composite
def edits(
    draw: st.DrawFn,
    strength: st.SearchStrategy[float] = STRENGTH,
    distance: st.SearchStrategy[bool] = BOOLEANS,
    elements: st.SearchStrategy[float] = SMALL,
) -> GatedEdit:
    lower, upper = draw(bounds())
    scale, shift = (torch.from_numpy(draw(arrays(np.float32, (CELLS, NEURONS), elements=elements))) for _ in range(2))
    flags = draw(st.none() | st.lists(distance, min_size=CELLS, max_size=CELLS).map(torch.tensor))
    strengths = torch.tensor(draw(st.lists(strength, min_size=CELLS, max_size=CELLS)), dtype=torch.float32)
    return GatedEdit(lower, upper, scale, shift, strengths, flags)


def inside_of(hidden: Tensor, edit: GatedEdit) -> np.ndarray:
    """Return the gate `[cell, sample, position, neuron]` by plain numpy in float64, where every float32 is exact."""
    values = hidden.double().numpy()
    lower, upper = (bound.double().numpy()[:, :, None, None] for bound in (edit.lower, edit.upper))
    return ((values[:, None] >= lower) & (values[:, None] <= upper)).any(axis=1)


@settings(deadline=None, max_examples=200)
@given(hidden_states(), edits(), st.booleans())
def test_trap_7_and_9_finite_in_finite_out_and_what_is_not_inside_keeps_its_bits(
    hidden: Tensor, edit: GatedEdit, masked: bool
) -> None:
    mask = torch.tensor([[True, False], [False, True]]) if masked else None
    before = bits(hidden).clone()
    result = edit(hidden, mask)
    assert torch.equal(bits(hidden), before)
    assert result.dtype == hidden.dtype
    assert torch.isfinite(result).all()
    still = torch.from_numpy(~inside_of(hidden, edit))
    if mask is not None:
        still |= ~mask[None, :, :, None]
    still |= (edit.strength == 0)[:, None, None, None]
    assert torch.equal(bits(result[still]), bits(hidden.expand(CELLS, -1, -1, -1)[still]))


@settings(deadline=None, max_examples=100)
@given(hidden_states(), edits(strength=st.just(0.0)))
def test_trap_29_strength_0_is_the_identity_bit_for_bit(hidden: Tensor, edit: GatedEdit) -> None:
    assert torch.equal(bits(edit(hidden)), bits(hidden.expand(CELLS, -1, -1, -1)))


@settings(deadline=None, max_examples=200)
@given(hidden_states(SMALL), edits(strength=st.just(1.0), distance=st.just(False)))
def test_strength_1_reaches_the_target_exactly(hidden: Tensor, edit: GatedEdit) -> None:
    values = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    scale, shift = (number[:, None, None].to(values.dtype) for number in (edit.scale, edit.shift))
    target = torch.addcmul(shift, scale, values).to(hidden.dtype)
    inside = torch.from_numpy(inside_of(hidden, edit))
    assert torch.equal(edit(hidden)[inside], target[inside])
    constant = GatedEdit(edit.lower, edit.upper, torch.zeros_like(edit.scale), edit.shift, edit.strength)
    assert torch.equal(constant(hidden)[inside], shift.to(hidden.dtype).expand_as(inside)[inside])


@settings(deadline=None, max_examples=200)
@given(hidden_states(SMALL), edits(strength=st.floats(-1, 2, width=32)))
def test_the_formula_in_float64(hidden: Tensor, edit: GatedEdit) -> None:
    values = hidden.double().numpy()
    share = reference_share(values, edit) if edit.distance is not None else 1.0
    numbers = (edit.scale, edit.shift, edit.strength[:, None])
    scale, shift, strength = (number.double().numpy()[:, None, None] for number in numbers)
    target = scale * share * values + shift
    expected = np.where(inside_of(hidden, edit), values + strength * (target - values), values)
    precision = max(torch.finfo(hidden.dtype).eps, torch.finfo(torch.float32).eps)  # the edit's own numbers are float32
    assert edit(hidden).double().numpy() == pytest.approx(expected, rel=4 * precision, abs=100 * precision)


def reference_share(values: np.ndarray, edit: GatedEdit) -> np.ndarray:
    """Return the factor of `dampen_distance`, value by value; 1 in the cells that do not ask for it."""
    share = np.ones((CELLS, SAMPLES, POSITIONS, NEURONS))
    for cell, sample, position, neuron in np.ndindex(share.shape):
        x = float(values[0, sample, position, neuron])
        for low, high in zip(edit.lower[cell, :, neuron].tolist(), edit.upper[cell, :, neuron].tolist(), strict=True):
            if edit.distance[cell] and low <= x <= high:
                share[cell, sample, position, neuron] = share_in(x, low, high)
                break
    return share


def share_in(x: float, low: float, high: float) -> float:
    if math.isinf(low) or math.isinf(high):
        return 0.0 if math.isinf(low) and math.isinf(high) else 1.0
    half, centre = (high - low) / 2, (high + low) / 2
    return min(abs(x - centre) / half, 1.0) if half > 0 else 0.0


@settings(deadline=None, max_examples=100)
@given(hidden_states(), edits(strength=st.just(1.0)))
def test_trap_6_the_neuron_gate_contains_every_other_gate(hidden: Tensor, edit: GatedEdit) -> None:
    whole = GatedEdit(
        torch.full_like(edit.lower, WHOLE[0]),
        torch.full_like(edit.upper, WHOLE[1]),
        edit.scale,
        edit.shift,
        edit.strength,
    )
    marked = GatedEdit(edit.lower, edit.upper, edit.scale, edit.shift, edit.strength)
    ranged, everywhere = marked(hidden), whole(hidden)
    moved = bits(ranged).ne(bits(hidden.expand_as(ranged))).view(*ranged.shape, -1).any(-1)
    assert torch.equal(bits(ranged[moved]), bits(everywhere[moved]))


def whole_edit(width: int, value: float) -> GatedEdit:
    """Return the edit that sets every neuron of one cell to a value."""
    bound = torch.full((1, 1, width), torch.inf)
    return GatedEdit(-bound, bound, torch.zeros(1, width), torch.full((1, width), value), torch.ones(1))


def test_trap_9_a_bound_between_two_bf16_numbers_is_not_rounded() -> None:
    low = torch.full((1, 1, NEURONS), 1.001)  # 1.0 in bf16
    edit = GatedEdit(low, low * torch.inf, torch.zeros(1, NEURONS), torch.zeros(1, NEURONS), torch.ones(1))
    hidden = torch.ones(1, 1, 1, NEURONS, dtype=torch.bfloat16)
    assert torch.equal(edit(hidden), hidden)


def test_bounds_are_inclusive_at_both_ends() -> None:
    bound = torch.ones(1, 1, 5)
    edit = GatedEdit(-bound, bound, torch.zeros(1, 5), torch.full((1, 5), 7.0), torch.ones(1))
    beyond = float(np.nextafter(np.float32(1), np.float32(2)))
    found = edit(torch.tensor([[[[-1.0, 1.0, 0.0, beyond, -beyond]]]]))
    assert found[0, 0, 0].tolist() == [7.0, 7.0, 7.0, beyond, -beyond]


def test_trap_3_masked_positions_keep_their_bits() -> None:
    hidden, mask = torch.randn(1, 3, 2, NEURONS), torch.tensor([[True, False], [False, True], [True, True]])
    found = whole_edit(NEURONS, 0.0)(hidden, mask)[0]
    assert torch.equal(found[~mask], hidden[0][~mask])
    assert (found[mask] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_trap_9_nan_is_never_inside_and_infinity_stays_outside_finite_bounds(dtype: torch.dtype) -> None:
    hidden = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype).view(1, 1, 1, 3)
    number = torch.ones(1, 3)
    bound = 100 * torch.ones(1, 1, 3)
    edit = GatedEdit(-bound, bound, 0 * number, 7 * number, torch.ones(1))
    assert torch.equal(bits(edit(hidden)), bits(hidden))
    whole = GatedEdit(-bound * math.inf, bound * math.inf, 0 * number, 7 * number, torch.ones(1))
    assert math.isnan(whole(hidden)[0, 0, 0, 0])


def test_trap_7_distance_at_the_intervals_that_gave_nan() -> None:
    lower = torch.tensor([[-math.inf, 2.0, 1.0, -math.inf, 2.0]])[None]
    upper = torch.tensor([[math.inf, 2.0, 3.0, 4.0, math.inf]])[None]
    scale = torch.full((1, 5), 0.125)
    hidden = torch.tensor([2.0, 2.0, 2.5, 2.0, 2.0]).view(1, 1, 1, 5)
    edit = GatedEdit(lower, upper, scale, torch.zeros(1, 5), torch.ones(1), torch.tensor([True]))
    assert edit(hidden).flatten().tolist() == [0.0, 0.0, 0.125 * 2.5 * 0.5, 0.25, 0.25]
    plain = GatedEdit(lower, upper, scale, torch.zeros(1, 5), torch.ones(1), torch.tensor([False]))
    assert plain(hidden).flatten().tolist() == [0.25, 0.25, 0.3125, 0.25, 0.25]
    # The whole neuron is where ever wider symmetric intervals lead: the value falls to 0 without a jump.
    found = []
    for tau in (1.0, 1e2, 1e4, 1e38):
        bound = torch.full((1, 1, 1), tau)
        flag, one = torch.tensor([True]), torch.ones(1)
        wide = GatedEdit(2 - bound, 2 + bound, one[None] / 8, 0 * one[None], one, flag)
        found.append(float(wide(torch.full((1, 1, 1, 1), 2.5))))
    assert found == pytest.approx([0.125 * 2.5 * 0.5 / tau for tau in (1.0, 1e2, 1e4, 1e38)], rel=1e-3, abs=1e-30)


@settings(deadline=None, max_examples=50)
@given(hidden_states(SMALL), edits(), arrays(bool, (CELLS, SAMPLES, POSITIONS)), arrays(bool, (SAMPLES, POSITIONS)))
def test_the_further_gate_is_anded_with_intervals_and_mask(
    hidden: Tensor, edit: GatedEdit, allowed: np.ndarray, mask: np.ndarray
) -> None:
    gate, own = torch.from_numpy(allowed), torch.from_numpy(mask)
    free = edit(hidden)
    expected = torch.where((gate & own)[..., None], free, hidden)
    assert torch.equal(bits(edit(hidden, own, allowed=gate)), bits(expected))
    assert torch.equal(bits(edit(hidden, allowed=gate)), bits(edit(hidden, torch.ones_like(own), allowed=gate)))


def test_moving_keeps_every_field() -> None:
    edit = GatedEdit(*torch.rand(2, 1, 1, 2), *torch.rand(2, 1, 2), torch.rand(1), torch.tensor([True]))
    moved = edit.to("cpu")
    assert all(torch.equal(getattr(edit, name), getattr(moved, name)) for name in edit.__dataclass_fields__)
    assert GatedEdit(*torch.rand(2, 1, 1, 2), *torch.rand(2, 1, 2), torch.rand(1)).to("cpu").distance is None


def test_shapes_that_do_not_fit_are_refused() -> None:
    edit = GatedEdit(*torch.rand(2, 2, 1, 4), *torch.rand(2, 2, 4), torch.rand(2))
    fits = torch.rand(1, 3, 5, 4)
    for hidden in (fits[0], torch.rand(1, 3, 5, 3), torch.rand(3, 3, 5, 4)):
        with pytest.raises(ShapeError, match="2 cells and 4 neurons"):
            apply_gated(hidden, edit)
    with pytest.raises(ShapeError, match="mask is"):
        apply_gated(fits, edit, torch.ones(5, 3, dtype=torch.bool))
    with pytest.raises(ShapeError, match="gate is"):
        apply_gated(fits, edit, allowed=torch.ones(1, 3, 5, dtype=torch.bool))


@settings(deadline=None, max_examples=300)
@given(bounds(intervals=3), hidden_states())
def test_every_value_is_either_inside_or_outside_never_both(
    given_bounds: tuple[Tensor, Tensor], hidden: Tensor
) -> None:
    lower, upper = given_bounds
    number, strength = torch.ones(CELLS, NEURONS), torch.ones(CELLS)
    edit = GatedEdit(lower, upper, number, number, strength)
    control = GatedEdit(*map(torch.from_numpy, complement(lower.numpy(), upper.numpy())), number, number, strength)
    if hidden.dtype != torch.float64:  # between two neighbouring float32 there are float64 that are in neither
        # The values drawn, and those at the bounds and one step beyond, where it is decided.
        for values in (hidden, *edges(lower, upper)):
            assert np.array_equal(inside_of(values, edit), ~inside_of(values, control))
    low, high = control.lower.numpy(), control.upper.numpy()
    assert ((low <= high) | ((low == EMPTY[0]) & (high == EMPTY[1]))).all()


def edges(lower: Tensor, upper: Tensor) -> list[Tensor]:
    ends = torch.cat([lower, upper], dim=1).flatten(0, 1)
    ends = ends[torch.isfinite(ends).all(-1)]
    away = torch.tensor(math.inf)
    steps = [ends, torch.nextafter(ends, away), torch.nextafter(ends, -away)]
    return [row.view(1, 1, 1, NEURONS) for step in steps for row in step if torch.isfinite(row).all()]


def test_complement_keeps_its_input_and_any_leading_dimensions() -> None:
    lower = np.array([[[5.0], [1.0], [np.inf]], [[-np.inf], [2.0], [np.nan]]])
    upper = np.array([[[6.0], [2.0], [-np.inf]], [[0.0], [2.0], [1.0]]])
    before = lower.copy(), upper.copy()
    low, high = complement(lower, upper)
    assert np.array_equal(lower, before[0], equal_nan=True)
    assert np.array_equal(upper, before[1])
    gaps = [
        [(a, b) for a, b in zip(low[concept, :, 0].tolist(), high[concept, :, 0].tolist(), strict=True) if a <= b]
        for concept in range(2)
    ]
    up = {x: float(np.nextafter(np.float32(x), np.float32(np.inf))) for x in (0.0, 2.0, 6.0)}
    down = {x: float(np.nextafter(np.float32(x), np.float32(-np.inf))) for x in (1.0, 2.0, 5.0)}
    assert gaps[0] == [(-np.inf, down[1.0]), (up[2.0], down[5.0]), (up[6.0], np.inf)]
    assert gaps[1] == [(up[0.0], down[2.0]), (up[2.0], np.inf)]
    low, high = complement(np.array([[-np.inf]]), np.array([[np.inf]]))  # of everything: nothing, not even infinity
    assert (low > high).all()
