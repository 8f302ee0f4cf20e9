"""The stages in order, on one screen; the only module that may import everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronlens.activations import Extraction, extract, only_correct
from neuronlens.config import build, fingerprint, plain
from neuronlens.data.dataset import load_concepts
from neuronlens.edits.build import EditBuilder
from neuronlens.errors import NeuronLensError
from neuronlens.evaluation.cells import grid
from neuronlens.evaluation.metrics import BaseOutcomes
from neuronlens.evaluation.statistics import compare_gates, matched_erasure
from neuronlens.evaluation.sweep import SweepEvaluator, run_sweep
from neuronlens.finetune import finetuned
from neuronlens.hooks.sites import resolve_layers
from neuronlens.models.loading import ModelSource, load_model, locate
from neuronlens.records import (
    ActivationRanges,
    ActivationSet,
    ConceptDataset,
    LoadedModel,
    NeuronRanking,
    ResultTable,
    Site,
)
from neuronlens.report.figures import draw
from neuronlens.report.tables import console_table, headline, markdown, verdict, wide_console
from neuronlens.results import LayerSweep, RunFolder, peak_memory_gib, provenance, result_rows
from neuronlens.schema import Config, swept
from neuronlens.store import Store
from neuronlens.tracking import Tracker
from neuronlens.trainer import quiet_libraries

log = logging.getLogger(__name__)


def run(config: Config, path: Path) -> ResultTable:
    """Run every stage and write the run folder.

    Args:
        config: checked, as `config.compose` returns it.
        path: the run folder.
    Raises:
        NeuronLensError: bad input, told before anything expensive where it can be.
    """
    folder, store, stages = RunFolder(path), Store(Path(config.paths.cache_dir)), Stages(config.trainer.progress)
    folder.claim()
    store.claim()
    with quiet_libraries(), _threads(config.trainer.threads), stages.total():
        with stages("model files"):
            source = locate(config.model, store)
            layers = _layers(config, source)
        with stages("data"):
            data = load_concepts(config.dataset, store)
        with Tracker(config, path) as tracker:
            with stages("model"):
                loaded, data = prepare_model(config, source, data, store)
            with stages("activations"):
                fit, test = extract_both(config, loaded, data, layers)
            with stages("ranking and ranges"):
                fitted = {layer: fit_layer(config, fit.activations[layer]) for layer in layers}
            with stages("sweep"):
                sweeps = [sweep_layer(config, loaded, fitted[layer], test, layer) for layer in layers]
            with stages("measures"):
                table, manifest = measure_all(config, folder, loaded, data, test, sweeps)
            with stages("report"):
                summary = write_run(config, folder, table, data, fit, test, fitted)
                figures = draw(folder, table, level=config.evaluation.level, seed=config.seed)
                tracker.log_results(table, summary, figures)
            tracker.log_timings(stages.seconds)
    folder.write_record("manifest.json", manifest | {"timings_s": stages.seconds, "peak_memory_gib": peak_memory_gib()})
    stages.conclude(table, config.range.get("tau"), path)
    return table


@dataclass(frozen=True)
class FittedLayer:
    """What one layer's fit split gave: the samples used, the ranking, and the ranges by tau."""

    activations: ActivationSet
    ranking: NeuronRanking
    ranges: Mapping[float | None, ActivationRanges]


def _layers(config: Config, source: ModelSource) -> tuple[int, ...]:
    chosen = swept(config, "layers")
    return resolve_layers(chosen if config.sweep.layers is not None else chosen[0], source.layer_count)


def prepare_model(
    config: Config, source: ModelSource, data: ConceptDataset, store: Store
) -> tuple[LoadedModel, ConceptDataset]:
    """Return the model, fine-tuned where that is configured, and the data with labels in the order of its logits."""
    if config.model.finetune.blocks is not None:
        return finetuned(config.model, source, data, store, config.trainer), data
    loaded, labels = load_model(config.model, source, data.concepts)
    order = np.asarray([labels.index(concept) for concept in data.concepts])
    return loaded, replace(data, concepts=labels, labels=order[data.labels])


def extract_both(
    config: Config, loaded: LoadedModel, data: ConceptDataset, layers: tuple[int, ...]
) -> tuple[Extraction, Extraction]:
    """Return the fit split's activations, and the test split's with the states every cell starts from."""
    with_predictions = config.evaluation.fit_on == "correct"
    fit = extract(loaded, data, "fit", layers=layers, trainer=config.trainer, to_the_head=with_predictions)
    test = extract(loaded, data, "test", layers=layers, trainer=config.trainer, keep=layers)
    return fit, test


def fit_layer(config: Config, activations: ActivationSet) -> FittedLayer:
    """Return ranking and ranges fitted on one layer's activations."""
    used = only_correct(activations) if config.evaluation.fit_on == "correct" else activations
    ranking = build(config.saliency, "saliency").rank(used)
    ranges = {}
    for tau in swept(config, "tau"):
        options = {} if tau is None else {"tau": float(tau)}
        ranges[options.get("tau")] = build(config.range, "range", **options).fit(used)
    return FittedLayer(used, ranking, ranges)


