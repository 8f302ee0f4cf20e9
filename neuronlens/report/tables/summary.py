"""`summary.json`: the numbers that runs are sorted by, under keys that never change."""

from __future__ import annotations

from typing import Any

import pandas as pd

from neuronlens.config.schema import Config
from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS, ERASED
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.report.message import message
from neuronlens.report.tables.comparison import at_tau, headline
from neuronlens.report.tables.general import general_means

FIGURES = ("range", "neuron", "difference", "low", "high", "wins")
OVER_ALL = ("all_range", "all_neuron", "all_difference", "all_low", "all_high", "wins_all", "ties_all")


def summarise(table: ResultTable, config: Config) -> dict[str, Any]:
    """Return the message, the unedited model, the comparison at the configured tau by its settings, general ability."""
    tau, bootstrap = config.headline_tau, Bootstrap.of(config)
    general = [] if table.general is None else general_means(table.general, bootstrap).to_dict("records")
    return {
        "message": message(table, config),
        "base": dict(table.base),
        "cells_per_concept": len(table.rows) // int(table.base["concepts"]) - 1,
        "skipped": int(table.rows["skipped"].notna().sum()),
        "matched_erasure": {
            f"{naming.place(row)}/{naming.method_path(row)}/{row['level']:g}/{naming.measure(measure, short=True)}": {
                figure: row[f"{measure}_{figure}"]
                for figure in (*FIGURES, *OVER_ALL)
                if f"{measure}_{figure}" in row  # runs of an older version lack those over all concepts
            }
            for row in headline(table, tau)
            for measure in DROPS
        },
        "finer_doses": 0 if table.doses is None else len(table.doses),
        "damage_budget": {
            f"{naming.place(row)}/{naming.method_path(row)}/{naming.budget_key(row)}": {
                figure: row[f"{ERASED}_{figure}"] for figure in FIGURES
            }
            for row in at_tau(table.budget_comparison, tau)
        },
        "general": [{name: None if pd.isna(value) else value for name, value in row.items()} for row in general],
    }
