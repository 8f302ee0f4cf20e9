"""Results as tables: Markdown for the run folder, rich for the console."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from neuronlens.measures.matched import method_name, plain_mask
from neuronlens.records import ResultTable
from neuronlens.report.general import COLUMNS, general_cells, general_means

COLLATERAL = {"complement_accuracy_drop": "accuracy", "complement_confidence_drop": "confidence"}
HEADINGS = ("edit", "erased", "of the others", "range", "neuron", "difference [95 %]", "range wins in")


def headline(table: ResultTable, tau: float | None) -> list[dict[str, Any]]:
    """Return the comparison's rows at one tau, chosen before the run: the configured one where it was swept.

    The tau is never picked by its result on the test split (TRAPS 26).
    """
    comparison = table.comparison
    if comparison.empty:
        return []
    if tau in comparison["tau"].dropna().unique():
        comparison = comparison[(comparison["tau"] == tau) | comparison["tau"].isna()]
    return comparison.to_dict("records")


def comparison_cells(rows: list[dict[str, Any]], *, with_tau: bool) -> list[list[str]]:
    """Return comparison rows as text under `HEADINGS`, one line per collateral measure."""
    several = len({row["layers"] for row in rows}) > 1
    ranges, saliencies = (len({row[knob] for row in rows}) for knob in ("range", "saliency"))
    lines = []
    for row in rows:
        name = row["edit"] + f", {row['range']}" * (ranges > 1)
        name += f", tau {row['tau']:g}" if with_tau and pd.notna(row["tau"]) else ""
        name += f", {row['saliency']}" * (saliencies > 1) + (f", {row['control']}" if pd.notna(row["control"]) else "")
        name += f", x {row['strength']:g}" if pd.notna(row["strength"]) and row["strength"] != 1 else ""
        name = f"layer {row['layers']}, {name}" if several else name
        for measure, spoken in COLLATERAL.items():
            lines.append([name, f"{row['level']:.0%}", spoken, *_difference(row, measure)])
    return lines


def _difference(row: dict[str, Any], measure: str) -> list[str]:
    if not row["n_concepts"]:
        return ["-", "-", f"reached by range in {row['reached_range']}, by neuron in {row['reached_neuron']}", "-"]
    low, high = row[f"{measure}_low"], row[f"{measure}_high"]
    return [
        f"{row[f'{measure}_range']:.3f}",
        f"{row[f'{measure}_neuron']:.3f}",
        f"{row[f'{measure}_difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
        f"{row[f'{measure}_wins']} of {row['n_concepts']}",
    ]


def console_table(table: ResultTable, tau: float | None) -> Table:
    """Return the matched-erasure comparison for a terminal."""
    rows = headline(table, tau)
    taus = {row["tau"] for row in rows}
    width = f" (tau {taus.pop():g})" if len(taus) == 1 and pd.notna(next(iter(taus))) else ""
    shown = Table(
        title=f"What it costs the other concepts when the same share of a concept is erased{width}",
        title_justify="left",
    )
    for place, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="left" if place in (0, 2) else "right", no_wrap=True)
    before = ""
    for line in comparison_cells(rows, with_tau=not width):
        if before not in ("", line[0]):
            shown.add_section()
        before = line[0]
        shown.add_row(*line)
    return shown


def verdict(table: ResultTable, tau: float | None) -> str:
    """Return a sentence per collateral measure on who spares more at matched erasure, whichever wins."""
    rows = [row for row in headline(table, tau) if row["n_concepts"]]
    if not rows:
        return "Range and neuron masking could not be compared: no erasure level was reached by both."
    if any(np.isnan(row[f"{measure}_low"]) for row in rows for measure in COLLATERAL):
        return "No intervals were computed (evaluation.bootstrap=0), so no difference is claimed."
    told = []
    for measure, spoken in COLLATERAL.items():
        less = sum(row[f"{measure}_high"] < 0 for row in rows)
        more = sum(row[f"{measure}_low"] > 0 for row in rows)
        told.append(
            f"{spoken}: range masking costs less in {less} of {len(rows)} comparisons, more in {more}, "
            f"no difference shown in {len(rows) - less - more}"
        )
    return "At matched erasure, in the others' " + "; in their ".join(told) + "."


METHOD_HEADINGS = ("method", "erased", "in", "accuracy", "confidence", "KL", "confidence - mask [95 %]", "wins")


def method_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return method rows as text under `METHOD_HEADINGS`; the order is the table's, best first."""
    saliencies = len({row["saliency"] for row in rows if pd.notna(row["saliency"])}) > 1
    lines = []
    for row in rows:
        name = f"{row['layers']}: {method_name(row)}"
        name += f", {row['saliency']}" if saliencies and pd.notna(row["saliency"]) else ""
        reached = f"{row['reached_range']} of {row['concepts']}"
        if not row["reached_range"]:
            lines.append([name, f"{row['level']:.0%}", reached, "-", "-", "-", "-", "-"])
            continue
        own = [f"{row[measure]:.3f}" for measure in (*COLLATERAL, "kl")]
        measure = "complement_confidence_drop"
        difference, wins = "-", "-"
        if row["n_concepts"]:
            low, high = row[f"{measure}_low"], row[f"{measure}_high"]
            difference = f"{row[f'{measure}_difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
            wins = f"{row[f'{measure}_wins']} of {row['n_concepts']}"
        lines.append([name, f"{row['level']:.0%}", reached, *own, difference, wins])
    return lines


