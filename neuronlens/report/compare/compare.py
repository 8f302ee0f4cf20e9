"""Runs side by side: what sets them apart, their paired differences by concept, and each one's own headline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from neuronlens.report.compare.headlines import headlines_table
from neuronlens.report.compare.matched import matched_table
from neuronlens.report.compare.pairing import paired_methods, shared_knobs
from neuronlens.report.compare.runs import Run
from neuronlens.report.compare.seeds import joined, seeds_table
from neuronlens.report.compare.unedited import common_concepts, settings_table, unedited_table
from neuronlens.report.table import Table


@dataclass(frozen=True)
class Comparison:
    """Runs held against the first of them.

    Attributes:
        settings: what differs between their configs.
        unedited: the models without any edit.
        matched: what every method that a run shares with the reference costs the others at matched erasure; a row per
            (run, method, level). Empty where no two runs share concepts and methods.
        seeds: runs that differ in their seed alone, joined; a row per (method, level, measure). Empty without such runs.
        headlines: each run's own range against neuron mask; a row per (method, level, measure, run).
        remarks: what was paired and what could not be, one sentence each.
    """

    settings: Table
    unedited: Table
    matched: Table
    headlines: Table
    seeds: Table
    remarks: tuple[str, ...]

    @property
    def tables(self) -> list[Table]:
        """The tables that hold a row, in reading order."""
        every = (self.settings, self.unedited, self.seeds, self.matched, self.headlines)
        return [table for table in every if len(table.frame)]


def compare(runs: Sequence[Run]) -> Comparison:
    """Return runs side by side, each paired with the first by concept where both ran on the same dataset.

    Level, resamples and seed of the intervals over concepts are the first run's.
    """
    reference, *others = runs
    bootstrap = reference.bootstrap
    remarks = [f"{run.name}: {run.title}, {run.folder.path}" for run in runs]
    remarks.append(f"Differences are a run's value minus that of the reference, {reference.name}.")
    matched = []
    for other in others:
        common = common_concepts(reference, other)
        remarks.append(_paired_on(reference, other, common))
        if not common:
            continue
        if reference.manifest.fingerprints.get("data") != other.manifest.fingerprints.get("data"):
            remarks.append(f"{other.name} read other examples than the reference (the data's fingerprints differ).")
        ours, theirs = (run.table.matched for run in (reference, other))
        keys, apart, found = shared_knobs(ours, theirs)
        remarks += [f"{other.name}: {sentence}" for sentence in found]
        paired = paired_methods(ours, theirs, common, keys=keys, apart=apart, bootstrap=bootstrap)
        matched.append(paired.assign(run=other.name))
    for group in joined(runs):
        remarks.append(f"{', '.join(run.name for run in group)} differ in their seed alone and are joined over seeds.")
    return Comparison(
        settings_table(runs),
        unedited_table(runs, bootstrap),
        matched_table(pd.concat(matched, ignore_index=True) if matched else pd.DataFrame(), bootstrap),
        headlines_table(runs),
        seeds_table(runs),
        tuple(remarks),
    )


def _paired_on(reference: Run, other: Run, common: list[str]) -> str:
    if reference.dataset != other.dataset:
        return f"{other.name} ran on {other.dataset}, the reference on {reference.dataset}: side by side, not paired."
    only = {run.name: [name for name in run.unedited.index if name not in common] for run in (reference, other)}
    left = "; ".join(f"only in {name}: {', '.join(concepts)}" for name, concepts in only.items() if concepts)
    if not common:
        return f"{other.name} shares no concept with the reference: side by side, not paired."
    return (
        f"{other.name} is paired with the reference over {len(common)} common concepts{f' ({left})' if left else ''}."
    )
