"""The stages in order, on one screen; the only module that may import everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuronlens.activations.extract import extract
from neuronlens.config.extras import refuse_missing
from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.knobs import needs_gradients, needs_select, swept
from neuronlens.config.plan import grid, headline_selection
from neuronlens.config.schema import Config
from neuronlens.data.concepts import load_concepts
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import ConfigError
from neuronlens.execution.machine import peak_memory_gib
from neuronlens.execution.stages import Stages
from neuronlens.execution.trainer import quiet_libraries
from neuronlens.hooks.resolver import blocks_of, resolve_layers
from neuronlens.measures.general.rows import (
    GeneralData,
    check_model,
    chosen_cells,
    general_rows,
    load_general,
    measure_general,
)
from neuronlens.measures.heldout import diagnose
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.tables import result_table
from neuronlens.measures.unedited import all_skipped, correct_sets, count_correct, near_chance
from neuronlens.models.admission import admit_run
from neuronlens.models.checkpoint import text_reader
from neuronlens.models.finetune import finetuned
from neuronlens.models.load import load
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.masked import with_vocabulary
from neuronlens.models.source import ModelSource, locate
from neuronlens.records import ConceptDataset, Job, ResultTable, Site
from neuronlens.report.conclusion import conclusion, worth_opening
from neuronlens.report.drawing import draw_run
from neuronlens.report.tables.document import markdown
from neuronlens.report.tables.summary import summarise
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest, Prompt
from neuronlens.results.provenance import provenance
from neuronlens.storage.cache import Store
from neuronlens.storage.files import json_types
from neuronlens.storage.spill import state_budget
from neuronlens.sweep.gradients import with_gradients
from neuronlens.sweep.group import sweep_group
from neuronlens.sweep.runner import SiteSweep, Splits, fit_all, site_groups
from neuronlens.tracking import Tracker


def run(config: Config, path: Path | str, *, job: Job | None = None) -> ResultTable:
    """Run every stage and write the run folder.

    Args:
        config: checked, as `config.compose` returns it.
        path: the run folder.
        job: which one of a multirun this is.

    Raises:
        NeuronLensError: bad input, reported before anything expensive where that is possible.
    """
    folder, bootstrap = RunFolder(Path(path)), Bootstrap.of(config)
    stages = Stages(bars=config.trainer.progress, quiet=config.quiet, job=job)
    store = Store(Path(config.paths.cache_dir), warn=lambda sentence: stages.warn([sentence]))
    refuse_missing(config)
    grid(config)  # refuses combinations that mean nothing
    store.claim()
    folder.claim_for_a_run(overwrite=config.overwrite)
    follower = Tracker(config, folder, warn=stages.warn, job=job)
    with quiet_libraries(), _threads(config.trainer.threads), follower as tracker, stages.logged():
        stages.follow(tracker.log_stage)
        with stages("model files"):
            source = locate(config.model, store)
            layers = _layers(config, source)
            _check_count(config, source)
        with stages("data"):
            data = load_concepts(config.dataset, store, text_reader(config.model, source))
            stages.warn(data.notes)
            general = load_general(config.evaluation.general, store, data)
        with stages("model"):
            loaded, data = prepare_model(config, source, data, store)
        groups = site_groups(config, layers)
        with stages("admission"):
            loaded, admission = admit_run(config, loaded, data, groups, store)
            language_model = speaker(config, source, loaded)
        stages.warn([f"Slower, because exact: {path}." for path in admission.slower])
        with stages("activations"):
            splits = extract_splits(config, loaded, data, groups, store)
        counts = count_correct(splits, data.concepts, bootstrap.level)
        stages.warn(near_chance(counts))
        with stages("ranking and ranges"):
            fitted = fit_all(config, splits.fit)
        with stages("sweep"):
            sweeps = [sweep_group(config, loaded, group, fitted, splits) for group in groups]
        with stages("measures"):
            table, manifest = measure_all(config, folder, loaded, data, splits, sweeps, bootstrap)
            manifest = replace(manifest, admission=json_types(admission))
            stages.warn(all_skipped(table.rows))
        if language_model is not None:
            with stages("general ability"):
                able = general_ability(config, language_model, general, data, sweeps, manifest, bootstrap)
                table = replace(table, general=able)
        with stages("report"):
            write_run(config, folder, table, data, splits, fitted, bootstrap)
            _, left_out = draw_run(folder, table, manifest, bootstrap)
            stages.warn(left_out)
        manifest = replace(
            manifest,
            base_correct=tuple(counts.to_dict("records")),
            correct_sets=correct_sets(splits),
            timings_s=stages.timings,
            peak_memory_gib=peak_memory_gib(),
        )
        folder.write_manifest(manifest)  # last: the folder is whole before anything reads it
        with stages("logging"):
            tracker.log_results(table, manifest)
    stages.show(*conclusion(table, config.headline_tau, bootstrap, job))
    stages.show_paths(worth_opening(folder.path) | dict(tracker.notes))
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
    """Return the model, fine-tuned where that is configured, and the data with concepts in the order of its head."""
    if config.model.finetune.blocks is not None:
        loaded = finetuned(config.model, source, data, store, config.trainer)
    else:
        loaded = load(config.model, source, data.concepts, prompt=config.dataset.prompt, data=data)
    order = np.asarray([loaded.concepts.index(concept) for concept in data.concepts])
    return loaded, replace(data, concepts=loaded.concepts, labels=order[data.labels])


def extract_splits(
    config: Config, loaded: LoadedModel, data: ConceptDataset, groups: Sequence[tuple[Site, ...]], store: Store
) -> Splits:
    """Return one pass over each split that the run needs, with the states that its cells start from."""
    sites = [site for group in groups for site in group]
    starts = sorted({loaded.paths.start_of(group[0]) for group in groups})
    incremental = config.layers.mode == "incremental"
    whole = not loaded.paths.replays  # such a model does not stop early either
    options: dict[str, Any] = {"sites": sites, "trainer": config.trainer, "store": store}
    options["budget"] = state_budget(config.trainer, store)
    correct = config.evaluation.fit_on == "correct"
    stated = incremental or config.evaluation.recovery or needs_gradients(config)
    fit = extract(loaded, data, "fit", keep=starts if stated else (), to_the_head=correct or stated or whole, **options)
    if needs_gradients(config):
        fit = with_gradients(config, loaded, fit)
    chosen = config.evaluation.select != "none"
    select = None
    if needs_select(config):
        keep = starts if chosen or incremental else ()
        select = extract(loaded, data, "select", keep=keep, to_the_head=chosen or incremental or whole, **options)
    elif len(data.rows("select")) and not incremental:
        select = extract(loaded, data, "select", to_the_head=whole, **options)  # for the gates of a ConceptLens
    return Splits(fit, extract(loaded, data, "test", keep=starts, **options), select)


def measure_all(
    config: Config,
    folder: RunFolder,
    loaded: LoadedModel,
    data: ConceptDataset,
    splits: Splits,
    sweeps: list[SiteSweep],
    bootstrap: Bootstrap,
) -> tuple[ResultTable, Manifest]:
    """Return the results tables and the manifest without its timings and counts."""
    fitting = fingerprint([config.evaluation.fit_on, config.seed])
    keys = {"model": loaded.fingerprint, "data": data.fingerprint, "fitting": fitting}
    run_id, asked = folder.path.name, loaded.prompt
    table = result_table(config, loaded, data, splits, sweeps, run_id=run_id, fingerprints=keys, bootstrap=bootstrap)
    manifest = Manifest(
        stored_config=json_types(config),
        run_id=run_id,
        seed=config.seed,
        fingerprints=keys,
        concepts=data.concepts,
        dropped_concepts=data.dropped,
        near_duplicates=data.near_duplicates,
        model_type=loaded.model.config.model_type,
        layer_count=len(blocks_of(loaded.model)),
        model_folder=loaded.folder,
        max_length=loaded.max_length,
        prompt=None if asked is None else Prompt(asked.text, asked.label_texts, asked.examples),
        **provenance(),
    )
    return table, manifest


def speaker(config: Config, source: ModelSource, loaded: LoadedModel) -> LoadedModel | None:
    """Return the model that general ability is measured on: with a head over its vocabulary; None where nothing is.

    Raises:
        ModelError: it has none, or too few positions for what is asked.
    """
    general = config.evaluation.general
    if not (general.perplexity or general.mmlu):
        return None
    found = with_vocabulary(config.model, source, loaded)
    check_model(general, found)
    return found


def general_ability(
    config: Config,
    loaded: LoadedModel,
    general: GeneralData,
    data: ConceptDataset,
    sweeps: Sequence[SiteSweep],
    manifest: Manifest,
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return perplexity and MMLU under the chosen cells of every group of sites."""
    measured = []
    for sweep in sweeps:
        cells = chosen_cells(config.evaluation.general, sweep.cells, data.concepts)
        measured.append((sweep, measure_general(config, loaded, general, sweep.builders, cells)))
    keys: dict[str, Any] = {"run_id": manifest.run_id, "fingerprints": manifest.fingerprints}
    return general_rows(config, data=data, sweeps=measured, bootstrap=bootstrap, **keys)


def write_run(
    config: Config,
    folder: RunFolder,
    table: ResultTable,
    data: ConceptDataset,
    splits: Splits,
    fitted: Mapping[Site, Fitted],
    bootstrap: Bootstrap,
) -> None:
    """Write the run folder's tables and arrays."""
    tau = config.headline_tau
    folder.write_results(table, safe_csv=config.safe_csv)
    base = {}
    for split, extraction in (("fit", splits.fit), ("select", splits.select), ("test", splits.test)):
        first = next(iter(extraction.activations.values())) if extraction is not None else None
        if first is not None and first.base_prediction is not None and first.base_confidence is not None:
            base[split] = (first.base_prediction, first.base_confidence)
    folder.write_samples(data, base)
    folder.write_fitted(fitted, splits.select.activations if splits.select is not None else None)
    if config.evaluation.diagnostics:
        selection, scope = headline_selection(config), config.intervention.scope
        folder.write_diagnostics(*diagnose(fitted, splits.test.activations, scope=scope, **selection))
    folder.write_text("table.md", markdown(table, tau, bootstrap))
    folder.write_summary(summarise(table, tau, bootstrap))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