def methods_table(table: ResultTable, best: int = 6) -> Table:
    """Return, for each place and level, the best methods at matched erasure and the plain neuron mask, for a terminal."""
    title = "Where each method erases the same share of a concept: what it costs the others, best first"
    shown = Table(title=title, title_justify="left")
    for place, heading in enumerate(METHOD_HEADINGS):
        is_name = place == 0
        shown.add_column(
            heading, justify="left" if is_name else "right", no_wrap=not is_name, min_width=30 if is_name else None
        )
    for _, group in table.methods.groupby(["layers", "site", "level"], sort=False):
        kept = group[(np.arange(len(group)) < best) | plain_mask(group)]
        for line in method_cells(kept.to_dict("records")):
            shown.add_row(*line)
        shown.add_section()
    return shown


def _summary_name(row: dict[str, Any]) -> str:
    knobs = ("saliency", "range", "tau", "edit", "strength", "control")
    return "/".join(
        _knob(row[knob]) for knob in knobs if pd.notna(row[knob]) and (knob != "strength" or row[knob] != 1)
    )


def summarise(table: ResultTable, tau: float | None, concepts: int) -> dict[str, Any]:
    """Return the numbers of `summary.json`, by which runs are sorted."""
    names = ("range", "neuron", "difference", "low", "high", "wins")
    able = [] if table.general is None else _general(table.general).to_dict("records")
    return {
        "base": dict(table.base),
        "cells_per_concept": len(table.rows) // concepts - 1,
        "skipped": int(table.rows["skipped"].notna().sum()),
        "verdict": verdict(table, tau),
        "matched_erasure": {
            f"{row['site']}.{row['layers']}/{_summary_name(row)}/{row['level']:g}/{spoken}": {
                name: row[f"{measure}_{name}"] for name in names
            }
            for row in headline(table, tau)
            for measure, spoken in COLLATERAL.items()
        },
        "general": [{name: None if pd.isna(value) else value for name, value in row.items()} for row in able],
    }


def _general(general: pd.DataFrame) -> pd.DataFrame:
    return general_means(general, level=0.95, resamples=1000, seed=0)


