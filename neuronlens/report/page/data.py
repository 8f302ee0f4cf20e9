"""What the report page shows, as plain JSON: methods, cells, their means with intervals, matched erasure, diagnostics."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.measures.intervals import interval, resample_counts
from neuronlens.measures.matched import COLLATERAL, METHOD, curves, method_name, plain_mask
from neuronlens.records import FloatArray, ResultTable

SHOWN = {
    "concept_accuracy_drop": "concept accuracy drop",
    "concept_confidence_drop": "concept confidence drop",
    "complement_accuracy_drop": "complement accuracy drop",
    "complement_confidence_drop": "complement confidence drop",
    "selectivity": "selectivity",
    "kl": "KL, nats",
    "flip_rate": "flip rate",
}
"""Measures of a cell that the page holds, and how they are spoken of."""
KNOBS = [
    *("layers", "site", "edit_positions", "saliency", "range", "tau", "gate", "edit", "control", "strength"),
    "top_fraction",
]
RESAMPLES = 500  # over concepts, as figures.tradeoff draws them
MOST_WITH_INTERVALS = 6_000  # rows of (cell x concept) that keep their intervals, about 0.2 kB each
MOST_ROWS = 16_000
MOST_CELLS = 4_000

Json = dict[str, Any]


def rounded(values: Iterable[Any], digits: int = 5) -> list[float | str | None]:
    """Return numbers at some significant digits; NaN becomes None and infinity text, for JSON has no word for them.

    >>> rounded([0.123456789, float("nan"), float("inf")])
    [0.12346, None, 'inf']
    """
    found: list[float | str | None] = []
    for value in values:
        if value is None or pd.isna(value):
            found.append(None)
        else:
            number = float(value)
            found.append(float(f"{number:.{digits}g}") if math.isfinite(number) else str(number))
    return found


def plain_knobs(values: Iterable[Any]) -> list[Any]:
    """Return a column of knobs as JSON: text, numbers, None where the knob plays no part."""
    return [
        value if isinstance(value, str) else entry
        for value, entry in ((value, None if isinstance(value, str) else rounded([value])[0]) for value in values)
    ]


def method_key(row: Mapping[Hashable, Any]) -> tuple[Any, ...]:
    """Return what tells a method apart, equal in every table whatever the columns' types."""
    return tuple(plain_knobs(row[name] for name in METHOD))


def methods_of(table: ResultTable) -> list[tuple[Any, ...]]:
    """Return the keys of every method of a run, in the order in which they were swept."""
    edited = curves(table.rows)
    return [method_key(row) for row in edited[METHOD].drop_duplicates().to_dict("records")]


def table_data(table: ResultTable, *, level: float, seed: int) -> Json:
    """Return methods, cells with their means over concepts, rows per concept and matched erasure.

    Args:
        level: of the intervals over concepts.
    Returns:
        JSON types alone; tables are columns under their names. `left_out` says in sentences what did not fit.
    """
    left_out: list[str] = []
    concepts = list(dict.fromkeys(table.rows["concept"]))
    keys = methods_of(table)
    cells, rows = _cells(table.rows, keys, concepts, left_out)
    return {
        "concepts": concepts,
        "measures": [{"name": name, "label": label} for name, label in SHOWN.items()],
        "level": level,
        "methods": _described(keys),
        "cells": cells | {"means": _means(rows, len(cells["method"]), level=level, seed=seed)},
        "rows": _per_concept(rows, left_out),
        "matched": _matched(table.matched, keys, concepts),
        "ranked": _ranked(table.methods, keys),
        "left_out": left_out,
    }


def _described(keys: Sequence[tuple[Any, ...]]) -> list[Json]:
    rows = [dict(zip(METHOD, key, strict=True)) for key in keys]
    saliencies = len({row["saliency"] for row in rows if row["saliency"] is not None}) > 1
    masks = plain_mask(pd.DataFrame(rows, columns=METHOD)).tolist()
    described = []
    for row, mask in zip(rows, masks, strict=True):
        name = method_name({**row, "tau": float(row["tau"])} if row["tau"] is not None else row)
        name += f", {row['saliency']}" if saliencies and row["saliency"] is not None else ""
        kept = {knob: row[knob] for knob in ("layers", "site", "edit", "gate", "control")}
        described.append({"name": name, "plain_mask": mask, **kept})
    return described


