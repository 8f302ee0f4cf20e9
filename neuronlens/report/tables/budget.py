"""How much methods erase within damage budgets: range mask against neuron mask, and every method, best first."""

from __future__ import annotations

from typing import Any

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import ERASED, ERASURE
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.intervals import Bootstrap
from neuronlens.report.p_values import NOTE, p_columns, with_holm
from neuronlens.report.table import Column, Table, frame_of

BEST = 6
"""Methods of each place and budget that are listed, the best ones."""
EXPLAINED = (
    "Erased: the largest drop of the concept's accuracy among the doses at which the other concepts lose no more than the "
    "budget, 0 where every dose loses more; no dose is interpolated. Means over concepts; a positive difference means that "
    "the range erases more."
)
RANKED = (
    "How much of a concept's accuracy and confidence each method erases within the budget, means over concepts; differences "
    f"in accuracy are paired with the plain neuron mask (zero). The {BEST} best of each place and budget; "
    "`budget_methods.parquet` has all."
)
WITHIN = (Column("damage", "the others' loss"), Column("budget", "at most", format=".2f"))


def budget_table(comparison: pd.DataFrame, bootstrap: Bootstrap) -> Table:
    """Return the range methods against the neuron mask of the same edit within each budget, in accuracy erased.

    Args:
        comparison: `budget_comparison` of a run.
        bootstrap: the run's.
    """
    rows = comparison.to_dict("records")
    named = [*naming.EDIT_KNOBS, *naming.setting_apart(comparison), "tau"]
    lines = [
        {"edit": naming.edit(row, named), "range": row[f"{ERASED}_range"], "neuron": row[f"{ERASED}_neuron"]}
        | _within(row)
        for row in rows
    ]
    columns = (
        Column("edit", "edit"),
        *WITHIN,
        Column("range", "range erases", format=".3f"),
        Column("neuron", "neuron", format=".3f"),
        Column("difference", bootstrap.heading("difference"), format="+.3f", interval=True),
        *p_columns(),
        Column("wins", "range wins in", align="right"),
    )
    frame = with_holm(frame_of(lines, columns, "n_concepts"), "n_concepts")
    return Table("budgets", "Erasure at a damage budget", EXPLAINED, frame, columns, notes=(NOTE,))


def budget_methods_table(methods: pd.DataFrame, bootstrap: Bootstrap) -> Table:
    """Return the best methods within each budget, in the order of their own frame.

    Args:
        methods: `budget_methods` of a run.
        bootstrap: the run's.
    """
    at = ["layers", "site", "damage", "budget"]
    best = methods.groupby(at, sort=False).cumcount() < BEST
    apart = ["layers", *naming.setting_apart(methods)]
    columns = (
        Column("method", "method"),
        *WITHIN,
        *(Column(name, f"{naming.measure(name, short=True)} erased", format=".3f") for name in ERASURE),
        Column("difference", bootstrap.heading("accuracy - mask"), format="+.3f", interval=True),
        *p_columns(),
        Column("wins", "wins", align="right"),
    )
    lines = [
        {"method": naming.method(row, apart), "layers": row["layers"], "site": row["site"]}
        | {name: row[name] for name in ERASURE}
        | _within(row)
        for row in methods.to_dict("records")
    ]
    frame = with_holm(frame_of(lines, columns, "layers", "site", "n_concepts"), "n_concepts")
    frame = frame[best.to_numpy()].reset_index(drop=True)  # p values are read together with those that are not shown
    title = "Every method at a damage budget, best first"
    return Table("budget-methods", title, RANKED, frame, columns, notes=(NOTE,))


def _within(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's budget, and its difference with the concepts won where there is a mask to compare with."""
    within = {"damage": naming.measure(row["damage"]), "budget": row["budget"]}
    if not row["n_concepts"]:
        return within
    difference = Estimate(*(row[f"{ERASED}_{end}"] for end in ("difference", "low", "high")))
    wins = f"{row[f'{ERASED}_wins']} of {row['n_concepts']}"
    return (
        within
        | difference.columns("difference")
        | {"wins": wins, "p": row.get(f"{ERASED}_p"), "n_concepts": row["n_concepts"]}
    )
