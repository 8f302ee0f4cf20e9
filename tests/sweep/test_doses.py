"""Finer doses: curves worked out by hand, and the cells of a tiny run against a grid of every neuron."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlens.config.compose import compose
from neuronlens.measures.columns import COLLATERAL, ERASED, MEASURES
from neuronlens.measures.matched import at_erasure, matched_erasure
from neuronlens.pipeline import run
from neuronlens.records import Cell, FloatArray, Knobs
from neuronlens.results.folder import RunFolder
from neuronlens.sweep.doses import FinerDoses, Split, dose_curves, first_reached, search

MASK = Knobs(saliency="max", scope="layer", gate="neuron", edit="zero", strength=1.0)
KEYS = ["layers", "gate", "edit", "tau", "concept", "n_neurons"]


def _cell(count: int) -> Cell:
    return Knobs(**{**MASK.__dict__, "top_count": count}), 0


class _Synthetic:
    """A method of one concept whose drop and cost are functions of the number of neurons."""

    def __init__(self, drop: Callable[[int], float], grid: list[int], *, base: float = 1.0) -> None:
        self.drop, self.grid, self.calls = drop, grid, list[list[int]]()
        self.split = Split(np.array([base]), {})
        self.cells = [_cell(count) for count in grid]
        self._add(self.cells)

    def _add(self, cells: list[Cell]) -> None:
        self.split.drops.update({cell: self.drop(cell[0].top_count or 0) for cell in cells})

    def evaluate(self, cells: list[Cell]) -> Collection[Cell]:
        """Add the drops of cells, and note which were asked for."""
        self.calls.append([cell[0].top_count or 0 for cell in cells])
        self._add(cells)
        return []

    def search(self, levels: list[float], most: int = 100) -> FinerDoses:
        """Search one split."""
        curves = dose_curves(self.cells, {cell: cell[0].top_count or 0 for cell in self.cells}, 1)
        assert len(curves) == 1
        return search(curves, [self.split], levels, most=most, evaluate=self.evaluate)

    @property
    def found(self) -> list[int]:
        """The doses asked for."""
        return [count for call in self.calls for count in call]

    def read(self, level: float, cost: Callable[[int], float], counts: list[int], widest: float = np.inf) -> float:
        """Return the cost where the level is first reached, on the doses given."""
        drops = np.array([self.drop(count) for count in sorted(counts)])
        costs = np.array([[cost(count)] for count in sorted(counts)])
        return float(at_erasure(drops, costs, level, widest).collateral[0])


def test_trap_45_a_coarse_grid_overstates_a_convex_curve_and_finer_doses_do_not() -> None:
    def drop(count: int) -> float:
        return count / 400

    def cost(count: int) -> float:
        return (count / 400) ** 4  # convex: at 80 % erased the cost is 0.8^4

    curve, truth = _Synthetic(drop, [40, 160, 400]), 0.8**4
    coarse = curve.read(0.8, cost, curve.grid)
    assert coarse > 1.2 * truth, "the control: three points and straight lines overstate the cost"
    curve.search([0.8])
    assert curve.read(0.8, cost, curve.grid + curve.found, widest=0.05) == pytest.approx(truth, rel=0.01)
    assert len(curve.found) <= 7, "the bracket of 240 neurons is halved until it erases 1 % (four neurons) apart"


def test_a_level_between_two_adjacent_counts_is_taken_at_the_first_that_reaches_it() -> None:
    curve = _Synthetic(lambda count: 0.0 if count < 137 else 1.0, [20, 300])
    curve.search([0.2, 0.8])
    doses = sorted(curve.grid + curve.found)
    assert first_reached(np.array([curve.drop(count) for count in doses]), 0.8) == doses.index(137)
    assert 136 in doses
    assert curve.read(0.8, float, doses, widest=0.05) == 137.0, "nothing is interpolated across the jump"


@given(
    st.lists(st.integers(0, 8), min_size=64, max_size=64),
    st.sets(st.integers(1, 64), min_size=2, max_size=6),
    st.sampled_from([0.25, 0.5, 0.8]),
)
def test_the_first_crossing_of_any_curve_ends_close_or_adjacent(right: list[int], grid: set[int], level: float) -> None:
    """Of the doses known in the end the first that reaches the level is found as a search over all of them finds it."""
    curve = _Synthetic(lambda count: (8 - right[count - 1]) / 8, sorted(grid))
    finer = curve.search([level])
    assert len(set(curve.found)) == len(curve.found)
    assert not set(curve.found) & grid
    assert len(finer.cells) == len(curve.found)
    doses = [0, *sorted(grid | set(curve.found))]
    reaching = [dose for dose in doses[1:] if curve.drop(dose) >= level - 1e-9]
    assert bool(reaching) == any(curve.drop(dose) >= level - 1e-9 for dose in grid)
    if reaching:
        before = doses[doses.index(reaching[0]) - 1]
        gap = curve.drop(reaching[0]) - (curve.drop(before) if before else 0.0)
        assert reaching[0] - before == 1 or gap <= 0.01 + 1e-9


def test_all_curves_get_their_next_doses_in_one_call_and_no_more_than_the_bound() -> None:
    curve = _Synthetic(lambda count: count / 1000, [100, 1000])
    curve.search([0.3, 0.6, 0.9])
    assert len(curve.calls[0]) == 1, "the three levels lie in one bracket and ask for its middle"
    assert len(curve.calls[1]) == 2
    assert len(curve.calls) <= 7
    bounded = _Synthetic(lambda count: count / 1000, [100, 1000])
    bounded.search([0.3, 0.6, 0.9], most=4)
    assert len(bounded.found) == 4
    assert bounded.found == curve.found[:4], "the bound cuts the same search short"


def test_cells_that_cannot_be_evaluated_end_their_search() -> None:
    curve = _Synthetic(lambda count: count / 1000, [100, 1000])
    curves = dose_curves(curve.cells, {cell: cell[0].top_count or 0 for cell in curve.cells}, 1)
    asked: list[Cell] = []

    def refuse(cells: list[Cell]) -> Collection[Cell]:
        asked.extend(cells)
        return cells

    assert search(curves, [curve.split], [0.5], most=9, evaluate=refuse).cells == []
    assert len(asked) == 1


def test_strength_is_halved_where_the_number_of_neurons_is_fixed() -> None:
    cells: list[Cell] = [(Knobs(gate="neuron", edit="leace", strength=strength), 0) for strength in (0.5, 2.0)]
    curves = dose_curves(cells, dict.fromkeys(cells, 16), 1)
    split = Split(np.array([1.0]), {cell: cell[0].strength ** 2 / 4 for cell in cells})

    def evaluate(new: list[Cell]) -> Collection[Cell]:
        split.drops.update({cell: cell[0].strength ** 2 / 4 for cell in new})
        return []

    finer = search(curves, [split], [0.5], most=32, evaluate=evaluate)
    reached = min(cell[0].strength for cell in split.drops if split.drops[cell] >= 0.5)
    assert reached == pytest.approx(2**0.5, abs=0.02)
    assert len(finer.cells) < 10
    jump = Split(np.array([1.0]), {cell: float(cell[0].strength > 1.2) for cell in cells})

    def leap(new: list[Cell]) -> Collection[Cell]:
        jump.drops.update({cell: float(cell[0].strength > 1.2) for cell in new})
        return []

    assert len(search(curves, [jump], [0.5], most=99, evaluate=leap).cells) < 15, "a jump is not halved for ever"


def test_a_method_of_one_dose_has_nothing_to_look_between() -> None:
    assert dose_curves([_cell(5)], {_cell(5): 5}, 1) == []


def test_each_split_is_searched_by_its_own_drops() -> None:
    curve = _Synthetic(lambda count: count / 1000, [100, 1000])
    other = Split(np.array([1.0]), {})
    late = {cell: ((cell[0].top_count or 0) / 1000) ** 3 for cell in curve.cells}
    other.drops.update(late)

    def evaluate(cells: list[Cell]) -> Collection[Cell]:
        other.drops.update({cell: ((cell[0].top_count or 0) / 1000) ** 3 for cell in cells})
        return curve.evaluate(cells)

    curves = dose_curves(curve.cells, {cell: cell[0].top_count or 0 for cell in curve.cells}, 1)
    finer = search(curves, [curve.split, other], [0.5], most=99, evaluate=evaluate)
    first, second = ({cell[0].top_count or 0 for cell in own} for own in finer.asked)
    assert min(abs(count - 500) for count in first) <= 10
    assert min(abs(count - 794) for count in second) <= 10
    assert not any(700 < count < 900 for count in first)
    assert set(finer.cells) == finer.asked[0] | finer.asked[1]


@pytest.fixture(scope="module")
def refined(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny run of three doses with finer ones, and one over every number of neurons, at the first and the last layer."""
    folder = tmp_path_factory.mktemp("doses")
    shared = [entry for entry in tiny_overrides if not entry.startswith("sweep.")]
    shared += ["sweep.layers=[0,last]", "sweep.tau=[2.5]", "evaluation.diagnostics=false"]
    run(compose([*shared, "sweep.top_fraction=[0.25,0.5,1.0]"]), folder / "coarse")
    every = ",".join(str(count / 16) for count in range(1, 17))
    run(compose([*shared, f"sweep.top_fraction=[{every}]", "evaluation.refine=false"]), folder / "full")
    return folder / "coarse", folder / "full"