def sweep_layer(config: Config, loaded: LoadedModel, fitted: FittedLayer, test: Extraction, layer: int) -> LayerSweep:
    """Return the outcomes of every cell at one layer, cells that cannot be fitted set aside with their reason."""
    assert test.log_probabilities is not None, "the test split is always run to the head"
    builder = EditBuilder(fitted.ranking, fitted.ranges)
    every = [
        (knobs, concept)
        for knobs in grid(config, _range_name(fitted))
        for concept in range(len(fitted.ranking.concepts))
    ]
    reasons = {cell: builder.skip_reason(*cell) for cell in every}
    cells = [cell for cell in every if reasons[cell] is None]
    evaluator = SweepEvaluator(
        loaded,
        test.states[layer],
        builder,
        cells,
        labels=test.activations[layer].labels,
        base_log_probabilities=test.log_probabilities,
        edit_positions=config.intervention.edit_positions,
        tokens_per_forward=config.evaluation.tokens_per_forward,
    )
    skipped = {cell: reason for cell, reason in reasons.items() if reason is not None}
    counts = {cell: int(builder.selected(cell[0])[cell[1]].sum()) for cell in every}
    return LayerSweep(Site(layer), fitted.ranking.name, cells, skipped, counts, run_sweep(evaluator, config.trainer))


def _range_name(fitted: FittedLayer) -> str:
    return next(iter(fitted.ranges.values())).name


def measure_all(
    config: Config,
    folder: RunFolder,
    loaded: LoadedModel,
    data: ConceptDataset,
    test: Extraction,
    sweeps: list[LayerSweep],
) -> tuple[ResultTable, dict[str, Any]]:
    """Return the results table and the manifest without its timings."""
    assert test.log_probabilities is not None, "the test split is always run to the head"
    labels = next(iter(test.activations.values())).labels
    base = BaseOutcomes.of(test.log_probabilities, labels)
    fitting = fingerprint([config.saliency, config.range, config.evaluation.fit_on])
    keys = {"model": loaded.fingerprint, "data": data.fingerprint, "fitting": fitting}
    rows = result_rows(
        config, run_id=folder.path.name, data=data, sweeps=sweeps, base=base, labels=labels, fingerprints=keys
    )
    matched = matched_erasure(rows, config.evaluation.erasure_levels)
    options: dict[str, Any] = {
        "level": config.evaluation.level,
        "resamples": config.evaluation.bootstrap,
        "seed": config.seed,
    }
    counts = {"n": len(labels), "concepts": len(data.concepts)}
    summary = {"accuracy": float(base.correct.mean()), "confidence": float(base.gold.mean()), **counts}
    manifest = {"config": plain(config), "fingerprints": keys, "seed": config.seed, "dropped_concepts": data.dropped}
    manifest |= {"model_folder": loaded.folder, "max_length": loaded.max_length, "concepts": data.concepts}
    return ResultTable(rows, matched, compare_gates(matched, **options), summary), manifest | provenance()


def write_run(
    config: Config,
    folder: RunFolder,
    table: ResultTable,
    data: ConceptDataset,
    fit: Extraction,
    test: Extraction,
    fitted: Mapping[int, FittedLayer],
) -> dict[str, Any]:
    """Write the run folder's tables and arrays, and return its summary."""
    tau = config.range.get("tau")
    folder.write_results(table)
    base = {}
    for split, extraction in (("fit", fit), ("test", test)):
        first = next(iter(extraction.activations.values()))
        if first.base_prediction is not None and first.base_confidence is not None:
            base[split] = (first.base_prediction, first.base_confidence)
    folder.write_samples(data, base)
    folder.write_fitted(
        {layer: entry.ranking for layer, entry in fitted.items()},
        {layer: entry.ranges for layer, entry in fitted.items()},
        {layer: entry.activations for layer, entry in fitted.items()},
    )
    folder.write_text("table.md", markdown(table, tau))
    cells = len(table.rows) // len(data.concepts) - 1
    summary = {
        "base": dict(table.base),
        "cells_per_concept": cells,
        "skipped": int(table.rows["skipped"].notna().sum()),
        "verdict": verdict(table, tau),
        "matched_erasure": {
            f"layer{row['layer']}/{row['edit']}/{row['level']:g}": {
                name: row[f"complement_accuracy_drop_{name}"]
                for name in ("range", "neuron", "difference", "low", "high")
            }
            for row in headline(table, tau)
        },
    }
    folder.write_record("summary.json", summary)
    return summary


class Stages:
    """Times the stages and says on the console what is going on."""

    def __init__(self, spoken: bool = True) -> None:
        """Stay silent unless `spoken`."""
        self.console = wide_console(quiet=not spoken)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time one stage."""
        started = time.perf_counter()
        log.info("%s ...", name)
        yield
        self.seconds[name] = time.perf_counter() - started
        log.info("%s: %.1f s", name, self.seconds[name])
        self.console.print(f"[dim]{name:<20}[/dim] {self.seconds[name]:6.1f} s")

    @contextmanager
    def total(self) -> Iterator[None]:
        """Time the whole run, and put failures into the log."""
        started = time.perf_counter()
        try:
            yield
        except NeuronLensError as error:
            log.error("%s", error)
            raise
        except Exception:
            log.exception("The run failed")
            raise
        self.seconds["total"] = time.perf_counter() - started

    def conclude(self, table: ResultTable, tau: float | None, path: Path) -> None:
        """Print the base model, the comparison, the verdict and the paths worth opening."""
        base = table.base
        self.console.print(
            f"\nUnedited model: accuracy [bold]{base['accuracy']:.3f}[/bold], gold confidence {base['confidence']:.3f} "
            f"({base['n']} test samples, {base['concepts']} concepts)\n"
        )
        self.console.print(console_table(table, tau))
        self.console.print(verdict(table, tau) + "\n")
        for name, what in (
            ("table.md", "every cell, and the comparison at every tau"),
            ("figures/tradeoff.png", "erasure against collateral"),
            ("figures/neurons.png", "what salient neurons say, and the ranges"),
        ):
            self.console.print(f"{path / name}  [dim]{what}[/dim]", soft_wrap=True)
        self.console.print(f"[dim]{self.seconds['total']:.0f} s, {peak_memory_gib():.2f} GiB at most[/dim]")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
