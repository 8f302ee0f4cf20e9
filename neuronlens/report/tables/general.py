"""General ability as a table: perplexity and MMLU of the unedited model and under every method, over the concepts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import SETTINGS
from neuronlens.measures.general.scale import MeasureScale
from neuronlens.measures.intervals import Bootstrap
from neuronlens.report.table import Column, Table, frame_of

KNOBS = [key for key in SETTINGS if key != "edit_positions"]  # each measure has its own positions


def general_means(general: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return one row per (measure, method): base, and the mean over concepts of edited and difference with its interval.

    Of a perplexity both are means of logarithms: `edited` is the geometric mean, `difference` that of log(edited / base).

    The interval is over concepts, each with its own edit; the interval of one edit over documents or questions stands in
    its row of `general.parquet`. Rows of single MMLU subjects are left out.
    """
    whole = general[general["subject"].isna() & (general["edit"] != "none")]
    rows: list[dict[str, Any]] = []
    for key, own in whole.groupby(["measure", *KNOBS], dropna=False, sort=False):
        row = dict(zip(["measure", *KNOBS], key, strict=True))
        scale = MeasureScale.of(str(row["measure"]))
        edited, base = scale.to(own["edited"].to_numpy(dtype=float)), scale.to(own["base"].to_numpy(dtype=float))
        row |= {"concepts": len(own), "base": own["base"].iloc[0], "edited": float(scale.back(edited.mean()))}
        rows.append(row | bootstrap.of_mean(edited - base).columns("difference"))
    return pd.DataFrame(rows)


def general_table(general: pd.DataFrame, bootstrap: Bootstrap) -> Table:
    """Return the means as a table."""
    means = general_means(general, bootstrap)
    apart = [key for key in naming.setting_apart(means) if key not in ("layers", "top_fraction")]
    lines = [
        row
        | {
            "measure": str(row["measure"]).replace("_", " "),
            "method": naming.method(row, apart),
            "neurons": "all" if pd.isna(row["top_fraction"]) else naming.value(row["top_fraction"], percent=True),
        }
        for row in means.to_dict("records")
    ]
    columns = (
        Column("measure", "measure"),
        Column("layers", "layer"),
        Column("method", "method"),
        Column("neurons", "neurons", align="right"),
        Column("concepts", "concepts", format="d"),
        Column("base", "base", format=".4g"),
        Column("edited", "edited", format=".4g"),
        Column("difference", bootstrap.heading("edited - base"), format="+.4g", interval=True),
    )
    caption = (
        "Mean over the concepts, each under its own edit; of perplexities the geometric mean, and as difference the mean of "
        "log(edited / base)"
    ) + ("; the interval is over concepts." if bootstrap.resamples else ".")
    return Table("general", "General ability", caption, frame_of(lines, columns), columns)
