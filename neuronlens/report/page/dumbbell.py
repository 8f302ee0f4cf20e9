"""The chart that answers first: what both masks cost the others at each level of erasure, beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.schema import Config
from neuronlens.measures import naming
from neuronlens.measures.columns import COST, METHOD, RESULTS, WHERE
from neuronlens.measures.comparison import compare_pairs
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.headline import headline_row
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.report.page.values import Json
from neuronlens.report.palette import NEURON_COLOUR, RANGE_COLOUR

MOST_EDITS = 3
"""Edits that are shown; the table below has all."""
EDIT = [knob for knob in METHOD if knob not in (*RESULTS.keys("range"), *WHERE) and knob != "saliency"]
"""What sets the groups of the chart apart."""


@dataclass(frozen=True)
class Axis:
    """A scale of costs, in the same unit as the costs."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return where a value stands, in percent of the axis from its left end."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    @property
    def ticks(self) -> list[Json]:
        """Three to six round values with their place."""
        rough = (self.high - self.low) / 4
        power = 10.0 ** np.floor(np.log10(rough))
        step = power * min((1, 2, 5, 10), key=lambda times: abs(times * power - rough))
        first = np.ceil(self.low / step - 1e-9) * step
        values = np.arange(first, self.high + 1e-9 * step, step)
        return [{"text": f"{value:.6g}".replace("-", "−"), "at": self.place(float(value))} for value in values + 0.0]


def dumbbell(table: ResultTable, config: Config) -> Json | None:
    """Return the rows of the chart by edit, the axis under them and its legend; None where nothing was compared.

    Shown are the place, ranking, range and tau of the run's message, every level, and at most `MOST_EDITS` edits. A mean and
    its interval are over the concepts that both masks erase as much, those of the difference in the table.
    """
    chosen = headline_row(table.comparison, config)
    if chosen is None:
        return None
    rows = table.comparison[table.comparison["control"].isna()]
    for knob in (*WHERE, "saliency", "range", "tau"):
        rows = rows[rows[knob].isna() if pd.isna(chosen[knob]) else rows[knob] == chosen[knob]]
    bootstrap = Bootstrap.of(config)
    groups: list[Json] = []
    for key, own in list(rows.groupby(EDIT, dropna=False, sort=False))[:MOST_EDITS]:
        edit = dict(zip(EDIT, key, strict=True))
        lines = [_line(row, table.matched, bootstrap) for row in own.sort_values("level").to_dict("records")]
        groups.append({"name": naming.edit(edit, EDIT).replace("_", " "), "lines": lines})
    ends = [end for group in groups for line in group["lines"] for end in line["ends"]]
    axis = Axis(min(0.0, *ends), max(0.01, *ends) * 1.02) if ends else Axis(0.0, 1.0)
    for group in groups:
        for line in group["lines"]:
            line["marks"] = [_mark(axis, **mark) for mark in line["marks"]]
    about = naming.words(chosen, [knob for knob in ("layers", "range", "tau", "saliency") if knob in chosen])
    return {
        "groups": groups,
        "ticks": axis.ticks,
        "zero": axis.place(0.0),
        "about": ", ".join(about),
        "few": _range_of([line["concepts"] for group in groups for line in group["lines"] if line.get("concepts")]),
        "legend": [("range mask", RANGE_COLOUR, "round"), ("neuron mask", NEURON_COLOUR, "square")],
    }


def _line(row: Mapping[Any, Any], matched: pd.DataFrame, bootstrap: Bootstrap) -> Json:
    """Return one level of one edit; its marks are still in the unit of the costs."""
    line: Json = {"level": f"{100 * row['level']:g} %", "marks": [], "ends": [], "text": "", "never": ""}
    if not row["n_concepts"]:
        line["never"] = (
            f"never by both: by range masks in {row['reached_range']} concepts, by neuron masks in {row['reached_neuron']}"
        )
        return line
    pairs = compare_pairs(matched, row)
    for name, colour, shape in (("range", RANGE_COLOUR, "round"), ("neuron", NEURON_COLOUR, "square")):
        estimate = bootstrap.of_mean(pairs[name].to_numpy(dtype=float))
        line["marks"].append({"estimate": estimate, "colour": colour, "shape": shape})
        line["ends"] += [float(end) for end in estimate if np.isfinite(end)]
    n, of = row["n_concepts"], row.get("n_all", row["n_concepts"])
    line["text"] = f"{row[f'{COST}_range']:.3f} against {row[f'{COST}_neuron']:.3f}".replace("-", "−")
    line["concepts"] = "" if n == of else f"{n} of {of} concepts"
    return line


def _range_of(counts: Sequence[str]) -> str:
    """Return counts of concepts as one: the lowest to the highest of them; nothing of none."""
    found = sorted(set(counts), key=lambda text: int(text.partition(" ")[0]))
    return "" if not found else found[0] if len(found) == 1 else f"{found[0].partition(' ')[0]} to {found[-1]}"


def _mark(axis: Axis, estimate: Estimate, colour: str, shape: str) -> Json:
    ends = (estimate.low, estimate.high) if np.isfinite(estimate.low) else (estimate.value, estimate.value)
    low, high = (axis.place(float(end)) for end in ends)
    return {
        "at": axis.place(float(estimate.value)),
        "low": low,
        "width": round(high - low, 2),
        "colour": colour,
        "shape": shape,
    }
