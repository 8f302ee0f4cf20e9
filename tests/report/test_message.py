"""The message of a run: its numbers, worked out by hand, what it says of failures, and what it never says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.config.schema import Config
from neuronlens.measures.columns import RESULTS
from neuronlens.measures.comparison import compare_gates, rank_methods
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import matched_erasure
from neuronlens.records import ResultTable
from neuronlens.report.message import message
from neuronlens.report.tables.document import markdown
from neuronlens.report.tables.summary import summarise
from tests.measures.test_matched import swept

CONFIG = ["range.tau=2.5", "evaluation.bootstrap=100"]
Point = tuple[float, float]


def made_up(
    curves: Mapping[tuple[str, float | None], Sequence[Point]],
    concepts: int,
    *,
    levels: Sequence[float] = (0.5,),
    shared: Mapping[tuple[str, float | None], int] | None = None,
    config: Config | None = None,
) -> ResultTable:
    """Return a run's tables; each concept costs a little more than the one before, `shared` methods erase in so many only."""
    parts = []
    for number in range(concepts):
        own = {key: [(drop, cost * (1 + 0.01 * number)) for drop, cost in points] for key, points in curves.items()}
        rows = swept(own, f"c{number}")
        for (_, tau), reached in (shared or {}).items():
            if number >= reached:
                rows.loc[rows["tau"] == tau, "concept_accuracy_drop"] = 0.1
        parts.append(rows)
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.assign(**{key: np.nan for key in RESULTS.in_file if key not in rows})
    matched, bootstrap = matched_erasure(rows, levels), Bootstrap.of(config or compose(CONFIG))
    base = {"accuracy": 0.8, "confidence": 0.7, "n": 100.0, "concepts": float(concepts)}
    comparison, methods = compare_gates(matched, bootstrap), rank_methods(matched, bootstrap)
    return ResultTable(rows, matched, comparison, methods, pd.DataFrame(), base)


BOTH: dict[tuple[str, float | None], list[Point]] = {("neuron", None): [(0.8, 0.3)], ("range", 2.5): [(0.8, 0.1)]}


def test_size_and_evidence_are_those_of_the_numbers() -> None:
    table = made_up(BOTH, 6)
    ours, theirs = (2 * cost * np.mean([1 + 0.01 * number for number in range(6)]) for cost in (0.1, 0.3))
    row = table.comparison.iloc[0]
    ends = [row[f"complement_confidence_drop_{end}"] for end in ("difference", "low", "high")]
    assert ends[0] == pytest.approx(ours - theirs)
    text = message(table, compose(CONFIG))
    assert text.startswith(
        f"Erasing 50 % of a concept costs the other concepts {ours:.3f} confidence under range masks and {theirs:.3f} under "
        f"neuron masks (less in 6 of 6 concepts, difference {ends[0]:+.3f} [{ends[1]:+.3f}, {ends[2]:+.3f}]);"
    )
    assert "their accuracy drops by 0.102 and 0.307 (difference -0.205 [" in text
    assert "never" not in text


def test_accuracy_that_stays_is_called_unmoved_and_confidence_without_a_difference_too() -> None:
    table = made_up({("neuron", None): [(0.8, 0.002)], ("range", 2.5): [(0.8, 0.002)]}, 6)
    text = message(table, compose(CONFIG))
    assert "their accuracy does not move under either." in text
    assert "less in 0 of 6 concepts" in text
    assert ": none is shown)" in text


def test_masks_that_never_erase_as_much_are_named_with_their_concepts() -> None:
    more = {("range", 1.0): [(0.8, 0.05)], ("range", 1.5): [(0.8, 0.05)]}
    table = made_up(BOTH | more, 6, shared={("range", 1.0): 2, ("range", 1.5): 5})
    text = message(table, compose(CONFIG))
    assert "Range masks of tau 1 never erase 50 % in 4 concepts, those of tau 1.5 in 1." in text
    assert "Neuron masks never" not in text
    assert text.endswith("Shown is tau 2.5; the tables hold the other settings.")


