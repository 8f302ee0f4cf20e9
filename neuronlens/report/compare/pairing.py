"""Methods of two runs matched with each other, and what they cost at matched erasure paired by concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.report.compare.paired import ENDS, Bootstrap

MEASURES = {"complement_accuracy_drop": "accuracy", "complement_confidence_drop": "confidence", "kl": "KL"}
KNOBS = (
    "layers",
    "site",
    "edit_positions",
    "saliency",
    "range",
    "tau",
    "gate",
    "edit",
    "control",
    "strength",
    "top_fraction",
)


def shared_knobs(reference: pd.DataFrame, other: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
    """Return how the methods of two runs are matched: knobs that must agree, knobs the runs differ in, and what is lost.

    A knob of which the runs have values in common must agree, so that methods with a value of one run only fall out. A
    knob of which each run has one value, and not the same, is what sets the runs apart (saliency, say): it is left open.

    Args:
        reference, other: `matched.parquet` of each.
    """
    agree, apart, said, lost = [], [], [], []
    for knob in KNOBS:
        one, two = (set(table[knob].dropna().unique()) for table in (reference, other))
        if len(one) == len(two) == 1 and one != two:
            apart.append(knob)
            continue
        agree.append(knob)
        if one and two and not one & two:
            told = [", ".join(sorted(map(plain, values))) for values in (two, one)]
            said.append(f"{knob} is {told[0]} against {told[1]}, nothing in common and more than one; not paired.")
        elif missing := sorted(map(plain, one ^ two)):
            lost.append(f"{knob} {', '.join(missing)}")
    levels = set(reference["level"]), set(other["level"])
    if missing := sorted(map(plain, levels[0] ^ levels[1])):
        lost.append(f"level {', '.join(missing)}")
    if lost and not said:
        said.append(f"in one of both runs only, so left out: {'; '.join(lost)}.")
    return agree, apart, said


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
        `<measure>_reference`, `<measure>_run` (means over those), `<measure>` with `_low` and `_high` (the difference), and
        `<measure>_wins`: in how many concepts the run costs the others less.
    """
    on = [*KNOBS, "level", "concept"]
    tables = []
    for table, ending in ((reference, "_reference"), (other, "_run")):
        open_ = {knob: table[knob].notna() for knob in apart}
        keyed = table[table["concept"].isin(concepts)].assign(**open_)
        keyed = keyed.assign(_key=keyed[on].astype(object).where(keyed[on].notna(), None).apply(tuple, axis=1))
        keyed = keyed.assign(
            _copy=keyed.groupby("_key", sort=False).cumcount()
        )  # methods told apart by their neurons alone
        tables.append(keyed.rename(columns={name: f"{name}{ending}" for name in MEASURES}))
    left, right = tables
    both = left.merge(right[["_key", "_copy", *(f"{name}_run" for name in MEASURES)]], on=["_key", "_copy"])
    rows = []
    for key, group in both.groupby(["_copy", *KNOBS, "level"], dropna=False, sort=False):
        knobs = dict(zip([*KNOBS, "level"], key[1:], strict=True))
        for knob in apart:
            knobs[knob] = _either(reference[knob], other[knob]) if knobs[knob] else None
        rows.append(knobs | _differences(group, bootstrap))
    return pd.DataFrame(rows)


def _either(one: pd.Series[Any], two: pd.Series[Any]) -> str:
    return " / ".join(plain(values.dropna().iloc[0]) for values in (two, one))


def plain(value: Any) -> str:
    """Return a knob's value as people write it.

    >>> plain("max"), plain(2.0), plain(0.3)
    ('max', '2', '0.3')
    """
    return value if isinstance(value, str) else f"{value:g}"


def _differences(group: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    names = [f"{name}{ending}" for name in MEASURES for ending in ("_reference", "_run")]
    reached = group.dropna(subset=names)
    row: dict[str, Any] = {"n": len(reached), "common": len(group)}
    for ending in ("_reference", "_run"):
        row[f"reached{ending}"] = int(group[f"complement_accuracy_drop{ending}"].notna().sum())
    for name in MEASURES:
        ours, theirs = (reached[f"{name}{ending}"].to_numpy(dtype=float) for ending in ("_reference", "_run"))
        row |= {
            f"{name}_reference": ours.mean() if len(ours) else np.nan,
            f"{name}_run": theirs.mean() if len(ours) else np.nan,
        }
        row |= dict(zip((f"{name}{end}" for end in ENDS), bootstrap.over(theirs - ours), strict=True))
        row[f"{name}_wins"] = int((theirs < ours).sum())
    return row