def _cells(
    rows: pd.DataFrame, keys: Sequence[tuple[Any, ...]], concepts: Sequence[str], left_out: list[str]
) -> tuple[Json, pd.DataFrame]:
    """Return the cells as columns, and the edited rows with the numbers of their `cell_number` and `concept_number`."""
    edited = rows[rows["edit"] != "none"].copy()
    edited["cell_number"] = edited.groupby(KNOBS, dropna=False, sort=False).ngroup()
    edited["concept_number"] = edited["concept"].map({name: number for number, name in enumerate(concepts)})
    total = edited["cell_number"].nunique()
    if total > MOST_CELLS:
        left_out.append(f"{total - MOST_CELLS} of {total} cells (all stand in results.parquet).")
        edited = edited[edited["cell_number"] < MOST_CELLS]
    swept = curves(rows).assign(cell_number=edited["cell_number"]).dropna(subset="cell_number")
    number = {key: place for place, key in enumerate(keys)}
    method = swept.drop_duplicates("cell_number").set_index("cell_number")[METHOD]
    own = {cell: number[method_key(row)] for cell, row in zip(method.index, method.to_dict("records"), strict=True)}
    cells = edited.drop_duplicates("cell_number").set_index("cell_number")[KNOBS]
    found: Json = {"knobs": {knob: plain_knobs(cells[knob]) for knob in KNOBS}}
    found["method"] = [own.get(cell, -1) for cell in cells.index]
    done = edited[edited["skipped"].isna()].groupby("cell_number")
    found["concepts"] = done.size().reindex(cells.index, fill_value=0).tolist()
    mean_count = edited.groupby("cell_number")["n_neurons"].mean()
    found["n_neurons"] = rounded(mean_count.reindex(cells.index).astype(float))
    return found, edited


def _means(rows: pd.DataFrame, cells: int, *, level: float, seed: int) -> Json:
    """Return each measure's mean over the concepts that were not skipped, and its bootstrap interval over them."""
    names = list(SHOWN)
    done = rows[rows["skipped"].isna()].sort_values("cell_number", kind="stable")
    values = done[names].to_numpy(dtype=float)
    counts = np.bincount(done["cell_number"].to_numpy(dtype=int), minlength=cells)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
    found = np.full((3, cells, len(names)), np.nan)
    for count in np.unique(counts[counts > 0]):
        those = np.flatnonzero(counts == count)
        block = values[starts[those][:, None] + np.arange(count)]  # [cell, concept, measure]
        found[0, those] = block.mean(axis=1)
        found[1, those], found[2, those] = intervals_over_concepts(block, level=level, seed=seed)
    return {name: _ends(found[:, :, place]) for place, name in enumerate(names)}