def markdown_table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table.

    >>> print(markdown_table(["a"], [["1"]]))
    | a |
    |---|
    | 1 |
    """
    lines = ["| " + " | ".join(headings) + " |", "|" + "|".join("---" for _ in headings) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def markdown(table: ResultTable, tau: float | None) -> str:
    """Return `table.md`: the base model, the comparison at matched erasure, and the means over concepts of every cell."""
    base = table.base
    rows = table.comparison.to_dict("records") if not table.comparison.empty else []
    parts = [
        "# Results",
        f"Unedited model: accuracy {base['accuracy']:.3f}, gold confidence {base['confidence']:.3f} over "
        f"{base['n']:.0f} test samples of {base['concepts']:.0f} concepts.",
        "## Collateral at matched erasure",
        verdict(table, tau),
        "`erased` is the share of the concept's base accuracy that is gone; `range` and `neuron` are the drop of the other "
        "concepts' accuracy or gold confidence there, means over the concepts that both methods bring so far; a negative "
        "difference means that the range spares more. Intervals are bootstrapped over concepts, paired.",
        markdown_table(list(HEADINGS), comparison_cells(rows, with_tau=True)),
        "## Every method at matched erasure, best first",
        "Means over the concepts `in` which the method erases that much; differences are paired with the plain neuron mask "
        "(zero) over the concepts that both reach. Methods that reach fewer than half the concepts stand last.",
        markdown_table(list(METHOD_HEADINGS), method_cells(table.methods.to_dict("records"))),
        *_operating_points(table.operating_points),
        "## Every cell, mean over concepts",
        _means(table.rows),
    ]
    skipped = table.rows[table.rows["skipped"].notna()]
    if len(skipped):
        reasons = [
            [str(row["concept"]), str(row["skipped"])] for _, row in skipped.drop_duplicates("concept").iterrows()
        ]
        parts += ["## Skipped", markdown_table(["concept", "reason"], reasons)]
    if table.general is not None and len(table.general):
        parts += [
            "## General ability",
            "Mean over the concepts, each under its own edit; the interval is over concepts.",
        ]
        parts.append(markdown_table(COLUMNS, general_cells(_general(table.general))))
    return "\n\n".join(parts) + "\n"


def _operating_points(points: pd.DataFrame) -> list[str]:
    if points.empty:
        return []
    found = points[points["cell_id"].notna()] if "cell_id" in points else points.iloc[:0]
    knobs = ["layers", "saliency", "range", "gate", "edit", "control", "level"]
    lines = []
    for key, group in points.groupby(knobs, dropna=False, sort=False):
        own = group[group.index.isin(found.index)]
        values = [f"{own[name].mean():.3f}" if len(own) else "-" for name in ("tau", "top_fraction", "strength")]
        values += [f"{own[name].mean():.3f}" if len(own) else "-" for name in _CHOSEN]
        lines.append([*(_knob(value) for value in key), f"{len(own)} of {len(group)}", *values])
    headings = [
        *knobs,
        "chosen in",
        "tau",
        "top fraction",
        "strength",
        "erased on select",
        *(n.replace("_", " ") for n in _CHOSEN[1:]),
    ]
    return [
        "## Operating points chosen on select, figures on test",
        "For each concept the cell that erases the level on select at the lowest cost there; means over concepts.",
        markdown_table(headings, lines),
    ]


_CHOSEN = [
    "select_concept_accuracy_drop",
    "concept_accuracy_drop",
    "complement_accuracy_drop",
    "complement_confidence_drop",
    "kl",
]


def _means(rows: pd.DataFrame) -> str:
    knobs = ["layers", "saliency", "edit", "gate", "range", "tau", "control", "strength", "top_fraction"]
    measures = ["concept_accuracy_drop", "complement_accuracy_drop", "concept_confidence_drop"]
    measures += ["complement_confidence_drop", "selectivity", "kl"]
    means = rows[rows["edit"] != "none"].groupby(knobs, dropna=False, sort=True)[measures].mean().reset_index()
    body = [
        [_knob(row[knob]) for knob in knobs] + [f"{row[name]:.3f}" for name in measures]
        for row in means.to_dict("records")
    ]
    return markdown_table([name.replace("_", " ") for name in (*knobs, *measures)], body)


def _knob(value: Any) -> str:
    if isinstance(value, str):
        return value.replace("|", "/")
    return "-" if pd.isna(value) else f"{value:g}"
