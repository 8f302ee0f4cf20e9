"""Is a concept erased, or only hidden from the head: what a probe fitted on edited states still reads of it.

The probe is fitted on the fit split's states under the very edit and read on the test split's. An edit after which a new
probe finds the concept again has turned the head away from it and left it in the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuronlens.activations.extract import Extraction
from neuronlens.config.schema import Config
from neuronlens.hooks.resolver import blocks_of
from neuronlens.hooks.tokens import Tokens, run_edit
from neuronlens.measures.columns import COST, CURVE, ERASED, RESULTS
from neuronlens.measures.rows import cell_id
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ActivationSet, BoolArray, Cell, FloatArray, Site
from neuronlens.sweep.doses import TOLERANCE
from neuronlens.sweep.evaluator import BuildsEdits
from neuronlens.sweep.incremental import activations_under
from neuronlens.sweep.runner import SiteSweep, Splits

CELLS_AT_ONCE = 16
Read = tuple[FloatArray, FloatArray]
"""States of the fit and of the test split, `[sample, neuron]` each."""


def recoverability(fit: FloatArray, in_fit: BoolArray, test: FloatArray, in_test: BoolArray) -> dict[str, float]:
    """Return how well probes fitted on some states tell a concept on others: AUROC by `linear` and `rbf`; chance is 0.5.

    A logistic regression and a support vector machine with an RBF kernel, on values standardised by the fit states, both
    classes weighted alike. Below 0.5 is chance too: nothing is turned around. NaN where a side lacks one of the classes.

    Args:
        fit, test: `[sample, neuron]`; not modified.
        in_fit, in_test: which samples carry the concept `[sample]`.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if len(set(in_fit.tolist())) < 2 or len(set(in_test.tolist())) < 2:
        return {"linear": float("nan"), "rbf": float("nan")}
    probes = {
        "linear": LogisticRegression(C=0.1, class_weight="balanced", max_iter=500),
        "rbf": SVC(kernel="rbf", class_weight="balanced"),
    }
    found = {}
    for name, probe in probes.items():
        model = make_pipeline(StandardScaler(), probe).fit(fit, in_fit)
        found[name] = float(roc_auc_score(in_test, model.decision_function(test)))
    return found


def reaching(rows: pd.DataFrame, levels: Sequence[float]) -> set[str]:
    """Return the ids of the cells at which methods reach erasure levels: per concept the one of least cost to the others."""
    rows = rows[rows["skipped"].isna() & (rows["edit"] != "none")]
    chosen: set[str] = set()
    share = rows[ERASED] / rows["base_concept_accuracy"].where(rows["base_concept_accuracy"] > 0)
    for level in levels:
        there = rows[share >= level - TOLERANCE]
        least = there.sort_values(COST, kind="stable").drop_duplicates([*CURVE, "concept"])
        chosen |= set(least["cell_id"])
    return chosen


def with_recovery(
    rows: pd.DataFrame,
    config: Config,
    loaded: LoadedModel,
    sweeps: Sequence[SiteSweep],
    splits: Splits,
    concepts: Sequence[str],
    fingerprints: Mapping[str, str],
) -> pd.DataFrame:
    """Return the results with the columns of recovery filled in at the cells that reach an erasure level.

    Only where one site is edited. The edited layer is read at the record position, with the edit made there.

    Args:
        rows: of `result_rows`; not modified.
    """
    rows, wanted = rows.copy(), reaching(rows, config.evaluation.erasure_levels)
    place = {key: number for number, key in enumerate(rows["cell_id"])}
    for sweep in sweeps:
        if len(sweep.sites) > 1:
            continue
        ids = {cell: _id(config, sweep, cell, concepts, fingerprints) for cell in sweep.cells}
        cells = [cell for cell in sweep.cells if ids[cell] in wanted]
        for at in range(0, len(cells), CELLS_AT_ONCE):
            for cell, figures in _figures(config, loaded, sweep, splits, cells[at : at + CELLS_AT_ONCE]):
                for column, value in figures.items():
                    rows.loc[rows.index[place[ids[cell]]], column] = value
    return rows.astype(dict.fromkeys(RESULTS.keys("recovery"), "float64"))


def _id(config: Config, sweep: SiteSweep, cell: Cell, concepts: Sequence[str], keys: Mapping[str, str]) -> str:
    return cell_id(sweep, cell, concepts[cell[1]], config.intervention.edit_positions, keys)


def _figures(
    config: Config, loaded: LoadedModel, sweep: SiteSweep, splits: Splits, cells: Sequence[Cell]
) -> Iterator[tuple[Cell, dict[str, float]]]:
    (site,) = sweep.sites
    fit, test = splits.fit.activations[site], splits.test.activations[site]
    builder = sweep.builders[site]
    last = Site(len(blocks_of(loaded.model)) - 1)
    plain = [(replace(knobs, strength=0.0), concept) for knobs, concept in cells]
    above = _at_the_end(config, loaded, sweep.builders, splits, site, last, [*cells, *plain]) if site != last else None
    for cell, unedited in zip(cells, plain, strict=True):
        figures: dict[str, float] = {}
        for base, one in (("", cell), ("base_", unedited)):
            here = _edited(builder, one, fit.values), _edited(builder, one, test.values)
            for where, (own_fit, own_test) in (("edited", here), ("last", above(one) if above else here)):
                found = recoverability(own_fit, fit.labels == cell[1], own_test, test.labels == cell[1])
                figures |= {f"{base}recovery_{probe}_{where}": value for probe, value in found.items()}
        yield cell, figures


def _edited(builder: BuildsEdits, cell: Cell, values: FloatArray) -> FloatArray:
    """Return activations `[sample, neuron]` under a cell's edit."""
    hidden = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, :, None]
    every = torch.ones(hidden.shape[1:3], dtype=torch.bool)  # a record vector is the mean of one token, itself
    with torch.no_grad():
        return run_edit(builder.batch([cell]), hidden, None, Tokens(every, every, causal=False))[0, :, 0].numpy()


def _at_the_end(
    config: Config,
    loaded: LoadedModel,
    builders: Mapping[Site, BuildsEdits],
    splits: Splits,
    site: Site,
    last: Site,
    cells: Sequence[Cell],
) -> Callable[[Cell], Read]:
    """Return what gives the last block's output under a cell's edit further down, on both splits."""

    def under(split: Extraction) -> dict[Cell, Callable[[], ActivationSet]]:
        shape: Any = replace(split.activations[site], site=last)
        return activations_under(
            loaded,
            split.states[loaded.paths.start_of(site)],
            builders,
            list(dict.fromkeys(cells)),
            shape,
            edit_positions=config.intervention.edit_positions,
            tokens_per_forward=config.evaluation.tokens_per_forward,
            trainer=config.trainer,
        )

    fit, test = under(splits.fit), under(splits.test)
    return lambda cell: (fit[cell]().values, test[cell]().values)
