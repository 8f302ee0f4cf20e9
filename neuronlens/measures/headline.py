"""The one comparison that stands for a run, chosen by its config before its results are known."""

from __future__ import annotations

from typing import Any

import pandas as pd

from neuronlens.config.nodes import option_of
from neuronlens.config.schema import Config

HEADLINE_LEVEL = 0.5
"""Share of a concept erased at which the headline is read: the swept level nearest to it, the higher of two."""


def headline_row(methods: pd.DataFrame, config: Config) -> dict[str, Any] | None:
    """Return the one row that stands for the run, chosen before its results are known.

    It has the configured range, tau, saliency, edit and strength where these were swept and else the first that were, no
    control, the deepest place and the level nearest to `HEADLINE_LEVEL`. None where there is no such row.

    Args:
        methods: range against neuron masks (`comparison` of a run) or methods by themselves (`methods`), at matched erasure.
    """
    if methods.empty:
        return None
    rows = methods[methods["control"].isna()]
    if rows.empty:
        return None
    wanted: dict[str, Any] = {"range": option_of(config, "range"), "tau": config.headline_tau}
    wanted |= {"saliency": option_of(config, "saliency"), "edit": config.intervention.edit}
    wanted["strength"] = config.intervention.strength
    for knob, value in wanted.items():
        kept, swept = rows[rows[knob] == value], rows[knob].dropna()
        if kept.empty and len(swept):
            kept = rows[rows[knob] == swept.iloc[0]]
        rows = kept if len(kept) else rows  # nobody has the knob
    rows = rows[rows["layers"] == rows["layers"].iloc[-1]]
    distance = (rows["level"] - HEADLINE_LEVEL).abs().round(9)
    nearest = rows[distance == distance.min()]
    return {str(name): value for name, value in nearest.loc[nearest["level"].idxmax()].items()}