def intervals_over_concepts(block: FloatArray, *, level: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return the bounds `[cell, measure]` that `mean_interval` gives of each column of `block [cell, concept, measure]`."""
    cells, concepts, measures = block.shape
    weights = resample_counts(concepts, RESAMPLES, seed) / concepts
    flat = block.transpose(1, 0, 2).reshape(concepts, -1)
    low, high = interval(weights.astype(np.float64) @ flat, level)
    return low.reshape(cells, measures), high.reshape(cells, measures)


def _ends(triple: FloatArray) -> Json:
    return {name: rounded(part) for name, part in zip(("mean", "low", "high"), triple, strict=True)}


def _per_concept(rows: pd.DataFrame, left_out: list[str]) -> Json | None:
    """Return the measures of each (cell, concept) with their own intervals, or without where there are too many."""
    if len(rows) > MOST_ROWS:
        left_out.append(f"The {len(rows)} rows of single concepts (all stand in results.parquet).")
        return None
    found: Json = {"cell": rows["cell_number"].tolist(), "concept": rows["concept_number"].tolist()}
    for name in SHOWN:
        found[name] = {"mean": rounded(rows[name])}
        if len(rows) <= MOST_WITH_INTERVALS:
            found[name] |= {end: rounded(rows[f"{name}_{end}"]) for end in ("low", "high")}
    if len(rows) > MOST_WITH_INTERVALS:
        left_out.append(f"The intervals of {len(rows)} rows of single concepts (they stand in results.parquet).")
    return found


def _matched(matched: pd.DataFrame, keys: Sequence[tuple[Any, ...]], concepts: Sequence[str]) -> Json:
    """Return collateral at matched erasure per (method, concept, level); None where the method never erases as much."""
    number = {key: place for place, key in enumerate(keys)}
    place = {name: index for index, name in enumerate(concepts)}
    method = [number[method_key(row)] for row in matched[METHOD].to_dict("records")] if len(matched) else []
    found: Json = {"method": method}
    found["concept"] = [place[name] for name in matched["concept"]]
    found["level"] = rounded(matched["level"])
    return found | {name: rounded(matched[name]) for name in COLLATERAL}


def _ranked(methods: pd.DataFrame, keys: Sequence[tuple[Any, ...]]) -> Json:
    """Return every method's mean collateral with its interval per level, best first, and how many concepts it reaches."""
    number = {key: place for place, key in enumerate(keys)}
    if methods.empty:
        return {"method": [], "level": [], "reached": [], "concepts": []}
    found: Json = {"method": [number[method_key(row)] for row in methods[METHOD].to_dict("records")]}
    found |= {"level": rounded(methods["level"]), "reached": methods["reached_range"].tolist()}
    found["concepts"] = methods["concepts"].tolist()
    for name in COLLATERAL:
        ends = [methods[column].to_numpy(dtype=float) for column in (name, f"{name}_own_low", f"{name}_own_high")]
        found[name] = _ends(np.stack(ends))
    return found


def overlap_data(overlap: pd.DataFrame, concepts: Sequence[str]) -> list[Json]:
    """Return, per (site, ranking), the Jaccard overlap of salient sets `[concept, other]`."""
    if overlap.empty:
        return []
    found = []
    for (site, saliency), panel in overlap.groupby(["site", "saliency"], sort=False):
        square = panel.pivot(index="concept", columns="other", values="jaccard").reindex(
            index=concepts, columns=concepts
        )
        found.append({"site": site, "saliency": saliency, "square": [rounded(row, 4) for row in square.to_numpy()]})
    return found


HELD_OUT = {
    "coverage": "the range fires on the concept",
    "rest": "it fires on the rest",
    "purity": "purity",
    "overlap": "overlap with the others' laws",
    "skewness": "skewness",
    "kurtosis": "excess kurtosis",
    "ks": "Kolmogorov-Smirnov distance",
    "normal": "neurons whose normality is not refused (p at least 0.05)",
}


def held_out_data(diagnostics: pd.DataFrame) -> list[Json]:
    """Return, per (site, ranking, range, tau, concept), what its salient neurons and their ranges do on held-out samples.

    Shares and overlap are means over the concept's salient neurons, shape and distance medians, `normal` a share of them.
    """
    if diagnostics.empty:
        return []
    knobs = ["site", "saliency", "range", "tau", "concept"]
    groups = diagnostics.assign(normal=(diagnostics["ks_p"] >= 0.05).where(diagnostics["ks_p"].notna())).groupby(
        knobs, dropna=False, sort=False
    )
    table = pd.DataFrame(
        {
            "neurons": groups.size(),
            "coverage": groups["firing_concept"].mean(),
            "rest": groups["firing_rest"].mean(),
            "purity": groups["purity"].mean(),
            "overlap": groups["overlap"].mean(),
            "skewness": groups["skewness"].median(),
            "kurtosis": groups["excess_kurtosis"].median(),
            "ks": groups["ks_statistic"].median(),
            "normal": groups["normal"].apply(lambda column: column.astype(float).mean()),
        }
    ).reset_index()
    columns = {name: plain_knobs(table[name]) for name in knobs}
    columns |= {name: rounded(table[name], 4) for name in ("neurons", *HELD_OUT)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def skipped_data(rows: pd.DataFrame) -> list[Json]:
    """Return each reason for which cells were skipped, with its concepts and how many cells it hit."""
    skipped = rows[rows["skipped"].notna()]
    return [
        {"reason": str(reason), "concepts": list(dict.fromkeys(group["concept"])), "cells": len(group)}
        for reason, group in skipped.groupby("skipped", sort=False)
    ]