def test_a_level_that_no_concept_reaches_under_both_is_replaced_by_the_highest_that_one_does() -> None:
    table = made_up({("neuron", None): [(0.8, 0.3)], ("range", 2.5): [(0.2, 0.1)]}, 6, levels=(0.2, 0.6))
    text = message(table, compose(CONFIG))
    assert text.startswith("Erasing 20 % of a concept costs")
    assert "Range masks of tau 2.5 never erase 60 % in 6 concepts." in text
    never = made_up({("neuron", None): [(0.8, 0.3)], ("range", 2.5): [(0.01, 0.1)]}, 6)
    assert message(never, compose(CONFIG)) == "Range masks of tau 2.5 never erase 50 % in 6 concepts."


@pytest.mark.parametrize("few", [1, 2, 4])
def test_trap_41_the_message_needs_five_concepts(few: int) -> None:
    assert "difference -" in message(made_up(BOTH, 5), compose(CONFIG))
    text = message(made_up(BOTH, few), compose(CONFIG))
    assert "fewer than 5, this shows no difference" in text
    assert "less in" not in text
    assert "[" not in text


def test_without_resamples_there_is_no_interval_and_no_claim() -> None:
    config = compose([*CONFIG, "evaluation.bootstrap=0"])
    text = message(made_up(BOTH, 5, config=config), config)
    assert "no difference is claimed" in text
    assert "[" not in text


@pytest.mark.parametrize(("gate", "own", "other"), [("range", 0.1, "neuron"), ("neuron", 0.3, "range")])
def test_a_run_of_one_mask_gets_its_drops(gate: str, own: float, other: str) -> None:
    table = made_up({key: points for key, points in BOTH.items() if key[0] == gate}, 5)
    text = message(table, compose(CONFIG))
    confidence, accuracy = (cost * own * 1.02 for cost in (2, 1))
    assert text.startswith(f"Erasing 50 % of a concept costs the other concepts {confidence:.3f} [")
    assert f"confidence and {accuracy:.3f} [" in text
    assert f"under {gate} masks (mean of 5 of 5 concepts). No {other} masks were swept to compare with." in text


def test_a_mask_that_erases_nothing_says_how_much_it_does() -> None:
    table = made_up({("neuron", None): [(0.04, 0.3)]}, 5)
    text = message(table, compose(CONFIG))
    assert text == "Neuron masks never erase 50 % of a concept: at most 0.040 of its accuracy."


def test_an_infinite_tau_is_the_neuron_mask_and_no_comparison() -> None:
    table = made_up(BOTH | {("range", np.inf): [(0.8, 0.3)]}, 5)
    assert table.comparison["tau"].tolist() == [2.5]
    assert "inf" in {str(tau) for tau in table.methods["tau"]}, "it stays a method"
    alone = made_up({("neuron", None): [(0.8, 0.3)], ("range", np.inf): [(0.8, 0.3)]}, 5)
    assert "difference" not in message(alone, compose([*CONFIG, "range.tau=inf"]))


def test_nothing_known_is_nothing_to_erase() -> None:
    table = made_up(BOTH, 5)
    empty = pd.DataFrame()
    nothing = ResultTable(table.rows, empty, empty, empty, empty, table.base)
    assert (
        message(nothing, compose(CONFIG)) == "The unedited model gets no concept right, so there is nothing to erase."
    )


@pytest.mark.parametrize("concepts", [2, 6])
def test_the_same_sentence_stands_in_every_file_and_counts_no_comparisons(concepts: int) -> None:
    table, config = made_up(BOTH, concepts), compose(CONFIG)
    text = message(table, config)
    assert summarise(table, config)["message"] == text
    assert text in markdown(table, config).replace("\\", "")
    for word in ("comparisons", "could not be compared"):
        assert word not in markdown(table, config)
