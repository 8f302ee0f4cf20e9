"""Claim 7, beyond the paper: a range on the discriminant coordinate against LEACE, which edits every position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import COST, METHOD, WHERE
from neuronlens.report.claims.verdicts import Evidence, judge, listed
from neuronlens.report.compare.runs import Run

COST_MARGIN = 0.01
"""How much more still counts as no more: confidence, and nats of KL."""
MEASURES = (COST, "kl")
ERASER = "leace"
GATE = "neuronlens.edits.gates.discriminant.DiscriminantGate"
AT = [*WHERE, "level", "concept"]


def discriminant_gates(run: Run) -> set[str]:
    """Return the run's gates that are the discriminant gate, under whatever name and rule."""
    parts = run.config.parts.get("gate", {})
    return {"discriminant"} | {name for name, node in parts.items() if node.get("_target_") == GATE}


def costs_no_more(run: Run) -> Iterator[Evidence]:
    """Yield claim 7 for every rule of the threshold, erasure level and measure: the others' cost against LEACE's.

    Both are the same edit at their own strengths; each pair of costs is read where both have erased the level.
    """
    matched = run.table.matched
    own = matched[(matched["edit"] == ERASER) & matched["control"].isna()]
    leace = own[own["gate"] == "neuron"].drop_duplicates(AT)[[*AT, *MEASURES]]
    gated = own[own["gate"].isin(discriminant_gates(run))]
    both = gated.merge(leace, on=AT, how="left", suffixes=("", "_leace"))
    for key, group in both.groupby([*METHOD, "level"], dropna=False, sort=False):
        knobs = dict(zip([*METHOD, "level"], key, strict=True))
        yield from _of_method(run, knobs, group.set_index("concept"))


def _of_method(run: Run, knobs: dict[str, Any], group: pd.DataFrame) -> Iterator[Evidence]:
    reached = f"reached in {group[COST].notna().sum()} against {group[f'{COST}_leace'].notna().sum()} of {len(group)} concepts"
    for measure in MEASURES:
        pairs = group[[measure, f"{measure}_leace"]].dropna().astype(float)
        if pairs.empty:
            continue
        difference = pairs[measure] - pairs[f"{measure}_leace"]
        estimate = run.bootstrap.of_mean(difference.to_numpy())
        worse = difference[difference > COST_MARGIN].sort_values(ascending=False)
        means = f"{pairs[measure].mean():.3f} against {pairs[f'{measure}_leace'].mean():.3f}"
        yield Evidence(
            claim=7,
            place=naming.place(knobs),
            setting=f"{naming.method(knobs)}, {naming.erased(knobs['level'])}",
            statistic=f"{naming.measure(measure)}, discriminant range - LEACE",
            estimate=estimate,
            bound=COST_MARGIN,
            expected=None,
            concepts=len(pairs),
            verdict=judge(estimate, COST_MARGIN, "below", len(pairs)),
            against=listed(f"{concept} ({value:+.3f})" for concept, value in worse.items()) or "no concept",
            detail=f"{means}; {reached}",
        )
