"""One neuron's values for a concept and for the others, with the concept's range shaded: a chart for a notebook."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from neuronlens.records import BoolArray, FloatArray
from neuronlens.report.page.charts import Layered
from neuronlens.report.palette import CONCEPT_COLOUR, INTERVAL_COLOUR, REST_COLOUR

BINS = 40


def neuron_chart(values: FloatArray, member: BoolArray, bounds: FloatArray, *, concept: str, title: str) -> Layered:
    """Return two histograms over one axis, each of which adds up to 1, and the range's intervals behind them.

    Args:
        values: `[sample]`.
        member: which samples carry the concept `[sample]`.
        bounds: low and high end of each interval `[interval, 2]`; infinite ends and empty intervals are allowed.
    """
    edges = np.linspace(values.min(), values.max() + 1e-9, BINS + 1)
    rows = []
    for name, chosen in ((concept, member), ("other concepts", ~member)):
        counts, _ = np.histogram(values[chosen], edges)
        shares = counts / max(int(chosen.sum()), 1)
        rows.append(pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": shares, "samples": name}))
    spans = pd.DataFrame(np.clip(bounds[bounds[:, 0] <= bounds[:, 1]], edges[0], edges[-1]), columns=["low", "high"])
    x = alt.X("low:Q", title="activation", scale=alt.Scale(nice=False, zero=False))
    band = alt.Chart(spans).mark_rect(color=INTERVAL_COLOUR, opacity=0.2).encode(x=x, x2="high:Q")
    colour = alt.Color(
        "samples:N",
        title=None,
        scale=alt.Scale(domain=[concept, "other concepts"], range=[CONCEPT_COLOUR, REST_COLOUR]),
    )
    bars = alt.Chart(pd.concat(rows, ignore_index=True)).mark_bar(opacity=0.6)
    bars = bars.encode(x=x, x2="high:Q", y=alt.Y("share:Q", title="share of samples", stack=None), color=colour)
    return alt.layer(band, bars).properties(title=title, width=480, height=240)
