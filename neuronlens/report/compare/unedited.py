"""Runs before any edit: their settings where these differ, and the accuracy of the unedited models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.significance import sign_flip_p
from neuronlens.report.compare.runs import Run, everything_differing
from neuronlens.report.p_values import NOTE, p_columns, with_holm
from neuronlens.report.table import Column, Table

UNEDITED = {"concept_accuracy": "Accuracy", "concept_confidence": "Confidence"}


def common_concepts(reference: Run, other: Run) -> list[str]:
    """Return the concepts that two runs can be paired by: none where the datasets differ, equal names or not."""
    if reference.dataset != other.dataset:
        return []
    return [name for name in reference.unedited.index if name in other.unedited.index]


def settings_table(runs: Sequence[Run]) -> Table:
    """Return all that is not the same in all runs, whole."""
    apart = everything_differing(runs)
    apart.columns = pd.Index([run.name for run in runs])
    columns = [Column("setting", "Setting"), *(Column(run.name, run.name, wrap_cm=3.5) for run in runs)]
    return Table(
        "compare-settings",
        "What differs",
        "All settings, versions and inputs that are not the same in all runs.",
        apart.rename_axis("setting").reset_index(),
        tuple(columns),
    )


def unedited_table(runs: Sequence[Run], bootstrap: Bootstrap) -> Table:
    """Return the models without any edit, each paired by concept with the first run's."""
    rows = []
    for run in runs:
        own, first = run.unedited, runs[0].unedited
        common = common_concepts(runs[0], run) if run is not runs[0] else []
        row: dict[str, Any] = {"run": run.name, "model": run.model, "dataset": run.dataset, "concepts": len(own)}
        row["n"] = len(common) if run is not runs[0] else None
        for name in UNEDITED:
            difference = (own.loc[common, name] - first.loc[common, name]).to_numpy(dtype=float)
            row[name] = own[name].mean()
            row |= bootstrap.of_mean(difference).columns(f"{name}_difference")
            row[f"{name}_p"] = sign_flip_p(difference, seed=bootstrap.seed)
            row[f"{name}_wins"] = int((difference > 0).sum()) if common else None
        rows.append(row)
    columns = [
        Column("run", "Run"),
        Column("concepts", "Concepts", format=".0f"),
        Column("n", "Paired", format=".0f"),
    ]
    for name, group in UNEDITED.items():
        columns += [
            Column(name, "Mean", group, ".3f"),
            Column(f"{name}_difference", "Difference", group, "+.3f", interval=True),
            *p_columns(f"{name}_p", group),
            Column(f"{name}_wins", "Wins", group, "d"),
        ]
    return Table(
        "compare-unedited",
        "The unedited models",
        f"Accuracy and gold confidence, means over concepts; differences from {runs[0].name} are paired by "
        "concept, a win is a higher value.",
        with_holm(pd.DataFrame(rows), "n", [f"{name}_p" for name in UNEDITED]),
        tuple(columns),
        notes=(*about(bootstrap), NOTE),
    )


def about(*bootstraps: Bootstrap) -> tuple[str, ...]:
    """Return the note on what stands in brackets, of one way to make intervals or of several; none where there are none."""
    ways = [way for way in dict.fromkeys(bootstraps) if way.resamples]
    if not ways:
        return ()
    named = " or ".join(dict.fromkeys(f"{way.percent} interval over concepts" for way in ways))
    own = ", as the run's config has it" if len(set(bootstraps)) > 1 else ""
    return (f"Brackets: {named}{own}; none over fewer than two concepts.",)
