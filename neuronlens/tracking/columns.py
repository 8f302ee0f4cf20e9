"""Which columns of a table a place shows that has room for few."""

from __future__ import annotations

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import COLLATERAL, ERASURE, METHOD, SETTINGS, TRADEOFF, WHERE

MOST_COLUMNS = 25
FIRST = ("method", "layers", "concept", "measure", "level", "damage", "budget")
COUNTS = ("n_concepts", "reached_range", "reached_neuron", "concepts", "n_concept", "n_complement")
VALUES = ("base", "edited", "difference")
ENDS = ("range", "neuron", "difference", "low", "high", "p", "wins", "own_low", "own_high")
WANTED = [
    *FIRST,
    *SETTINGS,
    "n_neurons",
    *COUNTS,
    *VALUES,
    *TRADEOFF,
    *(f"{name}_{end}" for name in (*ERASURE[:1], *COLLATERAL) for end in ENDS),
]
"""What is shown first, left to right."""


def fewer_columns(table: pd.DataFrame, most: int = MOST_COLUMNS) -> pd.DataFrame:
    """Return a table with its method's name in front and at most so many columns, those that hold nothing left out.

    Knobs that are the same in every row go first of what is left out. All columns stand in the table's parquet.
    """
    if all(knob in table for knob in METHOD) and len(table):
        apart = [knob for knob in naming.setting_apart(table) if knob not in WHERE]
        edited = table["edit"].notna() & (table["edit"] != "none")
        lines = zip(table.to_dict("records"), edited, strict=True)
        names = [naming.method(row, apart) if own else "unedited" for row, own in lines]
        table = table.assign(method=names)
    held = [str(name) for name in table.columns if table[name].notna().any()]
    same = [name for name in held if name in METHOD and table[name].nunique(dropna=False) < 2]
    order = sorted(held, key=lambda name: (name in same, WANTED.index(name) if name in WANTED else len(WANTED)))
    kept = order[:most]
    return table[sorted(kept, key=lambda name: WANTED.index(name) if name in WANTED else len(WANTED))]
