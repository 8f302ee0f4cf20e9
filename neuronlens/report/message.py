"""The message of a run: one sentence with size, evidence and failure, the same wherever a run is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.schema import Config
from neuronlens.measures import naming
from neuronlens.measures.columns import COST, CURVE, METHOD, RESULTS, WHERE
from neuronlens.measures.declaration import leading
from neuronlens.measures.headline import headline_row
from neuronlens.measures.unedited import all_skipped
from neuronlens.measures.verdict import FEWEST_CONCEPTS, TOO_FEW, shown_side, without_intervals
from neuronlens.records import ResultTable

ACCURACY = "complement_accuracy_drop"
STILL = 0.01
"""An accuracy does not move where both masks change it by less than this, and their difference's interval lies within it."""
MASKS = {"range": "range masks", "neuron": "neuron masks"}
SWEPT = [knob for knob in METHOD if knob not in RESULTS.keys("range")]
"""What a range mask shares with the neuron mask that it is held against."""


def message(table: ResultTable, config: Config) -> str:
    """Return what the run shows in a sentence or two: what erasing costs the others under both masks, and who fails.

    The comparison is the one that the config chose (`measures.headline`), never the best one. No side is named over fewer
    than `FEWEST_CONCEPTS` concepts. A run without a comparison states its own drops.
    """
    row = headline_row(table.comparison, config)
    if row is None:
        return _alone(table, config)
    if not row["n_concepts"]:
        row = _reached_by_both(table.comparison, row) or row
    found = [_costs(row)] if row["n_concepts"] else []
    found += [*_failures(table.comparison, row), *_scope(table.comparison, row)]
    return " ".join(found)


def _costs(row: Mapping[str, Any]) -> str:
    """Return what both masks cost the others where they erase the same, and how sure the difference is."""
    n = row["n_concepts"]
    costs = (
        f"Erasing {_share(row['level'])} of a concept costs the other concepts {row[f'{COST}_range']:.3f} confidence under "
        f"range masks and {row[f'{COST}_neuron']:.3f} under neuron masks"
    )
    low, high = row[f"{COST}_low"], row[f"{COST}_high"]
    side = shown_side(low, high, n)
    if side == TOO_FEW:
        concepts = f"{n} concept{'s' if n > 1 else ''}"
        return f"{costs}; over {concepts}, fewer than {FEWEST_CONCEPTS}, this shows no difference. {_accuracy(row, n)}"
    wins = f"less in {row[f'{COST}_wins']} of {n} concepts"
    if without_intervals(low, n):
        evidence = f"({wins}; without intervals, evaluation.bootstrap=0, no difference is claimed)"
    else:
        evidence = f"({wins}, difference {row[f'{COST}_difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        evidence += ")" if side != "not shown" else ": none is shown)"
    return f"{costs} {evidence}; {_accuracy(row, n, first='their')}"


def _accuracy(row: Mapping[str, Any], n: int, first: str = "Their") -> str:
    """Return what happens to the others' accuracy, as the rest of a sentence."""
    ours, theirs = row[f"{ACCURACY}_range"], row[f"{ACCURACY}_neuron"]
    ends = [row[f"{ACCURACY}_{end}"] for end in ("difference", "low", "high")]
    if max(abs(value) for value in (ours, theirs, *ends) if np.isfinite(value)) < STILL:
        return f"{first} accuracy does not move under either."
    drops = f"{first} accuracy drops by {ours:.3f} and {theirs:.3f}"
    if n < FEWEST_CONCEPTS or not np.isfinite(ends[1]):
        return f"{drops}."
    return f"{drops} (difference {ends[0]:+.3f} [{ends[1]:+.3f}, {ends[2]:+.3f}])."


