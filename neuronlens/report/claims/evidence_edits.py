"""Claims 4 to 6, on what editing does: range mask against neuron mask in erasure, in the others' cost, in general ability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from neuronlens.report.claims.verdicts import OPEN, Evidence, judge, listed
from neuronlens.report.compare.runs import Run

MARGIN = 0.05
SHARED = ["layers", "site", "edit_positions", "saliency", "edit", "strength", "n_neurons", "top_fraction"]
COST = {"complement_accuracy_drop": "accuracy", "complement_confidence_drop": "confidence"}


def gate_pairs(
    rows: pd.DataFrame, tau: float | None, values: Sequence[str], also: Sequence[str] = ()
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each range mask beside the neuron mask of the same knobs, a row per concept: `<value>` and `<value>_neuron`.

    Controls are left out. Of the swept taus the one chosen before the run is taken where it was swept (TRAPS 26).

    Args:
        rows: of edited cells, a row per (method, concept).
        tau: the configured one.
        values: columns to pair.
        also: columns that must agree besides the knobs.
    """
    rows = rows[rows["control"].isna()]
    shared = [*SHARED, *also]
    ours, neuron = rows[rows["gate"] == "range"], rows[rows["gate"] == "neuron"]
    if tau in ours["tau"].dropna().unique():
        ours = ours[(ours["tau"] == tau) | ours["tau"].isna()]
    kept = neuron[[*shared, "concept", *values]].drop_duplicates([*shared, "concept"])
    both = ours.merge(kept, on=[*shared, "concept"], suffixes=("", "_neuron"))
    for key, group in both.groupby(["range", "tau", *shared], dropna=False, sort=False):
        knobs = dict(zip(["range", "tau", *shared], key, strict=True))
        paired = group.dropna(subset=[f"{name}{end}" for name in values for end in ("", "_neuron")])
        if len(paired):
            yield knobs, paired.set_index("concept")


def _setting(knobs: dict[str, Any], *more: str) -> str:
    parts = [str(knobs["saliency"]), str(knobs["edit"]), str(knobs["range"])]
    if pd.notna(knobs["tau"]):
        parts.append(f"tau {knobs['tau']:g}")
    if pd.notna(knobs["strength"]) and knobs["strength"] != 1:
        parts.append(f"x {knobs['strength']:g}")
    if pd.notna(knobs["top_fraction"]):
        parts.append(f"{knobs['top_fraction']:.0%} of the neurons")
    return ", ".join([*parts, *more])


def _place(knobs: dict[str, Any]) -> str:
    return f"{knobs['site']}.{knobs['layers']}"


def _against(difference: pd.Series[Any], wrong: Literal["above", "below"], bound: float) -> str:
    ordered = difference.sort_values(ascending=wrong == "below")
    beyond = ordered[ordered > bound] if wrong == "above" else ordered[ordered < bound]
    return listed(f"{concept} ({value:+.3f})" for concept, value in beyond.items()) or "no concept"


def keeps_erasure(run: Run) -> Iterator[Evidence]:
    """Yield claim 4 for every range method and dose: the concept's accuracy drop against the neuron mask's."""
    rows = run.table.rows
    edited = rows[(rows["edit"] != "none") & rows["skipped"].isna()]
    for knobs, pairs in gate_pairs(edited, run.tau, ["concept_accuracy_drop"]):
        ours, mask = pairs["concept_accuracy_drop"], pairs["concept_accuracy_drop_neuron"]
        estimate = run.bootstrap.over((ours - mask).to_numpy(dtype=float))
        erases = mask.mean() > MARGIN
        verdict = judge(estimate, -MARGIN, "above") if erases else OPEN
        kept = f"{ours.mean():.3f} against {mask.mean():.3f}" + (
            f", {ours.mean() / mask.mean():.0%} of it" if erases else ""
        )
        yield Evidence(
            claim=4,
            place=_place(knobs),
            setting=_setting(knobs),
            statistic="concept accuracy drop, range - neuron",
            estimate=estimate,
            bound=-MARGIN,
            expected=None,
            concepts=len(pairs),
            verdict=verdict,
            against=_against(ours - mask, "below", -MARGIN),
            detail=kept,
        )


def spares_the_rest(run: Run) -> Iterator[Evidence]:
    """Yield claim 5 for every range method, erasure level and measure: the others' drop against the neuron mask's."""
    for knobs, pairs in gate_pairs(run.table.matched, run.tau, list(COST), also=["level"]):
        for measure, spoken in COST.items():
            difference = pairs[measure] - pairs[f"{measure}_neuron"]
            estimate = run.bootstrap.over(difference.to_numpy(dtype=float))
            means = f"{pairs[measure].mean():.3f} against {pairs[f'{measure}_neuron'].mean():.3f}"
            yield Evidence(
                claim=5,
                place=_place(knobs),
                setting=_setting(knobs, f"{knobs['level']:.0%} erased"),
                statistic=f"complement {spoken} drop, range - neuron",
                estimate=estimate,
                bound=0.0,
                expected=None,
                concepts=len(pairs),
                verdict=judge(estimate, 0.0, "below"),
                against=_against(difference, "above", 0.0),
                detail=means,
            )


def spares_general_ability(run: Run) -> Iterator[Evidence]:
    """Yield claim 6 for every range method and measure of general ability, where it was measured.

    Perplexities are compared by their logarithm: a mask that breaks the model takes them to any height, and one concept
    would be the whole mean.
    """
    if run.table.general is None or run.table.general.empty:
        return
    general = run.table.general
    is_score = ~general["measure"].str.endswith("flip_rate")  # how many answers change is no ability
    whole = general[general["subject"].isna() & (general["edit"] != "none") & is_score]
    for knobs, pairs in gate_pairs(whole, run.tau, ["edited"], also=["measure"]):
        measure = str(knobs["measure"])
        ours, mask = (pairs[name].astype(float) for name in ("edited", "edited_neuron"))
        is_perplexity = measure.endswith("perplexity")
        if is_perplexity:
            difference, statistic = np.log(ours) - np.log(mask), f"log {measure.replace('_', ' ')}, range - neuron"
            middle = f"{np.exp(np.log(ours).mean()):.4g} against {np.exp(np.log(mask).mean()):.4g}"
        else:
            difference, statistic = ours - mask, f"{measure.replace('_', ' ')}, range - neuron"
            middle = f"{ours.mean():.3f} against {mask.mean():.3f}"
        estimate = run.bootstrap.over(difference.to_numpy())
        verdict = judge(estimate, 0.0, "below" if is_perplexity else "above")
        against = _against(difference, "above" if is_perplexity else "below", 0.0)
        yield Evidence(
            claim=6,
            place=_place(knobs),
            setting=_setting(knobs),
            statistic=statistic,
            estimate=estimate,
            bound=0.0,
            expected=None,
            concepts=len(pairs),
            verdict=verdict,
            against=against,
            detail=f"{middle}, unedited {pairs['base'].mean():.4g}",
        )
