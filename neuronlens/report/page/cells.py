"""The methods, cells and matched erasure that the page shows, as plain JSON, with their means and intervals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import COLLATERAL, COST, EFFECTS, ERASED, METHOD, RESULTS, SETTINGS
from neuronlens.measures.comparison import plain_mask
from neuronlens.measures.declaration import leading
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import curves, share_erased
from neuronlens.records import FloatArray, ResultTable
from neuronlens.report.page.values import Json, plain_knobs, rounded
from neuronlens.report.palette import key_of, styles

SHARE = "share_erased"
"""Of a concept's base accuracy: what every axis of erasure shows."""
MOST_WITH_INTERVALS = 6_000  # rows of (cell x concept) that keep their intervals, about 0.2 kB each
MOST_ROWS = 16_000
MOST_CELLS = 4_000


def method_key(row: Mapping[Hashable, Any]) -> tuple[Any, ...]:
    """Return a method's key, equal in every table whatever the columns' types."""
    return tuple(plain_knobs(row[name] for name in METHOD))


def methods_of(table: ResultTable) -> list[tuple[Any, ...]]:
    """Return the keys of every method of a run, in the order in which they were swept."""
    edited = curves(table.rows)
    return [method_key(row) for row in edited[METHOD].drop_duplicates().to_dict("records")]


def table_data(table: ResultTable, bootstrap: Bootstrap, tau: float | None = None) -> Json:
    """Return methods, cells with their means over concepts, rows per concept and matched erasure.

    Args:
        bootstrap: of the intervals over concepts.
        tau: the configured one, whose range mask has the range's own colour.

    Returns:
        JSON types alone; tables are columns under their names. `left_out` says in sentences what did not fit.
    """
    left_out: list[str] = []
    concepts = list(dict.fromkeys(table.rows["concept"]))
    keys = methods_of(table)
    cells, rows = _cells(table.rows, keys, concepts, left_out)
    rows = rows.assign(**{SHARE: share_erased(rows)})
    return {
        "concepts": concepts,
        "measures": [{"name": name, "label": naming.measure(name)} for name in EFFECTS],
        "knobs": [{"name": knob, "label": RESULTS[knob].heading} for knob in SETTINGS],
        "costs": leading(COLLATERAL, COST),
        "methods": _described(keys, tau),
        "cells": cells | {"means": _means(rows, len(cells["method"]), bootstrap)},
        "rows": _per_concept(rows, left_out),
        "matched": _matched(table.matched, keys, concepts),
        "ranked": _ranked(table.methods, keys),
        "left_out": left_out,
    }


def _described(keys: Sequence[tuple[Any, ...]], tau: float | None) -> list[Json]:
    rows = [dict(zip(METHOD, key, strict=True)) for key in keys]
    table = pd.DataFrame(rows, columns=METHOD)
    known = styles(table, tau)  # the page shows one place at a time, and so do the names
    described = []
    for row, mask in zip(rows, plain_mask(table).tolist(), strict=True):
        kept = {knob: row[knob] for knob in ("layers", "site", "edit", "gate", "control", "range", "tau", "saliency")}
        style = known[key_of(row)]
        described.append({"name": style.name, "colour": style.colour, "plain_mask": mask, **kept})
    return described


def _cells(
    rows: pd.DataFrame, keys: Sequence[tuple[Any, ...]], concepts: Sequence[str], left_out: list[str]
) -> tuple[Json, pd.DataFrame]:
    """Return the cells as columns, and the edited rows with the numbers of their `cell_number` and `concept_number`."""
    edited = rows[rows["edit"] != "none"].copy()
    edited["cell_number"] = edited.groupby(SETTINGS, dropna=False, sort=False).ngroup()
    edited["concept_number"] = edited["concept"].map({name: number for number, name in enumerate(concepts)})
    total = edited["cell_number"].nunique()
    if total > MOST_CELLS:
        left_out.append(f"{total - MOST_CELLS} of {total} cells (all stand in results.parquet).")
        edited = edited[edited["cell_number"] < MOST_CELLS]
    swept = curves(rows)
    numbers = edited["cell_number"].reindex(swept.index)  # an empty table would take over the others' rows
    swept = swept.assign(cell_number=numbers).dropna(subset="cell_number")
    number = {key: place for place, key in enumerate(keys)}
    method = swept.drop_duplicates("cell_number").set_index("cell_number")[METHOD]
    own = {cell: number[method_key(row)] for cell, row in zip(method.index, method.to_dict("records"), strict=True)}
    cells = edited.drop_duplicates("cell_number").set_index("cell_number")[SETTINGS]
    found: Json = {"knobs": {knob: plain_knobs(cells[knob]) for knob in SETTINGS}}
    found["method"] = [own.get(cell, -1) for cell in cells.index]
    done = edited[edited["skipped"].isna()].groupby("cell_number")
    found["concepts"] = done.size().reindex(cells.index, fill_value=0).tolist()
    mean_count = edited.groupby("cell_number")["n_neurons"].mean()
    found["n_neurons"] = rounded(mean_count.reindex(cells.index).astype(float))
    return found, edited


def _means(rows: pd.DataFrame, cells: int, bootstrap: Bootstrap) -> Json:
    """Return each measure's mean over the concepts that were not skipped, and its interval over them."""
    done = rows[rows["skipped"].isna()].sort_values("cell_number", kind="stable")
    known = done.dropna(subset=SHARE)  # of a concept that the unedited model does not know there is no share
    return _means_of(done, EFFECTS, cells, bootstrap) | _means_of(known, [SHARE], cells, bootstrap)


def _means_of(done: pd.DataFrame, measures: Sequence[str], cells: int, bootstrap: Bootstrap) -> Json:
    values = done[list(measures)].to_numpy(dtype=float)
    counts = np.bincount(done["cell_number"].to_numpy(dtype=int), minlength=cells)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
    found = np.full((3, cells, len(measures)), np.nan)
    for count in np.unique(counts[counts > 0]):
        those = np.flatnonzero(counts == count)
        block = values[starts[those][:, None] + np.arange(count)]  # [cell, concept, measure]
        found[:, those] = bootstrap.of_mean(block.transpose(0, 2, 1))
    return {name: _ends(found[:, :, place]) for place, name in enumerate(measures)}


def _ends(triple: FloatArray) -> Json:
    return {name: rounded(part) for name, part in zip(("mean", "low", "high"), triple, strict=True)}


def _per_concept(rows: pd.DataFrame, left_out: list[str]) -> Json | None:
    """Return the measures of each (cell, concept) with their own intervals, or without where there are too many."""
    if len(rows) > MOST_ROWS:
        left_out.append(f"The {len(rows)} rows of single concepts (all stand in results.parquet).")
        return None
    found: Json = {"cell": rows["cell_number"].tolist(), "concept": rows["concept_number"].tolist()}
    for name in EFFECTS:
        found[name] = {"mean": rounded(rows[name])}
        if len(rows) <= MOST_WITH_INTERVALS:
            found[name] |= {
                end: rounded(rows[column]) for end, column in zip(("low", "high"), RESULTS[name].ends, strict=True)
            }
    base = rows["base_concept_accuracy"].astype(float)
    base = base.where(base > 0)
    found[SHARE] = {"mean": rounded(rows[SHARE])}
    if len(rows) <= MOST_WITH_INTERVALS:
        ends = zip(("low", "high"), RESULTS[ERASED].ends, strict=True)
        found[SHARE] |= {end: rounded(rows[column] / base) for end, column in ends}
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