def _reached_by_both(comparison: pd.DataFrame, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the same comparison at the highest level that some concept reaches under both masks; None where there is none."""
    own = _same(comparison, row, [*METHOD])
    reached = own[own["n_concepts"] > 0]
    return None if reached.empty else dict(reached.loc[reached["level"].idxmax()])


def _failures(comparison: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    """Give which masks never erase as much, at this level or, where both do so everywhere, at the next where one fails."""
    own = _same(comparison, row, [*SWEPT, "range", "gate"])
    if "n_all" not in own:  # a run of an older version
        return
    for level, there in own[own["level"] >= row["level"]].groupby("level"):
        missed = there["n_all"] - there["reached_range"]
        lines = zip(there[missed > 0].to_dict("records"), missed[missed > 0], strict=True)
        ranges = [(" of ".join(["", *naming.words(line, ["tau"])]), int(count)) for line, count in lines]
        masks = int((there["n_all"] - there["reached_neuron"]).max())
        if ranges:
            tau, count = ranges[0]
            more = "".join(f", those{tau} in {count}" for tau, count in ranges[1:])
            yield f"{_never(f'Range masks{tau}', level, count)}{more}."
        if masks > 0:
            yield f"{_never('Neuron masks', level, masks)}."
        if ranges or masks > 0:
            return


def _never(who: str, level: Any, concepts: int) -> str:
    return f"{who} never erase {_share(level)} in {concepts} concept{'s' if concepts > 1 else ''}"


def _scope(methods: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    """Give the settings that the sentence is about, where the run swept others too."""
    apart = naming.setting_apart(methods[methods["control"].isna()])
    order = leading(apart, *WHERE, "edit", "range", "tau", "saliency")
    named = naming.words(row, [knob for knob in order if knob not in ("gate", "site")])
    if named:
        yield f"Shown is {', '.join(named)}; the tables hold the other settings."


def _alone(table: ResultTable, config: Config) -> str:
    """Return what the configured method costs by itself, where range and neuron masks were not both swept."""
    nothing = all_skipped(table.rows)
    if nothing:
        return nothing[0]
    row = headline_row(table.methods, config)
    if row is None and len(table.methods):
        return "Controls alone were run: there is no method to hold them against. Next: sweep.control=[none,...]."
    if row is None:
        return "The unedited model gets no concept right, so there is nothing to erase."
    who = MASKS[row["gate"]] if row["gate"] in MASKS else naming.method(row)
    own = _same(table.methods, row, [*METHOD])
    reached = own[own["reached_range"] > 0]
    if reached.empty:
        edited = _same(RESULTS.completed(table.rows), row, CURVE)
        most = edited.groupby("concept")["concept_accuracy_drop"].max().mean()
        return f"{who.capitalize()} never erase {_share(own['level'].min())} of a concept: at most {most:.3f} of its accuracy."
    if not row["reached_range"]:
        row = dict(reached.loc[reached["level"].idxmax()])
    n = int(row["reached_range"])
    drops = [_with_interval(row, name, n) for name in (COST, ACCURACY)]
    sentence = (
        f"Erasing {_share(row['level'])} of a concept costs the other concepts {drops[0]} confidence and {drops[1]} accuracy "
        f"under {who} (mean of {n} of {row['concepts']} concepts). "
    )
    gates = set(table.methods["gate"])
    other = next((MASKS[gate] for gate in MASKS if gate not in gates), None)
    if gates & set(MASKS) and other:
        sentence += f"No {other} were swept to compare with. Next: sweep.gate=[range,neuron]."
    return " ".join([sentence.rstrip(), *_scope(table.methods, row)])


def _with_interval(row: Mapping[str, Any], name: str, n: int) -> str:
    low, high = row[f"{name}_own_low"], row[f"{name}_own_high"]
    bounds = f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) and n >= FEWEST_CONCEPTS else ""
    return f"{row[name]:.3f}{bounds}"


def _same(table: pd.DataFrame, row: Mapping[str, Any], knobs: Sequence[str]) -> pd.DataFrame:
    """Return the rows that agree with one in these knobs, null with null."""
    for knob in knobs:
        table = table[table[knob].isna() if pd.isna(row[knob]) else table[knob] == row[knob]]
    return table


def _share(level: Any) -> str:
    return f"{100 * level:g} %"
