"""Results as tables: Markdown for the run folder, rich for the console."""

from __future__ import annotations

from typing import Any

import pandas as pd
from rich.table import Table

from neuronlens.records import ResultTable

HEADINGS = ("edit", "erased", "range", "neuron", "range - neuron [95 %]", "range spares more in")


def headline(table: ResultTable, tau: float | None) -> list[dict[str, Any]]:
    """Return the comparison's rows at one tau, chosen before the run: the configured one where it was swept.

    The tau is never picked by its result on the test split (TRAPS 26).
    """
    comparison = table.comparison
    if comparison.empty:
        return []
    taus = comparison["tau"].dropna().unique()
    if tau in taus:
        comparison = comparison[comparison["tau"] == tau]
    return comparison.to_dict("records")  # type: ignore[return-value]


def headline_cells(row: dict[str, Any], several_layers: bool) -> list[str]:
    """Return one comparison row as text under `HEADINGS`."""
    name = row["edit"] + (f" (tau {row['tau']:g})" if pd.notna(row["tau"]) else "")
    if several_layers:
        name = f"layer {row['layer']}, {name}"
    if not row["n_concepts"]:
        reached = f"range in {row['reached_range']}, neuron in {row['reached_neuron']} concepts"
        return [name, f"{row['level']:.0%}", "-", "-", f"not compared: reached by {reached}", "-"]
    measure = "complement_accuracy_drop"
    difference = f"{row[f'{measure}_difference']:+.3f} [{row[f'{measure}_low']:+.3f}, {row[f'{measure}_high']:+.3f}]"
    wins = f"{row[f'{measure}_wins']} of {row['n_concepts']} concepts"
    return [
        name,
        f"{row['level']:.0%}",
        f"{row[f'{measure}_range']:.3f}",
        f"{row[f'{measure}_neuron']:.3f}",
        difference,
        wins,
    ]


def console_table(table: ResultTable, tau: float | None) -> Table:
    """Return the matched-erasure comparison for a terminal."""
    shown = Table(
        title="Collateral (complement accuracy drop) at the same share of the concept erased", title_justify="left"
    )
    for place, heading in enumerate(HEADINGS):
        shown.add_column(heading, justify="left" if place == 0 else "right")
    rows = headline(table, tau)
    several = len({row["layer"] for row in rows}) > 1
    for row in rows:
        shown.add_row(*headline_cells(row, several))
    return shown


def verdict(table: ResultTable, tau: float | None) -> str:
    """Return one sentence on who spares more at matched erasure, whichever wins."""
    rows = [row for row in headline(table, tau) if row["n_concepts"]]
    if not rows:
        return "Range and neuron masking could not be compared: no erasure level was reached by both."
    lower = sum(row["complement_accuracy_drop_high"] < 0 for row in rows)
    higher = sum(row["complement_accuracy_drop_low"] > 0 for row in rows)
    return (
        f"At matched erasure, range masking harms the other concepts less than neuron masking in {lower} of {len(rows)} "
        f"comparisons, more in {higher}, and the interval includes no difference in {len(rows) - lower - higher}."
    )


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
    parts = [
        "# Results",
        f"Unedited model: accuracy {base['accuracy']:.3f}, gold confidence {base['confidence']:.3f} over "
        f"{base['n']:.0f} test samples of {base['concepts']:.0f} concepts.",
        "## Collateral at matched erasure",
        verdict(table, tau),
        "`erased` is the share of the concept's base accuracy; `range` and `neuron` the complement accuracy drop there, "
        "mean over the concepts that both reach; a negative difference means that the range spares more.",
    ]
    rows = table.comparison.to_dict("records") if not table.comparison.empty else []
    several = len({row["layer"] for row in rows}) > 1
    parts.append(markdown_table(list(HEADINGS), [headline_cells(row, several) for row in rows]))  # type: ignore[arg-type]
    parts += ["## Every cell, mean over concepts", _means(table.rows)]
    skipped = table.rows[table.rows["skipped"].notna()]
    if len(skipped):
        reasons = [
            [str(row["concept"]), str(row["skipped"])] for _, row in skipped.drop_duplicates("concept").iterrows()
        ]
        parts += ["## Skipped", markdown_table(["concept", "reason"], reasons)]
    return "\n\n".join(parts) + "\n"


def _means(rows: pd.DataFrame) -> str:
    knobs = ["layer", "edit", "gate", "tau", "strength", "top_fraction"]
    measures = ["concept_accuracy_drop", "complement_accuracy_drop", "concept_confidence_drop"]
    measures += ["complement_confidence_drop", "selectivity", "kl"]
    means = rows[rows["edit"] != "none"].groupby(knobs, dropna=False, sort=True)[measures].mean().reset_index()
    body = []
    for _, row in means.iterrows():
        shown = [
            "-" if pd.isna(row[knob]) else (f"{row[knob]:g}" if knob != "edit" and knob != "gate" else row[knob])
            for knob in knobs
        ]
        body.append(shown + [f"{row[name]:.3f}" for name in measures])
    return markdown_table([name.replace("_", " ") for name in (*knobs, *measures)], body)