def _first_dose(curve: pd.DataFrame, level: float) -> float:
    """Return the least number of neurons that erases a level, by a plain loop."""
    for row in curve.sort_values("n_neurons").to_dict("records"):
        if row[ERASED] + 1e-9 >= level * row["base_concept_accuracy"]:
            return float(row["n_neurons"])
    return float("nan")


def test_finer_doses_equal_the_cells_of_a_grid_over_every_neuron(refined: tuple[Path, Path]) -> None:
    coarse, full = (RunFolder(path).read_results() for path in refined)
    assert coarse.doses is not None
    assert full.doses is not None
    assert full.doses.empty
    finer = coarse.doses
    assert set(finer["layers"]) == {"0", "2"}
    assert list(finer.columns) == list(coarse.rows.columns)
    assert pd.read_csv(refined[0] / "results.csv")["top_fraction"].dropna().isin([0.25, 0.5, 1.0]).all()
    both = pd.concat([coarse.rows[coarse.rows["edit"] != "none"], finer])
    assert not both.duplicated(KEYS).any(), "no cell is evaluated twice"
    assert both["cell_id"].is_unique
    paired = finer.merge(full.rows, on=KEYS, suffixes=("", "_full"))
    assert len(paired) == len(finer) > 20
    for name in MEASURES:
        np.testing.assert_allclose(paired[name], paired[f"{name}_full"], atol=1e-6, err_msg=name)


