"""Outcomes as a tidy table: one row per (cell x concept)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema import Config
from neuronlens.edits.fitting import other_concept
from neuronlens.measures.columns import RESULTS
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.metrics import BaseOutcomes, measure
from neuronlens.records import BoolArray, Cell, ConceptDataset, FloatArray, IntArray, Knobs
from neuronlens.sweep.evaluator import Outcomes
from neuronlens.sweep.runner import SiteSweep


def result_rows(
    config: Config,
    *,
    run_id: str,
    data: ConceptDataset,
    sweeps: Sequence[SiteSweep],
    base: BaseOutcomes,
    labels: IntArray,
    fingerprints: Mapping[str, str],
    bootstrap: Bootstrap,
    extra: Sequence[Mapping[Cell, Mapping[str, float]]] = (),
) -> pd.DataFrame:
    """Return one row per (cell x concept) in the columns of `measures.columns`, the unedited model first.

    A skipped cell has its reason in `skipped` and null measures; knobs that play no part are null. Where several layers
    are edited at once, `layer` is the highest and `layers` names all. Measures of a cell, the unedited model's among them,
    are over the samples that its sweep ran on.

    Args:
        labels: of the split the outcomes are on.
        extra: per sweep, figures of cells for columns of their own; none for a sweep that has none.
        fingerprints: of the model, the data and how ranking and ranges are fitted; with a cell's knobs they make its id.
    """
    positions = config.intervention.edit_positions
    shared = {"run_id": run_id, "model": config.model.name, "dataset": data.name, "seed": config.seed}
    nothing = np.zeros((1, len(labels)))
    unedited = Outcomes(base.gold[None], base.correct[None], nothing, nothing.astype(bool))
    rows: list[dict[str, Any]] = []
    for concept, name in enumerate(data.concepts):
        member = labels == concept
        sizes = {"concept": name, "n_concept": int(member.sum()), "n_complement": int((~member).sum())}
        found = measure(unedited, np.array([0]), base, member, bootstrap)
        identity = {"edit": "none", "cell_id": fingerprint([fingerprints, "none", name])}
        rows.append(shared | sizes | identity | {key: value[0] for key, value in found.items()})
    for number, sweep in enumerate(sweeps):
        own_extra = extra[number] if extra else {}
        own_labels = labels[sweep.samples]
        places = {cell: place for place, cell in enumerate(sweep.cells)}
        own_base = BaseOutcomes(base.gold[sweep.samples], base.correct[sweep.samples])
        own_tpp = tpp(sweep.outcomes.correct, own_base.correct, own_labels, [cell[1] for cell in sweep.cells])
        for concept, name in enumerate(data.concepts):
            member = own_labels == concept
            sizes = {"concept": name, "n_concept": int(member.sum()), "n_complement": int((~member).sum())}
            done = [cell for cell in sweep.cells if cell[1] == concept]
            index = np.array([places[cell] for cell in done], dtype=int)
            found = measure(sweep.outcomes, index, own_base, member, bootstrap) if done else {}
            for at, cell in enumerate((*done, *(cell for cell in sweep.skipped if cell[1] == concept))):
                row = shared | sizes | knob_columns(sweep, cell) | {"edit_positions": positions}
                row["range_concept"] = range_concept(cell, data.concepts, config.seed)
                row["cell_id"] = cell_id(sweep, cell, name, positions, fingerprints)
                row["skipped"] = sweep.skipped.get(cell)
                if at < len(done):
                    row |= {key: value[at] for key, value in found.items()}
                    row["tpp"] = own_tpp[places[cell]]
                    row |= own_extra.get(cell, {})
                rows.append(row)
    columns = RESULTS.in_file
    return pd.DataFrame(rows, columns=columns).astype(RESULTS.dtypes(columns))


def cell_id(sweep: SiteSweep, cell: Cell, concept: str, positions: str, fingerprints: Mapping[str, str]) -> str:
    """Return the fingerprint of a cell: what it edits, where, and what it was fitted on."""
    own = [fingerprints, sweep.mode, [str(site) for site in sweep.sites], cell[0], positions, concept]
    return fingerprint(own if sweep.samples_per_concept is None else [*own, sweep.samples_per_concept])


def knob_columns(sweep: SiteSweep, cell: Cell) -> dict[str, Any]:
    """Return the columns that say what a cell does, its concept and edit positions apart."""
    where = {
        "layer": sweep.sites[-1].layer,
        "layers": "+".join(str(site.layer) for site in sweep.sites)
        + (" incremental" if sweep.mode == "incremental" else ""),
        "site": sweep.sites[0].name,
        "n_neurons": sweep.n_neurons[cell],
    }
    declared = RESULTS.keys(kind="knob")
    return where | {field.name: getattr(cell[0], field.name) for field in fields(Knobs) if field.name in declared}


def range_concept(cell: Cell, concepts: Sequence[str], seed: int) -> str | None:
    """Return the name of the concept whose ranges a control's cell takes; None where they are the cell's own."""
    other = other_concept(concepts, cell[1], seed) if cell[0].control == "other_concept" else None
    return None if other is None else concepts[other]


def tpp(correct: BoolArray, base: BoolArray, labels: IntArray, concepts: Sequence[int]) -> FloatArray:
    """Return, per cell, the concept's accuracy drop minus the mean over the other concepts of theirs; NaN without either.

    Source: SAEBench's targeted probe perturbation (Karvonen et al. 2025), here with the model's own predictions.

    Args:
        correct: under each cell's edit `[cell, sample]`.
        base: of the unedited model `[sample]`.
        concepts: the concept that each cell edits.

    >>> tpp(np.array([[False, True, True]]), np.array([True, True, True]), np.array([0, 1, 2]), [0]).tolist()
    [1.0]
    """
    present, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    member = np.eye(len(present))[group] / counts[group, None]
    drops = (base.astype(np.float64) - correct) @ member  # [cell, concept that has samples]
    own = np.asarray(concepts)[:, None] == present
    others = len(present) - 1
    if others < 1:
        return np.full(len(correct), np.nan)
    mine = np.where(own.any(axis=1), (drops * own).sum(axis=1), np.nan)
    return mine - (drops.sum(axis=1) - mine) / others


def on_select(sweeps: Sequence[SiteSweep]) -> list[SiteSweep]:
    """Return the sweeps with the select split's outcomes, over all its samples, in the place of the test split's.

    Where a sweep says which of its cells may be chosen there, only these are left.
    """
    found = []
    for sweep in sweeps:
        if sweep.select is None:
            continue
        offered = [place for place, cell in enumerate(sweep.cells) if sweep.offered is None or cell in sweep.offered]
        found.append(
            replace(
                sweep,
                cells=[sweep.cells[place] for place in offered],
                outcomes=sweep.select.of_cells(offered),
                samples=np.arange(sweep.select.gold.shape[1]),
                select=None,
            )
        )
    return found
