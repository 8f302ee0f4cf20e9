"""Fits and evaluates cells at one group of sites: a layer on its own, or several layers edited at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from neuronlens.activations.extract import Extraction
from neuronlens.activations.subsets import only_correct
from neuronlens.config.fingerprint import plain
from neuronlens.config.plan import grid
from neuronlens.config.schema import Config
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.fitting import Fitted, fit_site
from neuronlens.execution.code import code_behind
from neuronlens.execution.machine import computed_by
from neuronlens.hooks.resolver import blocks_of
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Cell, IntArray, Knobs, Site
from neuronlens.storage.cache import Store
from neuronlens.sweep.controls import with_controls
from neuronlens.sweep.evaluator import BuildsEdits, Outcomes, SweepEvaluator
from neuronlens.sweep.kept import KeptOutcomes
from neuronlens.sweep.one_by_one import fit_incrementally
from neuronlens.sweep.shards import run_sweep

MEASURES = (
    *("select", "diagnostics", "recovery", "bootstrap", "level", "erasure_levels", "refine", "refine_cells"),
    *("accuracy_budgets", "kl_budgets", "general"),
)
"""Keys of `evaluation` that say what is made of outcomes, and change none."""


@dataclass(frozen=True)
class Splits:
    """One pass over each split: fit for ranking and ranges, select for what is chosen, test for what is reported."""

    fit: Extraction
    test: Extraction
    select: Extraction | None


@dataclass(frozen=True)
class SiteSweep:
    """One group's sweep, before it becomes rows.

    Attributes:
        sites: edited at once, in the order of the model.
        cells: evaluated, in the order of the outcomes.
        skipped: cell -> why it was not.
        n_neurons: how many neurons a cell's edit may touch, over all sites.
        samples: of the test split, which the outcomes are over, ascending; `samples_per_concept` where not all are swept.
        builders: of the cells' edits, by site.
        outcomes: on the test split; `select` on the select split where an operating point is chosen.
        finer: doses between those of the grid, each evaluated where a wanted erasure is first reached; None where none is.
        offered: cells among which an operating point may be chosen; None offers all.
    """

    sites: tuple[Site, ...]
    mode: str
    cells: Sequence[Cell]
    skipped: Mapping[Cell, str]
    n_neurons: Mapping[Cell, int]
    samples: IntArray
    samples_per_concept: int | None
    builders: Mapping[Site, BuildsEdits]
    outcomes: Outcomes
    select: Outcomes | None
    finer: SiteSweep | None = None
    offered: frozenset[Cell] | None = None


def site_groups(config: Config, layers: Sequence[int]) -> list[tuple[Site, ...]]:
    """Return the groups of sites that are edited at once: one per layer, or all layers together."""
    sites = tuple(Site(layer, config.layers.site) for layer in sorted(layers))
    return [(site,) for site in sites] if config.layers.mode == "each" else [sites]


def fit_all(config: Config, fit: Extraction) -> dict[Site, Fitted]:
    """Return what every site's fit split gives, on the correctly predicted samples where that is configured.

    Tokens were taken of these alone.
    """
    correct = config.evaluation.fit_on == "correct" and not fit.tokens
    return {site: fit_site(config, only_correct(f) if correct else f) for site, f in fit.fitted_on.items()}


def fitting_of(loaded: LoadedModel, splits: Splits) -> dict[str, Any]:
    """Return what everything was fitted on, for the manifest: which positions, and how many tokens were kept of how many."""
    found: dict[str, Any] = {
        "positions": "tokens" if splits.fit.tokens else "record",
        "skips_first": loaded.skips_first,
    }
    if splits.fit.tokens:
        read = {"fit": splits.fit, "select": splits.select, "test": splits.test}
        taken = {name: split for name, split in read.items() if split is not None and split.tokens}
        kept = {name: len(next(iter(split.tokens.values())).values) for name, split in taken.items()}
        found["tokens"] = {name: {"seen": taken[name].seen_tokens, "kept": kept[name]} for name in taken}
    return found


class SiteRunner:
    """One group of sites with what was fitted there: evaluates any of its cells, those of the grid or finer ones."""

    def __init__(
        self,
        config: Config,
        loaded: LoadedModel,
        sites: tuple[Site, ...],
        fitted: Mapping[Site, Fitted],
        splits: Splits,
        store: Store | None = None,
    ) -> None:
        """Prepare to run cells at `sites`.

        Args:
            fitted: by site; those of other sites are not read.
            store: where outcomes are kept and found again; None keeps nothing.
        """
        self.config, self.loaded, self.sites, self.splits = config, loaded, sites, splits
        fits = with_controls(config, {site: fitted[site] for site in sites})
        self.plain = {site: _builder(config, site, splits, fits) for site in sites}
        below = loaded.paths.start_of(sites[0]) < len(blocks_of(loaded.model)) - 1
        self.limit = config.evaluation.samples_below_last if below else None
        self.samples = first_samples(splits.test.activations[sites[0]].labels, self.limit)
        self.chooses = config.evaluation.select != "none" and splits.select is not None
        code = None if store is None else code_behind(plain(config))
        self.store = store if code is not None else None
        self._rests_on = {"fitted": {str(site): _rests_on(splits, site) for site in sites}, "code": code}

    def grid(self) -> list[Cell]:
        """Return every cell that the config asks for."""
        concepts = len(self.splits.test.activations[self.sites[0]].concepts)
        return [(knobs, concept) for knobs in grid(self.config) for concept in range(concepts)]

    def kept(self, split: Extraction, limit: int | None = None) -> KeptOutcomes | None:
        """Return where the outcomes of cells on a split are kept; None where nothing is.

        Args:
            limit: samples per concept, of a split of which not all are swept.
        """
        if self.store is None:
            return None
        config, loaded = self.config, self.loaded
        inputs: dict[str, Any] = {
            **self._rests_on,
            "split": [split.activations[site].fingerprint for site in self.sites],
            "samples_per_concept": limit,
            "mode": config.layers.mode,
            "seed": config.seed,
            "intervention": _but(config.intervention, {entry.name for entry in fields(Knobs)}),  # these are the cells'
            "evaluation": _but(config.evaluation, MEASURES),
            "skips_first": loaded.skips_first,
            "paths": plain(loaded.paths),
            "batch_size": loaded.batch_size,
            "computed_by": computed_by(config.trainer),
        }
        return KeptOutcomes(self.store, inputs)

    def run(self, every: Sequence[Cell], *, announce: bool = False) -> SiteSweep:
        """Return the outcomes of some cells, those that cannot be fitted set aside with their reason.

        Args:
            announce: print how many cells were found in the store.
        """
        config, loaded, splits = self.config, self.loaded, self.splits
        if config.layers.mode == "incremental":
            first = self.plain[self.sites[0]]
            builders, skipped = fit_incrementally(config, loaded, self.sites, every, first, splits.fit, splits.select)
        else:
            builders = dict(self.plain)
            skipped = {}
            for cell in every:
                reasons = (builder.skip_reason(cell) for builder in self.plain.values())
                reason = next((reason for reason in reasons if reason), None)
                if reason:
                    skipped[cell] = reason
        cells = [cell for cell in every if cell not in skipped]
        swept: dict[str, tuple[Extraction, IntArray | None, int | None]] = {}
        swept["test"] = splits.test, self.samples, self.limit
        if self.chooses and splits.select is not None:
            swept["select"] = splits.select, None, None
        outcomes = {
            name: _outcomes(
                config, loaded, split, builders, cells, samples, self.kept(split, limit), name if announce else None
            )
            for name, (split, samples, limit) in swept.items()
        }
        return SiteSweep(
            sites=self.sites,
            mode=config.layers.mode,
            cells=cells,
            skipped=skipped,
            n_neurons={cell: sum(builder.edited_neurons(cell) for builder in self.plain.values()) for cell in every},
            samples=self.samples,
            samples_per_concept=self.limit,
            builders=builders,
            outcomes=outcomes["test"],
            select=outcomes.get("select"),
        )


def first_samples(labels: IntArray, limit: int | None) -> IntArray:
    """Return the first `limit` samples of each concept, ascending; all of them where it is None.

    >>> first_samples(np.array([1, 0, 1, 1, 0]), 2).tolist()
    [0, 1, 2, 4]
    """
    if limit is None:
        return np.arange(len(labels))
    return np.sort(np.concatenate([np.flatnonzero(labels == concept)[:limit] for concept in np.unique(labels)]))


def _builder(config: Config, site: Site, splits: Splits, fits: Mapping[str, Mapping[Site, Fitted]]) -> EditBuilder:
    by_layer = {control: {other.layer: found for other, found in group.items()} for control, group in fits.items()}
    return EditBuilder(
        config,
        {control: group[site] for control, group in fits.items()},
        select=splits.select.fitted_on[site] if splits.select is not None else None,
        ranked_with=by_layer if config.intervention.scope == "model" else None,
    )


def _outcomes(
    config: Config,
    loaded: LoadedModel,
    split: Extraction,
    builders: Mapping[Site, BuildsEdits],
    cells: Sequence[Cell],
    samples: IntArray | None,
    kept: KeptOutcomes | None,
    announce: str | None,
) -> Outcomes:
    """Return the cells' outcomes on a split, or on some of its samples."""
    assert split.log_probabilities is not None, "every split that is swept is run to the head"
    assert split.prediction is not None
    sites = list(builders)
    states, labels = split.states[loaded.paths.start_of(sites[0])], split.activations[sites[0]].labels
    base, prediction = split.log_probabilities, split.prediction
    if samples is not None and len(samples) < len(labels):
        states, labels = states.of_samples(samples), labels[samples]
        base, prediction = base[samples], prediction[samples]
    evaluator = SweepEvaluator(
        loaded,
        states,
        builders,
        cells,
        labels=labels,
        base_log_probabilities=base,
        base_prediction=prediction,
        edit_positions=config.intervention.edit_positions,
        tokens_per_forward=config.evaluation.tokens_per_forward,
    )
    return run_sweep(evaluator, config.trainer, kept, announce=announce)


def _rests_on(splits: Splits, site: Site) -> list[str | None]:
    """Return the fingerprints of what a site's edits are fitted and chosen on."""
    chosen = None if splits.select is None else splits.select.fitted_on[site].fingerprint
    return [splits.fit.fitted_on[site].fingerprint, chosen]


def _but(settings: object, left_out: Collection[str]) -> dict[str, Any]:
    """Return settings as JSON types without some: a key that nobody thought of makes another sweep, not a wrong one."""
    return {name: value for name, value in plain(settings).items() if name not in left_out}