def test_the_dose_that_first_reaches_a_level_is_that_of_every_neuron(refined: tuple[Path, Path]) -> None:
    coarse, full = (RunFolder(path).read_results() for path in refined)
    here = coarse.matched.dropna(subset="dose").set_index(["layers", "gate", "edit", "concept", "level"])["dose"]
    truth = {}
    for key, curve in full.rows[full.rows["edit"] != "none"].groupby(["layers", "gate", "edit", "concept"]):
        truth |= {(*key, level): _first_dose(curve, level) for level in (0.2, 0.4, 0.6, 0.8)}
    agree = np.array([truth[key] == dose for key, dose in here.items()])
    grid = matched_erasure(coarse.rows, [0.2, 0.4, 0.6, 0.8]).dropna(subset="dose")
    before = grid.set_index(["layers", "gate", "edit", "concept", "level"])["dose"]
    missed = np.array([truth[key] == dose for key, dose in before.items()])
    assert agree.mean() > 0.9 > 0.6 > missed.mean(), (agree.mean(), missed.mean())
    assert all(truth[key] <= dose for key, dose in here.items()), "peaks between doses can only be earlier"


def test_the_search_is_the_same_twice_and_on_select_offers_its_own_cells(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    overrides = [
        *tiny_overrides,
        "sweep.tau=[2.5]",
        "evaluation.select=matched_erasure",
        "evaluation.diagnostics=false",
    ]
    tables = [run(compose(overrides), tmp_path / name) for name in ("first", "second")]
    first, second = (table.doses.drop(columns="run_id") for table in tables if table.doses is not None)
    pd.testing.assert_frame_equal(first, second)
    points = tables[0].operating_points
    chosen = points["cell_id"].dropna()
    assert chosen.isin([*tables[0].rows["cell_id"], *first["cell_id"]]).all()
    assert chosen.isin(first["cell_id"]).any(), "some finer dose is the better one"
    assert points["budget"].notna().any()


@pytest.mark.parametrize("more", [["layers.mode=incremental"], ["layers.mode=together", "intervention.scope=model"]])
def test_layers_edited_at_once_get_finer_doses_too(more: list[str], tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = [entry for entry in tiny_overrides if not entry.startswith("sweep.")]
    overrides += ["layers.select=[0,2]", "sweep.tau=[2.5]", "sweep.edit=[zero]", "evaluation.diagnostics=false", *more]
    table = run(compose([*overrides, "sweep.top_fraction=[0.25,1.0]"]), tmp_path / "run")
    every = ",".join(str(count / 32) for count in range(2, 33, 2 if "layers.mode=incremental" in more else 1))
    full = run(compose([*overrides, f"sweep.top_fraction=[{every}]", "evaluation.refine=false"]), tmp_path / "full")
    assert table.doses is not None
    paired = table.doses.merge(full.rows, on=KEYS, suffixes=("", "_full"))
    assert len(paired) == len(table.doses) > 0
    for name in (ERASED, *COLLATERAL):
        np.testing.assert_allclose(paired[name], paired[f"{name}_full"], atol=1e-6, err_msg=name)


def test_first_reached_counts_exact_equality_whatever_the_rounding() -> None:
    drops: FloatArray = np.array([0.1, 0.7 - 0.4])
    assert drops[1] < 0.3, "the control: the difference is below 0.3 by rounding"
    assert first_reached(drops, 0.3) == 1
    assert first_reached(drops, 0.3 + 1e-6) is None
