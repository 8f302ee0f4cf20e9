"""Range mask against neuron mask at matched erasure: the rows that count, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.report.p_values import NOTE, p_columns, with_holm
from neuronlens.report.table import Column, Table, frame_of

EXPLAINED = (
    "Erased: the share of the concept's base accuracy that is gone. Range and neuron: how far the other concepts' accuracy or "
    "gold confidence drops there, means over the concepts that both masks reach; a negative difference means that the range "
    "spares more."
)
OVER_ALL = (
    " Over all concepts: one that a method does not erase as much counts with the worst collateral along that method's curve, "
    "a lower bound of its cost, and is lost by it; where neither erases as much the two tie."
)
INTERVALS = " Intervals are over concepts, paired."
WIDE = ("p", "all", "wins_all")
"""Columns that a terminal has no room for."""


def headline(table: ResultTable, tau: float | None) -> list[dict[str, Any]]:
    """Return the comparison's rows at one tau, chosen before the run: the configured one where it was swept.

    The tau is never picked by its result on the test split (TRAPS 26).
    """
    return at_tau(table.comparison, tau)


def at_tau(comparison: pd.DataFrame | None, tau: float | None) -> list[dict[str, Any]]:
    """Return a comparison's rows at one tau where it was swept, all of them where it was not; none of no comparison."""
    if comparison is None or comparison.empty:
        return []
    if tau in comparison["tau"].dropna().unique():
        comparison = comparison[(comparison["tau"] == tau) | comparison["tau"].isna()]
    return comparison.to_dict("records")


def comparison_table(rows: list[dict[str, Any]], bootstrap: Bootstrap, *, with_tau: bool = True) -> Table:
    """Return comparison rows as a table, one line per measure of what the other concepts pay.

    Args:
        rows: such as `headline` gives.
        with_tau: whether an edit's name holds its tau even where all are equal.
    """
    named = [*naming.EDIT_KNOBS, *naming.setting_apart(pd.DataFrame(rows)), *(["tau"] if with_tau else [])]
    lines = [
        {"edit": naming.edit(row, named), "level": row["level"], "measure": naming.measure(measure, short=True)}
        | _difference(row, measure)
        | over_all(row, measure)
        for row in rows
        for measure in DROPS
    ]
    columns = (
        Column("edit", "edit"),
        Column("level", "erased", format=".0%"),
        Column("measure", "of the others"),
        Column("range", "range", format=".3f"),
        Column("neuron", "neuron", format=".3f"),
        Column("difference", bootstrap.heading("difference"), format="+.3f", interval=True, otherwise="unreached"),
        *p_columns(),
        Column("wins", "range wins in", align="right"),
        *(over_all_columns("difference", bootstrap) if unreached_somewhere(rows) else ()),
    )
    caption = EXPLAINED + (OVER_ALL if unreached_somewhere(rows) else "") + (INTERVALS if bootstrap.resamples else "")
    frame = with_holm(frame_of(lines, columns, "n_concepts"), "n_concepts")
    return Table("comparison", "Collateral at matched erasure", caption, frame, columns, notes=(NOTE,))


def _difference(row: dict[str, Any], measure: str) -> dict[str, Any]:
    """Return what both masks cost, and their difference; nothing but who reached the level where no concept did in both."""
    if not row["n_concepts"]:
        reached = f"reached by range in {row['reached_range']}, by neuron in {row['reached_neuron']}"
        return {"unreached": reached}
    ends = (row[f"{measure}_{end}"] for end in ("difference", "low", "high"))
    return {
        "range": row[f"{measure}_range"],
        "neuron": row[f"{measure}_neuron"],
        **Estimate(*ends).columns("difference"),
        "p": row.get(f"{measure}_p"),
        "n_concepts": row["n_concepts"],
        "wins": f"{row[f'{measure}_wins']} of {row['n_concepts']}",
    }


def unreached_somewhere(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether some comparison leaves out a concept that one of both does not erase as much."""
    return any(row.get("n_all", 0) > row["n_concepts"] for row in rows)  # runs of an older version have no such figure


def over_all_columns(heading: str, bootstrap: Bootstrap) -> tuple[Column, ...]:
    """Return the columns of a comparison over all concepts."""
    return (
        Column("all", bootstrap.heading(f"{heading}, all concepts"), format="+.3f", interval=True),
        Column("wins_all", "wins, all", align="right"),
    )


def over_all(row: dict[str, Any], measure: str) -> dict[str, Any]:
    """Return a comparison over all concepts as `over_all_columns` shows it; nothing where there is none."""
    if not row.get("n_all"):
        return {}
    estimate = Estimate(*(row[f"{measure}_all_{end}"] for end in ("difference", "low", "high")))
    ties = row[f"{measure}_ties_all"]
    wins = f"{row[f'{measure}_wins_all']} of {row['n_all']}" + (f", {ties} tied" if ties else "")
    return estimate.columns("all") | {"wins_all": wins}


def headline_table(table: ResultTable, tau: float | None, bootstrap: Bootstrap) -> Table:
    """Return the comparison at the configured tau for a terminal: its title says the tau where it is the same for all.

    A terminal has no room for p as it is and for the comparison over all concepts: these stand in table.md.
    """
    rows = headline(table, tau)
    taus = {row["tau"] for row in rows}
    one = len(taus) == 1 and pd.notna(next(iter(taus)))
    title = "What it costs the other concepts when the same share of a concept is erased"
    title += f" (tau {naming.value(taus.pop())})" if one else ""
    shown = comparison_table(rows, bootstrap, with_tau=not one)
    kept = tuple(column for column in shown.columns if column.name not in WIDE)
    return replace(shown, title=title, row_groups=("edit",), columns=kept)
