"""Each run's own range mask against its neuron mask, the runs under each other."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS, SETTINGS
from neuronlens.report.compare.runs import Run
from neuronlens.report.compare.unedited import about
from neuronlens.report.p_values import NOTE, p_columns, with_holm
from neuronlens.report.table import Column, Table, frame_of
from neuronlens.report.tables.comparison import headline


def headlines_table(runs: Sequence[Run]) -> Table:
    """Return each run's range against neuron mask at its own tau, the runs under each other within method and level."""
    frames = [
        pd.DataFrame(headline(run.table, run.tau)).assign(run=run.name, place=place) for place, run in enumerate(runs)
    ]
    found = pd.concat([frame for frame in frames if "level" in frame] or [pd.DataFrame()], ignore_index=True)
    parts = []
    for name in DROPS if len(found) else ():
        own = {
            "measure": naming.measure(name, short=True),
            "range_mask": found[f"{name}_range"],
            "neuron_mask": found[f"{name}_neuron"],
            "difference": found[f"{name}_difference"],
            "difference_low": found[f"{name}_low"].where(found["n_concepts"] > 1),
            "difference_high": found[f"{name}_high"].where(found["n_concepts"] > 1),
            "p": found.get(f"{name}_p"),
            "wins": found[f"{name}_wins"],
        }
        parts.append(found.assign(**own))
    columns = (
        Column("method", "Edit"),
        Column("level", "Erased", format=".0%"),
        Column("measure", "Others'"),
        Column("run", "Run"),
        Column("n_concepts", "Concepts", format="d"),
        Column("range_mask", "Range", "Cost", ".3f"),
        Column("neuron_mask", "Neuron", "Cost", ".3f"),
        Column("difference", "Range - neuron", format="+.3f", interval=True),
        *p_columns(),
        Column("wins", "Wins", format="d"),
    )
    frame = frame_of([], columns)
    if parts:
        frame = pd.concat(parts, ignore_index=True)
        frame["method"] = _names(frame, runs)
        frame["compared"] = (frame["n_concepts"] > 0).groupby([frame["method"], frame["level"]]).transform("sum")
        order = ["compared", "method", "level", "measure", "place"]
        frame = frame.sort_values(order, ascending=[False, *[True] * 4], kind="stable", ignore_index=True)
        kept = [*(name for column in columns for name in column.needs), *SETTINGS, "reached_range", "reached_neuron"]
        frame = with_holm(frame[frame["compared"] > 0], "n_concepts")[kept]
    return Table(
        "compare-headline",
        "Range mask against neuron mask, run by run",
        "Complement accuracy and confidence drop at matched erasure at each run's own tau; a negative difference: the "
        "range costs the others less, which is a win. Differences are paired by concept within the run.",
        frame,
        columns,
        row_groups=("method", "level", "measure"),
        notes=(*about(*(run.bootstrap for run in runs)), NOTE),
    )


def _names(rows: pd.DataFrame, runs: Sequence[Run]) -> list[str]:
    """Return the edit and what else is swept within a run; what only sets runs apart is in their names."""
    swept = [
        knob
        for knob in SETTINGS
        if any(rows.loc[rows["run"] == run.name, knob].nunique(dropna=False) > 1 for run in runs)
    ]
    return [naming.edit(row, swept) for row in rows.to_dict("records")]
