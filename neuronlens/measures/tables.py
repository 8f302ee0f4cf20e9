"""Every table of a run's results, made of the outcomes of its sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neuronlens.activations.extract import Extraction
from neuronlens.config.schema import Config
from neuronlens.measures.budget import budgets_of, erasure_at_budget
from neuronlens.measures.comparison import AT_BUDGET, compare_gates, rank_methods
from neuronlens.measures.extent import extents
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import matched_erasure
from neuronlens.measures.metrics import BaseOutcomes
from neuronlens.measures.operating import operating_points
from neuronlens.measures.recovery import with_recovery
from neuronlens.measures.rows import on_select, result_rows
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ConceptDataset, IntArray, ResultTable
from neuronlens.sweep.runner import SiteSweep, Splits


def result_table(
    config: Config,
    loaded: LoadedModel,
    data: ConceptDataset,
    splits: Splits,
    sweeps: Sequence[SiteSweep],
    *,
    run_id: str,
    fingerprints: Mapping[str, str],
    bootstrap: Bootstrap,
) -> ResultTable:
    """Return a run's tables, general ability apart. The grid's rows and the finer doses are kept apart, and matched together.

    Args:
        fingerprints: of the model, the data and how ranking and ranges are fitted.
        bootstrap: of the intervals over samples and over concepts.
    """
    finer = [sweep.finer for sweep in sweeps if sweep.finer is not None]
    shared: dict[str, Any] = {"run_id": run_id, "data": data, "fingerprints": fingerprints}
    labels, base = _base(splits.test)
    own: dict[str, Any] = {"base": base, "labels": labels, "bootstrap": bootstrap}
    rows, doses = (
        result_rows(
            config,
            sweeps=some,
            extra=extents(some, loaded, splits.test, config.intervention.edit_positions),
            **own,
            **shared,
        )
        for some in (sweeps, finer)
    )
    doses = doses[doses["edit"] != "none"].reset_index(drop=True)
    every = pd.concat([rows, doses], ignore_index=True) if len(doses) else rows
    if config.evaluation.recovery:
        every = with_recovery(every, config, loaded, [*sweeps, *finer], splits, data.concepts, fingerprints)
        rows, doses = every[: len(rows)], every[len(rows) :].reset_index(drop=True)
    levels, budgets = config.evaluation.erasure_levels, budgets_of(config.evaluation)
    points = pd.DataFrame()
    if config.evaluation.select != "none" and splits.select is not None:
        select_labels, select_base = _base(splits.select)
        own = {"base": select_base, "labels": select_labels, "bootstrap": bootstrap.off()}
        chosen_on = result_rows(config, sweeps=on_select([*sweeps, *finer]), **own, **shared)
        points = operating_points(chosen_on, every, levels, budgets)
    matched, budget = matched_erasure(every, levels), erasure_at_budget(every, budgets)
    summary = {"accuracy": float(base.correct.mean()), "confidence": float(base.gold.mean())}
    return ResultTable(
        rows,
        matched,
        compare_gates(matched, bootstrap),
        rank_methods(matched, bootstrap),
        points,
        summary | {"n": len(labels), "concepts": len(data.concepts)},
        doses=doses,
        budget=budget,
        budget_comparison=compare_gates(budget, bootstrap, AT_BUDGET),
        budget_methods=rank_methods(budget, bootstrap, AT_BUDGET),
    )


def _base(split: Extraction) -> tuple[IntArray, BaseOutcomes]:
    labels = next(iter(split.activations.values())).labels
    assert split.log_probabilities is not None, "splits that are measured are run to the head"
    assert split.prediction is not None
    return labels, BaseOutcomes.of(split.log_probabilities, split.prediction, labels)
