"""Methods of two runs matched with each other, and what they cost at matched erasure paired by concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import COLLATERAL, RESULTS, SETTINGS
from neuronlens.measures.comparison import beyond_rounding
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.significance import sign_flip_p
from neuronlens.sweep.doses import TOLERANCE


def shared_knobs(reference: pd.DataFrame, other: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """Return how the methods of two runs are matched: knobs that must agree, knobs the runs differ in, and what is lost.

    A knob of which the runs have values in common must agree, so that methods with a value of one run only fall out. A
    knob of which each run has one value, and not the same, is what sets the runs apart (saliency, say): it is left open.

    Args:
        reference, other: `matched.parquet` of each.
    """
    reference, other = RESULTS.completed(reference), RESULTS.completed(other)
    agree, apart, remarks, lost = [], [], [], []
    for knob in SETTINGS:
        one, two = (set(table[knob].dropna().unique()) for table in (reference, other))
        if len(one) == len(two) == 1 and one != two:
            apart.append(knob)
            continue
        agree.append(knob)
        if one and two and not one & two:
            theirs, ours = (", ".join(sorted(map(naming.value, values))) for values in (two, one))
            remarks.append(f"{knob} is {theirs} against {ours}, nothing in common and more than one; not paired.")
        elif missing := sorted(map(naming.value, one ^ two)):
            lost.append(f"{knob} {', '.join(missing)}")
    levels = set(reference["level"]), set(other["level"])
    if missing := sorted(map(naming.value, levels[0] ^ levels[1])):
        lost.append(f"level {', '.join(missing)}")
    if lost and not remarks:
        remarks.append(f"in one of both runs only, so left out: {'; '.join(lost)}.")
    return agree, apart, remarks


def paired_methods(
    reference: pd.DataFrame,
    other: pd.DataFrame,
    concepts: Sequence[str],
    *,
    keys: Sequence[str],
    apart: Sequence[str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return, per method and erasure level, the others' cost in one run minus that in the reference, paired by concept.

    Args:
        reference, other: `matched.parquet` of each.
        keys, apart: as `shared_knobs` gives them; a knob left open must still be null in both or in neither.

    Returns:
        One row per (method x level) with `reached_reference`, `reached_run`, `n` concepts that both reach, and per measure
        `<measure>_reference`, `<measure>_run` (means over those), `<measure>` with `_low`, `_high` and `_p` (the difference), and
        `<measure>_wins`: in how many concepts the run costs the others less.
    """
    on = [*SETTINGS, "level", "concept"]
    tables = []
    for table, ending in ((reference, "_reference"), (other, "_run")):
        open_ = {knob: table[knob].notna() for knob in apart}
        keyed = table[table["concept"].isin(concepts)].assign(**open_)
        keyed = keyed.assign(_key=keyed[on].astype(object).where(keyed[on].notna(), None).apply(tuple, axis=1))
        keyed = keyed.assign(
            _copy=keyed.groupby("_key", sort=False).cumcount()
        )  # methods that differ in their neurons alone
        tables.append(keyed.rename(columns={name: f"{name}{ending}" for name in COLLATERAL}))
    left, right = tables
    both = left.merge(right[["_key", "_copy", *(f"{name}_run" for name in COLLATERAL)]], on=["_key", "_copy"])
    rows = []
    for key, group in both.groupby(["_copy", *SETTINGS, "level"], dropna=False, sort=False):
        knobs = dict(zip([*SETTINGS, "level"], key[1:], strict=True))
        for knob in apart:
            knobs[knob] = _either(reference[knob], other[knob]) if knobs[knob] else None
        rows.append(knobs | _differences(group, bootstrap))
    return pd.DataFrame(rows)


def _either(one: pd.Series[Any], two: pd.Series[Any]) -> str:
    return " / ".join(naming.value(values.dropna().iloc[0]) for values in (two, one))


def _differences(group: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    names = [f"{name}{ending}" for name in COLLATERAL for ending in ("_reference", "_run")]
    reached = group.dropna(subset=names)
    row: dict[str, Any] = {"n": len(reached), "common": len(group)}
    for ending in ("_reference", "_run"):
        row[f"reached{ending}"] = int(group[f"{COLLATERAL[0]}{ending}"].notna().sum())
    for name in COLLATERAL:
        ours, theirs = (reached[f"{name}{ending}"].to_numpy(dtype=float) for ending in ("_reference", "_run"))
        row |= {
            f"{name}_reference": ours.mean() if len(ours) else np.nan,
            f"{name}_run": theirs.mean() if len(ours) else np.nan,
        }
        difference = beyond_rounding(theirs - ours)
        row |= bootstrap.of_mean(difference).columns(name)
        row[f"{name}_p"] = sign_flip_p(difference, seed=bootstrap.seed)
        row[f"{name}_wins"] = int((ours - theirs > TOLERANCE).sum())
    return row
