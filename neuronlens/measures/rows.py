"""Outcomes as a tidy table: one row per (cell x concept)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema import Config
from neuronlens.measures.metrics import MEASURES, BaseOutcomes, measure
from neuronlens.records import Cell, ConceptDataset, IntArray
from neuronlens.sweep.evaluator import Outcomes
from neuronlens.sweep.runner import SiteSweep

KNOBS = (
    *("run_id", "model", "dataset", "layer", "site", "saliency", "top_fraction", "range", "tau", "gate", "edit"),
    *("strength", "edit_positions", "concept", "seed", "n_concept", "n_complement"),
)
COLUMNS = (
    *KNOBS,
    *MEASURES,
    *(f"{name}_{end}" for name in MEASURES for end in ("low", "high")),
    *("layers", "control", "parameters", "n_neurons", "skipped", "cell_id"),
)


def result_rows(
    config: Config,
    *,
    run_id: str,
    data: ConceptDataset,
    sweeps: Sequence[SiteSweep],
    base: BaseOutcomes,
    labels: IntArray,
    fingerprints: Mapping[str, str],
) -> pd.DataFrame:
    """Return one row per (cell x concept) in the columns of SPEC section 8, the unedited model first.

    A skipped cell has its reason in `skipped` and null measures; knobs that play no part are null. Where several layers
    are edited at once, `layer` is the highest and `layers` names all. Measures of a cell, the unedited model's among them,
    are over the samples that its sweep ran on.

    Args:
        labels: of the split the outcomes are on.
        fingerprints: of the model, the data and how ranking and ranges are fitted; with a cell's knobs they make its id.
    """
    options: dict[str, Any] = {"resamples": config.evaluation.bootstrap, "seed": config.seed}
    options["level"] = config.evaluation.level
    positions = config.intervention.edit_positions
    shared = {"run_id": run_id, "model": config.model.name, "dataset": data.name, "seed": config.seed}
    nothing = np.zeros((1, len(labels)))
    unedited = Outcomes(base.gold[None], base.correct[None], nothing, nothing.astype(bool))
    rows: list[dict[str, Any]] = []
    for concept, name in enumerate(data.concepts):
        member = labels == concept
        sizes = {"concept": name, "n_concept": int(member.sum()), "n_complement": int((~member).sum())}
        found = measure(unedited, np.array([0]), base, member, **options)
        identity = {"edit": "none", "cell_id": fingerprint([fingerprints, "none", name])}
        rows.append(shared | sizes | identity | {key: value[0] for key, value in found.items()})
    for sweep in sweeps:
        places = {cell: place for place, cell in enumerate(sweep.cells)}
        own_base = BaseOutcomes(base.gold[sweep.samples], base.correct[sweep.samples])
        for concept, name in enumerate(data.concepts):
            member = labels[sweep.samples] == concept
            sizes = {"concept": name, "n_concept": int(member.sum()), "n_complement": int((~member).sum())}
            done = [cell for cell in sweep.cells if cell[1] == concept]
            index = np.array([places[cell] for cell in done], dtype=int)
            found = measure(sweep.outcomes, index, own_base, member, **options) if done else {}
            for cell in (*done, *(cell for cell in sweep.skipped if cell[1] == concept)):
                row = shared | sizes | knob_columns(sweep, cell) | {"edit_positions": positions}
                row["cell_id"] = cell_id(sweep, cell, name, positions, fingerprints)
                row["skipped"] = sweep.skipped.get(cell)
                if cell in places:
                    at = int(np.flatnonzero(index == places[cell])[0])
                    row |= {key: value[at] for key, value in found.items()}
                rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"layer": "Int64", "n_neurons": "Int64"})


def cell_id(sweep: SiteSweep, cell: Cell, concept: str, positions: str, fingerprints: Mapping[str, str]) -> str:
    """Return the fingerprint of a cell: what it edits, where, and what it was fitted on."""
    own = [fingerprints, sweep.mode, [str(site) for site in sweep.sites], cell[0], positions, concept]
    return fingerprint(own if sweep.samples_per_concept is None else [*own, sweep.samples_per_concept])


def knob_columns(sweep: SiteSweep, cell: Cell) -> dict[str, Any]:
    """Return the columns that say what a cell does, its concept and edit positions apart."""
    knobs = cell[0]
    return {
        "layer": sweep.sites[-1].layer,
        "layers": "+".join(str(site.layer) for site in sweep.sites)
        + (" incremental" if sweep.mode == "incremental" else ""),
        "site": sweep.sites[0].name,
        "saliency": knobs.saliency,
        "top_fraction": knobs.top_fraction,
        "range": knobs.range,
        "tau": knobs.tau,
        "gate": knobs.gate,
        "edit": knobs.edit,
        "strength": knobs.strength,
        "control": knobs.control,
        "parameters": knobs.parameters,
        "n_neurons": sweep.n_neurons[cell],
    }


def on_select(sweeps: Sequence[SiteSweep]) -> list[SiteSweep]:
    """Return the sweeps with the select split's outcomes, over all its samples, in the place of the test split's."""
    return [
        replace(sweep, outcomes=sweep.select, samples=np.arange(sweep.select.gold.shape[1]), select=None)
        for sweep in sweeps
        if sweep.select is not None
    ]
