"""Runs that differ in their seed alone, joined: what a range mask costs against the neuron mask, concepts nested in seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS
from neuronlens.report.claims.evidence_edits import gate_pairs
from neuronlens.report.compare.runs import Run, settings
from neuronlens.report.compare.unedited import about
from neuronlens.report.table import Column, Table, frame_of

SEEDS = ("seed", "dataset.seed", "model.finetune.seed")
"""Settings that redraw a run: splits, fine-tuning, controls and resamples."""


def joined(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs in groups that differ in nothing but their seeds, two or more each, in the order given."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        rest = {name: value for name, value in settings(run.manifest.settings).items() if name not in SEEDS}
        groups.setdefault(tuple(sorted(rest.items())), []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def seeds_table(runs: Sequence[Run]) -> Table:
    """Return range minus neuron mask at matched erasure over the seeds of each group of `joined`.

    A concept's difference is its mean over the seeds in which both masks reach the level; the interval is over the concepts,
    for they are what is drawn from a larger number. `between_seeds` is the standard deviation (ddof 1) of the seeds' own
    means over concepts: how far another draw of splits and fine-tuning moves the figure.
    """
    columns = (
        Column("method", "Method"),
        Column("level", "Erased", format=".0%"),
        Column("measure", "Others'"),
        Column("n_concepts", "Concepts", format="d"),
        Column("n_seeds", "Seeds", format="d"),
        Column("difference", "Range - neuron", format="+.3f", interval=True),
        Column("between_seeds", "Between seeds", format=".3f"),
    )
    rows = [row for group in joined(runs) for row in _rows(group)]
    frame = frame_of([], columns)
    if rows:
        frame = pd.DataFrame(rows).sort_values(["method", "level"], kind="stable", ignore_index=True)
    return Table(
        "compare-seeds",
        "Range mask against neuron mask over seeds",
        "Complement accuracy and confidence drop at matched erasure, range minus neuron mask of the same edit; a negative "
        "difference: the range costs the others less. Each concept's mean over the seeds first, then the mean over concepts "
        "with its interval; between seeds: the standard deviation of the seeds' own means.",
        frame,
        columns,
        row_groups=("method", "level"),
        notes=about(*(run.bootstrap for run in runs)),
    )


def _rows(group: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a row per (method, level, measure) of runs that differ in their seeds alone."""
    found: dict[tuple[Any, ...], list[pd.DataFrame]] = {}
    knobs_of: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, run in enumerate(group):
        for knobs, pairs in gate_pairs(run.table.matched, run.tau, DROPS, also=["level"]):
            key = tuple(None if pd.isna(value) else value for value in knobs.values())
            differences = pd.DataFrame({name: pairs[name] - pairs[f"{name}_neuron"] for name in DROPS})
            found.setdefault(key, []).append(differences.assign(seed=number))
            knobs_of[key] = knobs
    rows = []
    for key, parts in found.items():
        every, knobs = pd.concat(parts), knobs_of[key]
        for name in DROPS:
            by_concept = every.groupby(level="concept")[name].mean()
            by_seed = every.groupby("seed")[name].mean()
            estimate = group[0].bootstrap.of_mean(by_concept.to_numpy(dtype=float))
            row = {
                "method": f"{group[0].model}, {group[0].dataset}, {naming.place(knobs)}: {naming.setting(knobs)}",
                "level": knobs["level"],
                "measure": naming.measure(name, short=True),
                "n_concepts": len(by_concept),
                "n_seeds": len(by_seed),
                "between_seeds": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else float("nan"),
            }
            rows.append(row | estimate.columns("difference"))
    return rows
