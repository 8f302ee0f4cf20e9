"""Claims 4 to 6, on what editing does: range mask against neuron mask in erasure, in the others' cost, in general ability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS, ERASED, METHOD, RESULTS
from neuronlens.measures.general.scale import MeasureScale
from neuronlens.report.claims.verdicts import OPEN, Evidence, judge, listed
from neuronlens.report.compare.runs import Run
from neuronlens.sweep.doses import TOLERANCE

MARGIN = 0.05
OWN = [knob for knob in RESULTS.keys("range") if knob != "gate"]
"""What a range mask has of its own beside the neuron mask."""
SHARED = [knob for knob in METHOD if knob not in (*RESULTS.keys("range"), "layer", "control")]


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
    for key, group in both.groupby([*OWN, *shared], dropna=False, sort=False):
        knobs = dict(zip([*OWN, *shared], key, strict=True))
        paired = group.dropna(subset=[f"{name}{end}" for name in values for end in ("", "_neuron")])
        if len(paired):
            yield knobs, paired.set_index("concept")


def _against(difference: pd.Series[Any], wrong: Literal["above", "below"], bound: float) -> str:
    ordered = difference.sort_values(ascending=wrong == "below")
    beyond = ordered[ordered > bound + TOLERANCE] if wrong == "above" else ordered[ordered < bound - TOLERANCE]
    return listed(f"{concept} ({value:+.3f})" for concept, value in beyond.items()) or "no concept"


def keeps_erasure(run: Run) -> Iterator[Evidence]:
    """Yield claim 4 for every range method and dose: the concept's accuracy drop against the neuron mask's."""
    rows = run.table.rows
    edited = rows[(rows["edit"] != "none") & rows["skipped"].isna()]
    for knobs, pairs in gate_pairs(edited, run.tau, [ERASED]):
        ours, mask = pairs[ERASED], pairs[f"{ERASED}_neuron"]
        estimate = run.bootstrap.of_mean((ours - mask).to_numpy(dtype=float))
        erases = mask.mean() > MARGIN
        verdict = judge(estimate, -MARGIN, "above", len(pairs)) if erases else OPEN
        kept = f"{ours.mean():.3f} against {mask.mean():.3f}" + (
            f", {ours.mean() / mask.mean():.0%} of it" if erases else ""
        )
        yield Evidence(
            claim=4,
            place=naming.place(knobs),
            setting=naming.setting(knobs),
            statistic=f"{naming.measure(ERASED)}, range - neuron",
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
    for knobs, pairs in gate_pairs(run.table.matched, run.tau, DROPS, also=["level"]):
        for measure in DROPS:
            difference = pairs[measure] - pairs[f"{measure}_neuron"]
            estimate = run.bootstrap.of_mean(difference.to_numpy(dtype=float))
            means = f"{pairs[measure].mean():.3f} against {pairs[f'{measure}_neuron'].mean():.3f}"
            yield Evidence(
                claim=5,
                place=naming.place(knobs),
                setting=f"{naming.setting(knobs)}, {naming.erased(knobs['level'])}",
                statistic=f"{naming.measure(measure)}, range - neuron",
                estimate=estimate,
                bound=0.0,
                expected=None,
                concepts=len(pairs),
                verdict=judge(estimate, 0.0, "below", len(pairs)),
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
        scale = MeasureScale.of(measure)
        difference = pd.Series(scale.to(ours.to_numpy()) - scale.to(mask.to_numpy()), index=ours.index)
        statistic = f"{'log ' if scale.by_log else ''}{measure.replace('_', ' ')}, range - neuron"
        digits = ".4g" if scale.by_log else ".3f"
        middle = " against ".join(f"{scale.back(scale.to(own.to_numpy()).mean()):{digits}}" for own in (ours, mask))
        estimate = run.bootstrap.of_mean(difference.to_numpy())
        verdict = judge(estimate, 0.0, "below" if scale.by_log else "above", len(pairs))
        against = _against(difference, "above" if scale.by_log else "below", 0.0)
        yield Evidence(
            claim=6,
            place=naming.place(knobs),
            setting=naming.setting(knobs),
            statistic=statistic,
            estimate=estimate,
            bound=0.0,
            expected=None,
            concepts=len(pairs),
            verdict=verdict,
            against=against,
            detail=f"{middle}, unedited {pairs['base'].mean():.4g}",
        )
