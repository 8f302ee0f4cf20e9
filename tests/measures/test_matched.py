"""Matched erasure and its paired comparison, against cases worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlens.measures.comparison import compare_gates, rank_methods
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import at_erasure, curves, matched_erasure
from neuronlens.measures.operating import operating_points
from neuronlens.report.tables.comparison import comparison_table


def swept(
    curves: Mapping[tuple[str, float | None], Sequence[tuple[float, float]]], concept: str, base: float = 0.8
) -> pd.DataFrame:
    """Return one concept's rows: points of (concept accuracy drop, the others' accuracy drop) by (gate, tau).

    The others lose twice as much confidence, and three times as much in KL.
    """
    rows = []
    for (gate, tau), points in curves.items():
        for count, (drop, cost) in enumerate(points, 1):
            row = {
                "layer": 5,
                "layers": "5",
                "control": None,
                "top_fraction": 0.1 * count,
                "site": "resid_post",
                "saliency": "max",
                "gate": gate,
                "tau": tau,
                "edit": "zero",
            }
            row |= {"range": "gaussian" if gate == "range" else None, "edit_positions": "record", "strength": 1.0}
            row |= {"n_neurons": count, "concept": concept, "skipped": None, "base_concept_accuracy": base}
            row |= {"concept_accuracy_drop": drop, "complement_accuracy_drop": cost}
            rows.append(row | {"complement_confidence_drop": 2 * cost, "kl": 3 * cost})
    return pd.DataFrame(rows)


def test_collateral_is_read_where_the_curve_first_reaches_the_drop() -> None:
    drops, cost = np.array([0.1, 0.5, 0.3, 0.7]), np.array([[0.01], [0.05], [0.2], [0.3]])
    assert at_erasure(drops, cost, 0.05).collateral[0] == pytest.approx(0.005)  # from the unedited model at (0, 0)
    assert at_erasure(drops, cost, 0.3).collateral[0] == pytest.approx(0.03)  # the first crossing, not the later dip
    assert at_erasure(drops, cost, 0.5).collateral[0] == pytest.approx(0.05)
    assert at_erasure(drops, cost, 0.6).collateral[0] == pytest.approx(0.2 + 0.75 * 0.1)
    assert np.isnan(at_erasure(drops, cost, 0.71).collateral[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 1))
def test_collateral_lies_between_the_curves_own_values(drops: list[float], wanted: float) -> None:
    cost = np.linspace(0.1, 0.9, len(drops))[:, None]
    found = at_erasure(np.array(drops), cost, wanted).collateral[0]
    assert np.isnan(found) == (max(drops) < wanted - 1e-9)
    if not np.isnan(found):
        assert -1e-12 <= found <= 0.9 + 1e-12


def test_a_method_that_costs_half_is_found_to_cost_half() -> None:
    tables = []
    for number in range(12):
        neuron = [(0.2, 0.1 + 0.01 * number), (0.8, 0.4 + 0.01 * number)]
        tables.append(swept({("neuron", None): neuron, ("range", 2.5): [(d, c / 2) for d, c in neuron]}, f"c{number}"))
    matched = matched_erasure(pd.concat(tables), [0.5, 1.0])
    assert len(matched) == 12 * 2 * 2
    found = compare_gates(matched, Bootstrap(0.95, 500, 0))
    assert found["n_concepts"].tolist() == [12, 12]
    for _, row in found.iterrows():
        assert row["complement_accuracy_drop_range"] == pytest.approx(row["complement_accuracy_drop_neuron"] / 2)
        assert row["complement_accuracy_drop_high"] < 0
        assert row["complement_accuracy_drop_wins"] == 12
        assert row["kl_difference"] == pytest.approx(3 * row["complement_accuracy_drop_difference"])


def test_no_difference_is_not_made_into_one() -> None:
    generator = np.random.default_rng(0)
    tables = [
        swept({(g, t): [(0.8, generator.normal())] for g, t in (("neuron", None), ("range", 2.5))}, f"c{n}")
        for n in range(40)
    ]
    found = compare_gates(matched_erasure(pd.concat(tables), [0.5]), Bootstrap(0.95, 500, 0)).iloc[0]
    assert found["complement_accuracy_drop_low"] < 0 < found["complement_accuracy_drop_high"]


def test_a_level_that_one_method_never_reaches_is_counted_not_compared() -> None:
    rows = swept({("neuron", None): [(0.8, 0.3)], ("range", 1.0): [(0.2, 0.01)]}, "c")
    found = compare_gates(matched_erasure(rows, [1.0]), Bootstrap(0.95, 100, 0)).iloc[0]
    assert (found["n_concepts"], found["reached_range"], found["reached_neuron"]) == (0, 0, 1)


def test_a_concept_the_model_never_gets_right_has_no_erasure_to_match() -> None:
    assert matched_erasure(swept({("neuron", None): [(0.0, 0.1)]}, "c", base=0.0), [0.5]).empty


def test_strength_is_the_dose_where_the_number_of_neurons_is_fixed() -> None:
    rows = swept({("neuron", None): [(0.2, 0.1), (0.4, 0.2)]}, "c")
    assert curves(rows)["dose"].tolist() == [1.0, 2.0]
    fixed = rows.assign(n_neurons=5, top_fraction=0.3, strength=[0.5, 1.0])
    assert curves(fixed)["dose"].tolist() == [0.5, 1.0]
    mixing = rows.assign(edit="leace", strength=[0.5, 1.0], n_neurons=16)  # it touches all neurons of the site
    assert curves(mixing)["dose"].tolist() == [0.5, 1.0]
    assert matched_erasure(fixed, [0.5])["complement_accuracy_drop"].tolist() == pytest.approx([0.2])


def test_methods_are_ranked_best_first_against_the_plain_neuron_mask() -> None:
    costs = {("neuron", None): 0.4, ("range", 2.5): 0.1, ("range", 1.0): 0.2}
    tables = []
    for number in range(9):
        table = swept({key: [(0.8, cost + 0.01 * number)] for key, cost in costs.items()}, f"c{number}")
        if number >= 3:  # the best one erases enough in three concepts only
            table.loc[table["tau"] == 2.5, "concept_accuracy_drop"] = 0.1
        tables.append(table)
    found = rank_methods(matched_erasure(pd.concat(tables), [0.5]), Bootstrap(0.95, 300, 0))
    assert found["tau"].fillna(0).tolist() == [1.0, 0.0, 2.5]
    assert found["reached_range"].tolist() == [9, 9, 3]
    best = found.iloc[0]
    assert best["complement_accuracy_drop_difference"] == pytest.approx(0.2 - 0.4)
    assert best["complement_accuracy_drop_wins"] == 9
    assert found.iloc[1]["complement_accuracy_drop_difference"] == 0.0


def test_trap_26_the_operating_point_is_chosen_on_select_and_reported_on_test() -> None:
    rows = swept({("range", 1.0): [(0.5, 0.3), (0.6, 0.2), (0.2, 0.0)]}, "c")
    select = rows.assign(cell_id=["a", "b", "c"])
    test = select.assign(concept_accuracy_drop=[0.9, 0.1, 0.8], complement_confidence_drop=[0.0, 0.7, 0.0])
    found = operating_points(select, test, [0.5, 1.0])
    assert found["level"].tolist() == [0.5, 1.0]
    chosen = found.iloc[0]
    assert chosen["cell_id"] == "b", "the cheapest on select that erases 0.4 there, though on test others look better"
    assert (chosen["concept_accuracy_drop"], chosen["complement_confidence_drop"]) == (0.1, 0.7)
    assert chosen["select_complement_confidence_drop"] == pytest.approx(0.4)
    assert pd.isna(found.iloc[1].get("cell_id"))


def test_the_baseline_is_the_full_strength_mask_of_the_same_ranking() -> None:
    weak = swept({("neuron", None): [(0.2, 0.0), (0.3, 0.0)]}, "c").assign(strength=0.25)
    other = swept({("neuron", None): [(0.4, 0.1), (0.8, 0.2)]}, "c").assign(saliency="probe")
    full = swept({("neuron", None): [(0.4, 0.3), (0.8, 0.4)], ("range", 2.5): [(0.4, 0.1), (0.8, 0.2)]}, "c")
    found = rank_methods(matched_erasure(pd.concat([weak, other, full]), [1.0]), Bootstrap(0.95, 50, 0))
    ranged = found[found["gate"] == "range"].iloc[0]
    assert ranged["complement_accuracy_drop_neuron"] == pytest.approx(0.4)
    probe = found[found["saliency"] == "probe"].iloc[0]
    assert probe["complement_accuracy_drop_difference"] == 0.0


def test_the_exact_p_stands_beside_each_difference() -> None:
    tables = []
    for number in range(6):
        costs = {("neuron", None): [(0.8, 0.3)], ("range", 2.5): [(0.8, 0.1 + 0.01 * number)]}
        tables.append(swept(costs, f"c{number}"))
    matched = matched_erasure(pd.concat(tables), [0.5])
    assert compare_gates(matched, Bootstrap(0.95, 100, 0)).iloc[0]["complement_accuracy_drop_p"] == 2 / 2**6
    ranked = rank_methods(matched, Bootstrap(0.95, 100, 0)).set_index("gate")
    assert ranked.loc["range", "complement_confidence_drop_p"] == 2 / 2**6
    assert np.isnan(ranked.loc["neuron", "complement_confidence_drop_p"]), "the baseline is not held against itself"


def test_trap_42_a_level_that_is_exactly_reached_is_reached() -> None:
    """Accuracies are counts over counts: of every count that equals a level, none is missed by rounding."""
    missed = 0
    for n in (5, 10, 15, 20, 25, 50):
        for base in range(1, n + 1):
            for left in range(base):
                drop, wanted = base / n - left / n, (base - left) / base * (base / n)
                missed += drop < wanted
                found = at_erasure(np.array([drop]), np.array([[1.0]]), wanted)
                assert found.point == 0
                assert found.collateral[0] == pytest.approx(1.0)
    assert missed > 20, "the control: compared as floats, many are missed"


def test_trap_45_a_wide_gap_is_not_interpolated_and_says_so() -> None:
    rows = swept({("neuron", None): [(0.1, 0.1), (0.6, 0.5), (0.62, 0.6)]}, "c", base=1.0)
    found = matched_erasure(rows, [0.05, 0.3, 0.61, 0.9]).set_index("level")
    assert found["read"].tolist() == ["first dose", "first dose", "between doses", "never"]
    assert found["complement_accuracy_drop"].tolist()[:3] == pytest.approx([0.1, 0.5, 0.55])
    assert found["dose"].tolist()[:3] == [1.0, 2.0, 3.0]
    assert found.loc[0.9, "complement_accuracy_drop_bound"] == pytest.approx(0.6), "the worst along the curve"
    assert found.loc[0.3, "complement_accuracy_drop_bound"] == pytest.approx(0.5)


def test_concepts_that_one_method_does_not_reach_count_against_it() -> None:
    """Over the concepts both reach the range looks cheap, because it gives up on the hard ones; over all it is seen."""
    tables = []
    for number in range(8):
        hard = number >= 3
        ranged = (0.1, 0.9) if hard else (0.8, 0.1)
        tables.append(swept({("neuron", None): [(0.8, 0.3)], ("range", 2.5): [ranged]}, f"c{number}"))
    tables.append(swept({("neuron", None): [(0.1, 0.2)], ("range", 2.5): [(0.1, 0.2)]}, "neither"))
    tables.append(swept({("neuron", None): [(0.1, 0.2)], ("range", 2.5): [(0.8, 0.4)]}, "range alone"))
    found = compare_gates(matched_erasure(pd.concat(tables), [0.5]), Bootstrap(0.95, 200, 0)).iloc[0]
    name = "complement_accuracy_drop"
    assert (found["n_concepts"], found[f"{name}_wins"], found["n_all"]) == (3, 3, 10)
    assert found[f"{name}_difference"] == pytest.approx(-0.2)
    by_hand = [0.1 - 0.3] * 3 + [0.9 - 0.3] * 5 + [0.2 - 0.2] + [0.4 - 0.2]
    assert found[f"{name}_all_difference"] == pytest.approx(np.mean(by_hand))
    assert found[f"{name}_all_low"] < np.mean(by_hand) < found[f"{name}_all_high"]
    assert found[f"{name}_wins_all"] == 3 + 1, "reached alone is won though its cost is above the other's bound"
    assert found[f"{name}_ties_all"] == 1
    shown = comparison_table([found.to_dict()], Bootstrap(0.95, 200, 0))
    assert shown.frame["wins_all"].tolist() == ["4 of 10, 1 tied"] * 2
    assert "all concepts" in " ".join(column.heading for column in shown.columns)


def test_differences_of_rounding_alone_are_no_wins() -> None:
    costs = {("neuron", None): [(0.8, 0.3)], ("range", 2.5): [(0.8, 0.1 + 0.2 - 1e-16)]}
    found = compare_gates(matched_erasure(swept(costs, "c"), [0.5]), Bootstrap(0.95, 50, 0)).iloc[0]
    assert found["complement_accuracy_drop_wins"] == 0
    assert found["complement_accuracy_drop_ties_all"] == 1
