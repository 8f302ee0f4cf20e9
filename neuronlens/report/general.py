"""General ability as a table: perplexity and MMLU of the unedited model and under every method, over the concepts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from neuronlens.measures.intervals import mean_interval
from neuronlens.measures.matched import method_name

KNOBS = ["layers", "site", "saliency", "range", "tau", "gate", "edit", "control", "strength", "top_fraction"]
COLUMNS = ["measure", "layer", "method", "neurons", "concepts", "base", "edited", "edited - base [95 %]"]


def general_means(general: pd.DataFrame, *, level: float, resamples: int, seed: int) -> pd.DataFrame:
    """Return one row per (measure, method): base, and the mean over concepts of edited and difference with its interval.

    The interval is over concepts, each with its own edit; the interval of one edit over documents or questions stands in
    its row of `general.parquet`. Rows of single MMLU subjects are left out.
    """
    whole = general[general["subject"].isna() & (general["edit"] != "none")]
    rows: list[dict[str, Any]] = []
    for key, own in whole.groupby(["measure", *KNOBS], dropna=False, sort=False):
        mean, low, high = mean_interval(own["difference"].to_numpy(), level=level, resamples=resamples, seed=seed)
        row = dict(zip(["measure", *KNOBS], key, strict=True))
        row |= {"concepts": len(own), "base": own["base"].iloc[0], "edited": own["edited"].mean()}
        rows.append(row | {"difference": mean, "difference_low": low, "difference_high": high})
    return pd.DataFrame(rows)


def general_cells(means: pd.DataFrame) -> list[list[str]]:
    """Return the table's cells as text, in the order of `COLUMNS`."""
    lines = []
    for row in means.to_dict("records"):
        lines.append(
            [
                str(row["measure"]).replace("_", " "),
                str(row["layers"]),
                method_name(row),
                "all" if pd.isna(row["top_fraction"]) else f"{row['top_fraction']:.0%}",
                str(row["concepts"]),
                f"{row['base']:.4g}",
                f"{row['edited']:.4g}",
                f"{row['difference']:+.4g} [{row['difference_low']:+.4g}, {row['difference_high']:+.4g}]",
            ]
        )
    return lines
