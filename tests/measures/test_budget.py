"""Erasure at damage budgets, against a plain loop over the cells, through the same comparison as matched erasure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlens.measures.budget import at_budget, erasure_at_budget
from neuronlens.measures.columns import ERASED
from neuronlens.measures.comparison import AT_BUDGET, compare_gates, rank_methods
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.operating import operating_points
from neuronlens.report.tables.budget import budget_methods_table, budget_table
from tests.measures.test_matched import swept

BUDGETS = {"complement_accuracy_drop": [0.01, 0.02], "kl": [0.05]}


def _table(curves: dict[tuple[str, float | None], list[tuple[float, float]]], concept: str) -> pd.DataFrame:
    rows = swept(curves, concept)
    return rows.assign(concept_confidence_drop=rows[ERASED] / 2)


@given(
    st.lists(st.tuples(st.integers(-4, 20), st.integers(-2, 10)), min_size=1, max_size=9),
    st.sampled_from([0.0, 0.01, 0.02, 0.05]),
)
def test_the_largest_drop_within_the_budget_is_that_of_a_plain_loop(
    points: list[tuple[int, int]], budget: float
) -> None:
    drops = np.array([drop for drop, _ in points]) / 20
    damage = np.array([1.0 - (1.0 - cost / 100) for _, cost in points])  # rounded as differences of accuracies are
    best, place = 0, None
    for number, (drop, cost) in enumerate(points):
        if cost <= round(100 * budget) and drop > best:
            best, place = drop, number
    assert at_budget(drops, damage, budget) == place


def test_trap_42_damage_that_equals_the_budget_is_within_it() -> None:
    damage = np.array([0.9 - 0.88])
    assert damage[0] > 0.02, "the control: the difference is above 0.02 by rounding"
    assert at_budget(np.array([0.3]), damage, 0.02) == 0
    assert at_budget(np.array([0.3]), damage, 0.0199) is None


def test_a_method_that_erases_twice_as_much_within_the_budget_is_found_to() -> None:
    tables = []
    for number in range(9):
        mask = [(0.1, 0.005), (0.2, 0.01), (0.4 + 0.01 * number, 0.02), (0.8, 0.3)]
        ranged = [(2 * drop, cost) for drop, cost in mask[:3]] + [(0.9, 0.4)]
        tables.append(_table({("neuron", None): mask, ("range", 2.5): ranged}, f"c{number}"))
    found = erasure_at_budget(pd.concat(tables), BUDGETS)
    assert len(found) == 9 * 2 * 3
    mask = found[found["gate"] == "neuron"].set_index(["concept", "damage", "budget"])
    at = "complement_accuracy_drop"
    assert mask.loc[("c3", at, 0.01), ERASED] == pytest.approx(0.2)
    assert mask.loc[("c3", at, 0.02), ERASED] == pytest.approx(0.43)
    assert mask.loc[("c3", at, 0.02), "dose"] == 3
    assert mask.loc[("c3", "kl", 0.05), ERASED] == pytest.approx(
        0.2
    )  # the KL of the made-up rows is three times the cost
    assert mask.loc[("c3", at, 0.02), "concept_confidence_drop"] == pytest.approx(0.215)
    compared = compare_gates(found, Bootstrap(0.95, 300, 0), AT_BUDGET)
    assert len(compared) == 3
    row = compared[(compared["damage"] == at) & (compared["budget"] == 0.02)].iloc[0]
    assert row[f"{ERASED}_range"] == pytest.approx(2 * row[f"{ERASED}_neuron"])
    assert row[f"{ERASED}_low"] > 0
    assert row[f"{ERASED}_wins"] == row["n_concepts"] == 9
    ranked = rank_methods(found, Bootstrap(0.95, 300, 0), AT_BUDGET)
    assert ranked.groupby(["damage", "budget"])["gate"].first().tolist() == ["range"] * 3, (
        "the one that erases most leads"
    )
    shown = budget_table(compared, Bootstrap(0.95, 300, 0)).frame
    assert shown["damage"].tolist() == ["complement accuracy drop", "complement accuracy drop", "KL, nats"]
    assert shown["wins"].tolist() == ["9 of 9"] * 3
    assert len(budget_methods_table(ranked, Bootstrap(0.95, 300, 0)).frame) == 6


def test_a_method_that_always_costs_more_erases_nothing_within_the_budget() -> None:
    rows = _table({("neuron", None): [(0.5, 0.2)], ("range", 2.5): [(0.5, 0.004)]}, "c")
    found = erasure_at_budget(rows, BUDGETS).set_index(["gate", "damage", "budget"])
    assert found.loc[("neuron", "kl", 0.05), [ERASED, "dose"]].tolist() == [0.0, 0.0]
    assert found.loc[("range", "kl", 0.05), ERASED] == 0.5


def test_trap_26_a_budgets_operating_point_is_chosen_on_select() -> None:
    rows = _table({("range", 1.0): [(0.5, 0.005), (0.6, 0.01), (0.7, 0.2)]}, "c")
    select = rows.assign(cell_id=["a", "b", "c"])
    test = select.assign(concept_accuracy_drop=[0.9, 0.1, 0.8], complement_accuracy_drop=[0.0, 0.3, 0.0])
    found = operating_points(select, test, [], {"complement_accuracy_drop": [0.01]})
    assert found["cell_id"].tolist() == ["b"], "it erases most within the budget on select, though on test it does not"
    assert found[["damage", "budget"]].iloc[0].tolist() == ["complement_accuracy_drop", 0.01]
    assert found["select_complement_accuracy_drop"].iloc[0] == pytest.approx(0.01)
    assert found["complement_accuracy_drop"].iloc[0] == pytest.approx(0.3)
