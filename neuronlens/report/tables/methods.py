"""Every method at matched erasure, best first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import COLLATERAL, COST
from neuronlens.measures.comparison import plain_mask
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.intervals import Bootstrap
from neuronlens.report.p_values import NOTE, p_columns, with_holm
from neuronlens.report.table import Column, Table, frame_of
from neuronlens.report.tables.comparison import OVER_ALL, WIDE, over_all, over_all_columns, unreached_somewhere

CAPTION = (
    "Means over the concepts in which the method reaches that erasure; differences are paired with the plain neuron mask "
    "(zero) over the concepts that both reach. Methods that reach it in fewer than half of the concepts stand last."
)
AT = ["layers", "site", "level"]
"""Methods are ranked within these."""


def methods_table(methods: pd.DataFrame, bootstrap: Bootstrap, shown: pd.Series[bool] | None = None) -> Table:
    """Return the methods as a table, in the order of their own frame (`rank_methods`).

    Args:
        shown: which of them; all where it is None. p values are read together with those that are not shown too.
    """
    if shown is None:
        shown = pd.Series(True, index=methods.index)
    apart = ["layers", *naming.setting_apart(methods[shown])]
    rows = methods.to_dict("records")
    columns = (
        Column("method", "method"),
        Column("level", "erased", format=".0%"),
        Column("reached", "reached by", align="right"),
        *(Column(name, naming.measure(name, short=True), format=".3f") for name in COLLATERAL),
        Column(
            "difference",
            bootstrap.heading(f"{naming.measure(COST, short=True)} - mask"),
            format="+.3f",
            interval=True,
        ),
        *p_columns(),
        Column("wins", "wins", align="right"),
        *(over_all_columns("difference", bootstrap) if unreached_somewhere(rows) else ()),
    )
    lines = [_line(row) | over_all(row, COST) | {"method": naming.method(row, apart)} for row in rows]
    frame = with_holm(frame_of(lines, columns, *AT, "n_concepts"), "n_concepts")
    frame = frame[shown.to_numpy()].reset_index(drop=True)
    caption = CAPTION + (OVER_ALL if unreached_somewhere(rows) else "")
    return Table("methods", "Every method at matched erasure, best first", caption, frame, columns, notes=(NOTE,))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    line = {name: row[name] for name in (*AT, *COLLATERAL)}
    line["reached"] = f"{row['reached_range']} of {row['concepts']}"
    if row["n_concepts"]:
        line |= Estimate(*(row[f"{COST}_{end}"] for end in ("difference", "low", "high"))).columns("difference")
        line |= {"p": row.get(f"{COST}_p"), "n_concepts": row["n_concepts"]}
        line["wins"] = f"{row[f'{COST}_wins']} of {row['n_concepts']}"
    return line


def best_methods_table(methods: pd.DataFrame, bootstrap: Bootstrap, best: int = 6) -> Table:
    """Return, for each place and level, the best methods and the plain neuron mask, for a terminal."""
    place = methods.groupby(AT, sort=False).cumcount()
    shown = methods_table(methods, bootstrap, (place < best) | plain_mask(methods))
    title = "Where each method erases the same share of a concept: what it costs the others, best first"
    kept = tuple(column for column in shown.columns if column.name not in WIDE)
    return replace(shown, title=title, ruled=tuple(AT), columns=kept)
