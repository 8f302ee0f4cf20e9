"""The stages in order, on one screen; the only module that may import everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuronlens.activations import Extraction, extract, state_budget
from neuronlens.config import fingerprint, nodes, plain
from neuronlens.data.dataset import load_concepts
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import ConfigError, NeuronLensError
from neuronlens.evaluation.cells import grid
from neuronlens.evaluation.heldout import diagnose
from neuronlens.evaluation.matched import compare_gates, matched_erasure, operating_points, rank_methods
from neuronlens.evaluation.metrics import BaseOutcomes
from neuronlens.evaluation.rows import on_select, result_rows
from neuronlens.evaluation.runner import SiteSweep, Splits, fit_all, site_groups, sweep_group
from neuronlens.finetune import finetuned
from neuronlens.hooks.replay import starts_at
from neuronlens.hooks.sites import blocks_of, resolve_layers
from neuronlens.models.causal import load_prompted
from neuronlens.models.loading import ModelSource, load_model, locate
from neuronlens.records import ConceptDataset, IntArray, LoadedModel, ResultTable, Site
from neuronlens.report.figures import draw
from neuronlens.report.tables import console_table, headline, markdown, methods_table, summarise, verdict, wide_console
from neuronlens.results import RunFolder, peak_memory_gib, provenance
from neuronlens.schema import Config, everywhere, swept
from neuronlens.store import Store
from neuronlens.tracking import Tracker
from neuronlens.trainer import quiet_libraries

log = logging.getLogger(__name__)

MOST_COMPARED = 12
"""Comparisons of range with neuron masks that the console still lists; past that it shows the best methods."""


def run(config: Config, path: Path) -> ResultTable:
    """Run every stage and write the run folder.

    Args:
        config: checked, as `config.compose` returns it.
        path: the run folder.
    Raises:
        NeuronLensError: bad input, told before anything expensive where it can be.
    """
    folder, store, stages = RunFolder(path), Store(Path(config.paths.cache_dir)), Stages(config.trainer.progress)
    grid(config)  # refuses combinations that mean nothing
    folder.claim()
    store.claim()
    with quiet_libraries(), _threads(config.trainer.threads), stages.total():
        with stages("model files"):
            source = locate(config.model, store)
            layers = _layers(config, source)
            _check_count(config, source)
        with stages("data"):
            data = load_concepts(config.dataset, store)
        with Tracker(config, path) as tracker:
            with stages("model"):
                loaded, data = prepare_model(config, source, data, store)
            groups = site_groups(config, layers)
            with stages("activations"):
                splits = extract_splits(config, loaded, data, groups, store)
            with stages("ranking and ranges"):
                fitted = fit_all(config, splits.fit)
            with stages("sweep"):
                sweeps = [sweep_group(config, loaded, group, fitted, splits) for group in groups]
            with stages("measures"):
                table, manifest = measure_all(config, folder, loaded, data, splits, sweeps)
            with stages("report"):
                summary = write_run(config, folder, table, data, splits, fitted)
                figures = draw(folder, table, level=config.evaluation.level, seed=config.seed)
                tracker.log_results(table, summary, figures)
            tracker.log_timings(stages.seconds)
    folder.write_record("manifest.json", manifest | {"timings_s": stages.seconds, "peak_memory_gib": peak_memory_gib()})
    stages.conclude(table, config.range.get("tau"), path)
    return table


def _layers(config: Config, source: ModelSource) -> tuple[int, ...]:
    chosen = swept(config, "layers")
    return resolve_layers(chosen if config.sweep.layers is not None else chosen[0], source.layer_count)


def _check_count(config: Config, source: ModelSource) -> None:
    count = config.intervention.top_count
    if count is not None and config.layers.site != "mlp_neurons" and count > source.width:
        raise ConfigError(f"intervention.top_count is {count}, expected 0 to {source.width}, the number of neurons.")


def prepare_model(
    config: Config, source: ModelSource, data: ConceptDataset, store: Store
) -> tuple[LoadedModel, ConceptDataset]:
    """Return the model, fine-tuned where that is configured, and the data with labels in the order of its logits."""
    if config.model.finetune.blocks is not None:
        return finetuned(config.model, source, data, store, config.trainer), data
    if config.model.head != "seq_cls":
        return load_prompted(config.model, source, data, config.dataset), data
    loaded, labels = load_model(config.model, source, data.concepts)
    order = np.asarray([labels.index(concept) for concept in data.concepts])
    return loaded, replace(data, concepts=labels, labels=order[data.labels])


def extract_splits(
    config: Config, loaded: LoadedModel, data: ConceptDataset, groups: Sequence[tuple[Site, ...]], store: Store
) -> Splits:
    """Return one pass over each split that the run needs, with the states that its cells start from."""
    sites = [site for group in groups for site in group]
    starts = sorted({starts_at(group[0]) for group in groups})
    incremental = config.layers.mode == "incremental"
    options: dict[str, Any] = {"sites": sites, "trainer": config.trainer, "store": store}
    options["budget"] = state_budget(config.trainer, store)
    correct = config.evaluation.fit_on == "correct"
    fit = extract(
        loaded, data, "fit", keep=starts if incremental else (), to_the_head=correct or incremental, **options
    )
    chosen = config.evaluation.select != "none"
    select = None
    if chosen or "joint" in everywhere(config, "gate"):
        keep = starts if chosen or incremental else ()
        select = extract(loaded, data, "select", keep=keep, to_the_head=chosen or incremental, **options)
    elif len(data.rows("select")) and not incremental:
        select = extract(loaded, data, "select", to_the_head=False, **options)  # for the joint gate of a ConceptLens
    return Splits(fit, extract(loaded, data, "test", keep=starts, **options), select)


def measure_all(
    config: Config,
    folder: RunFolder,
    loaded: LoadedModel,
    data: ConceptDataset,
    splits: Splits,
    sweeps: list[SiteSweep],
) -> tuple[ResultTable, dict[str, Any]]:
    """Return the results tables and the manifest without its timings."""
    options_used = {"scope", "beta", "covariance"}
    shared_knobs = {name: getattr(config.intervention, name) for name in sorted(options_used)}
    nodes_used = [nodes(config, group) for group in ("saliency", "range")]
    fitting = fingerprint([nodes_used, config.evaluation.fit_on, shared_knobs, config.seed])
    keys = {"model": loaded.fingerprint, "data": data.fingerprint, "fitting": fitting}
    shared: dict[str, Any] = {"run_id": folder.path.name, "data": data, "fingerprints": keys}
    labels, base = _base(splits.test)
    rows = result_rows(config, sweeps=sweeps, base=base, labels=labels, **shared)
    points = pd.DataFrame()
    if config.evaluation.select != "none" and splits.select is not None:
        select_labels, select_base = _base(splits.select)
        quick = replace(config, evaluation=replace(config.evaluation, bootstrap=0))
        chosen_on = result_rows(quick, sweeps=on_select(sweeps), base=select_base, labels=select_labels, **shared)
        points = operating_points(chosen_on, rows, config.evaluation.erasure_levels)
    matched = matched_erasure(rows, config.evaluation.erasure_levels)
    options: dict[str, Any] = {"level": config.evaluation.level, "seed": config.seed}
    options["resamples"] = config.evaluation.bootstrap
    compared = compare_gates(matched, **options), rank_methods(matched, **options)
    counts = {"n": len(labels), "concepts": len(data.concepts)}
    summary = {"accuracy": float(base.correct.mean()), "confidence": float(base.gold.mean()), **counts}
    manifest = {"config": plain(config), "fingerprints": keys, "seed": config.seed, "dropped_concepts": data.dropped}
    manifest |= {"model_folder": loaded.folder, "max_length": loaded.max_length, "concepts": data.concepts}
    manifest |= {"model_type": loaded.model.config.model_type, "layer_count": len(blocks_of(loaded.model))}
    return ResultTable(rows, matched, *compared, points, summary), manifest | provenance()


def _base(split: Extraction) -> tuple[IntArray, BaseOutcomes]:
    labels = next(iter(split.activations.values())).labels
    assert split.log_probabilities is not None, "splits that are measured are run to the head"
    assert split.prediction is not None
    return labels, BaseOutcomes.of(split.log_probabilities, split.prediction, labels)


def write_run(
    config: Config,
    folder: RunFolder,
    table: ResultTable,
    data: ConceptDataset,
    splits: Splits,
    fitted: Mapping[Site, Fitted],
) -> dict[str, Any]:
    """Write the run folder's tables and arrays, and return its summary."""
    tau = config.range.get("tau")
    folder.write_results(table)
    base = {}
    for split, extraction in (("fit", splits.fit), ("select", splits.select), ("test", splits.test)):
        first = next(iter(extraction.activations.values())) if extraction is not None else None
        if first is not None and first.base_prediction is not None and first.base_confidence is not None:
            base[split] = (first.base_prediction, first.base_confidence)
    folder.write_samples(data, base)
    folder.write_fitted(fitted, splits.select.activations if splits.select is not None else None)
    if config.evaluation.diagnostics:
        fraction = config.intervention.top_fraction
        folder.write_diagnostics(*diagnose(fitted, splits.test.activations, top_fraction=fraction))
    folder.write_text("table.md", markdown(table, tau))
    summary = summarise(table, tau, len(data.concepts))
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
        if len(headline(table, tau)) > MOST_COMPARED:
            self.console.print(methods_table(table))
        elif len(table.comparison):
            self.console.print(console_table(table, tau))
            self.console.print(verdict(table, tau) + "\n")
        for name, what in (
            ("table.md", "every cell, and the comparison at every tau"),
            ("figures/tradeoff.png", "erasure against collateral"),
            (
                "figures/neurons.png",
                "what salient neurons say, and the ranges (firing.png, qq.png, overlap.png beside it)",
            ),
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
