"""The stages in order, on one screen; the only module that may import everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from neuronlens.activations.tokens import token_plans
from neuronlens.config.extras import refuse_missing
from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.plan import grid, headline_selection
from neuronlens.config.schema import Config
from neuronlens.edits.fitting import Fitted
from neuronlens.execution.machine import peak_memory_gib
from neuronlens.execution.memory import watching_memory
from neuronlens.execution.stages import Stages
from neuronlens.execution.trainer import quiet_libraries, refuse_absent_devices, torch_threads
from neuronlens.execution.workers import helped
from neuronlens.hooks.resolver import blocks_of
from neuronlens.measures.detectors import detectors
from neuronlens.measures.general.rows import (
    GeneralData,
    chosen_cells,
    general_rows,
    measure_general,
)
from neuronlens.measures.heldout import diagnose
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.tables import result_table
from neuronlens.measures.unedited import all_skipped, correct_sets, count_correct, near_chance
from neuronlens.models.identity import weight_sample
from neuronlens.models.loaded import LoadedModel
from neuronlens.pipeline.preparation import prepare, share_sweep
from neuronlens.records import ConceptDataset, Job, ResultTable, Site
from neuronlens.report.conclusion import conclusion, worth_opening
from neuronlens.report.drawing import draw_run
from neuronlens.report.tables.document import write_tables
from neuronlens.report.tables.summary import summarise
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest, Prompt
from neuronlens.results.provenance import provenance, run_id
from neuronlens.storage.cache import Store
from neuronlens.storage.files import json_types
from neuronlens.sweep.group import sweep_group
from neuronlens.sweep.kept import trim
from neuronlens.sweep.runner import SiteSweep, Splits, fitting_of
from neuronlens.tracking import Tracker


def run(config: Config, path: Path | str, *, job: Job | None = None, resumed: bool = False) -> ResultTable:
    """Run every stage and write the run folder.

    What an earlier run with the same inputs computed is found in the cache, down to the parts of a sweep and the epochs of
    fine-tuning, so that a run that was stopped goes on where it was.

    Args:
        config: checked, as `config.compose` returns it.
        path: the run folder.
        job: which one of a multirun this is.
        resumed: whether the run that was stopped in this folder goes on in it.

    Raises:
        NeuronLensError: bad input, reported before anything expensive where that is possible.
    """
    folder, bootstrap = RunFolder(Path(path)), Bootstrap.of(config)
    stages = Stages(bars=config.trainer.progress, quiet=config.quiet, job=job)
    store = Store(Path(config.paths.cache_dir), warn=lambda sentence: stages.warn([sentence]))
    refuse_missing(config)
    grid(config)  # refuses combinations that mean nothing
    refuse_absent_devices(config)
    store.claim()
    folder.claim_for_a_run(overwrite=config.overwrite, resumed=resumed or folder.stopped_with(config))
    folder.write_started(config, job)
    follower = Tracker(config, folder, warn=stages.warn, job=job)
    with (
        quiet_libraries(),
        torch_threads(config.trainer.threads),
        watching_memory() as smaller,
        follower as tracker,
        stages.logged(),
    ):
        stages.follow(tracker.log_stage)
        ready = prepare(config, store, stages)
        loaded, data, splits, fitted = ready.loaded, ready.data, ready.splits, ready.fitted
        counts = count_correct(splits, data.concepts, bootstrap.level)
        stages.warn(near_chance(counts, config.model))
        with stages("sweep"), helped(config.sweep.workers - 1, partial(share_sweep, config), warn=stages.warn):
            sweeps = [sweep_group(config, loaded, group, fitted, splits, store) for group in ready.groups]
        stages.warn([f"Out of device memory: went on with {size} {what}." for what, size in smaller.items()])
        with stages("measures"):
            own = run_id(config, folder.path, job)
            table, manifest = measure_all(config, own, loaded, data, splits, sweeps, bootstrap)
            manifest = replace(manifest, admission=json_types(ready.admission))
            stages.warn(all_skipped(table.rows))
        if ready.language_model is not None:
            with stages("general ability"):
                able = general_ability(config, ready.language_model, ready.general, data, sweeps, manifest, bootstrap)
                table = replace(table, general=able)
        with stages("report"):
            write_run(config, folder, table, data, splits, fitted, sweeps)
            folder.write_weights(weight_sample(loaded.model, max(site.layer for site in fitted)))
            _, left_out = draw_run(folder, table, manifest, bootstrap)
            stages.warn(left_out)
        manifest = replace(
            manifest,
            base_correct=tuple(counts.to_dict("records")),
            correct_sets=correct_sets(splits),
            timings_s=stages.timings,
            peak_memory_gib=peak_memory_gib(),
            smaller_batches=smaller,
        )
        folder.write_manifest(manifest)  # last: the folder is whole before anything reads it
        trim(store)
        with stages("logging"):
            tracker.log_results(table, manifest)
    stages.show(*conclusion(table, config, job))
    stages.show_paths(worth_opening(folder.path) | dict(tracker.notes))
    return table


def measure_all(
    config: Config,
    run_id: str,
    loaded: LoadedModel,
    data: ConceptDataset,
    splits: Splits,
    sweeps: list[SiteSweep],
    bootstrap: Bootstrap,
) -> tuple[ResultTable, Manifest]:
    """Return the results tables and the manifest without its timings and counts."""
    plans = token_plans(config, loaded)
    fitting = fingerprint([config.evaluation.fit_on, config.seed, *([plans["fit"]] if plans else [])])
    keys = {"model": loaded.fingerprint, "data": data.fingerprint, "fitting": fitting}
    asked = loaded.prompt
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
        fitting=fitting_of(loaded, splits),
        model_folder=loaded.folder,
        max_length=loaded.max_length,
        prompt=None if asked is None else Prompt(asked.text, asked.label_texts, asked.examples),
        **provenance(),
    )
    return table, manifest


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
    sweeps: Sequence[SiteSweep],
) -> None:
    """Write the run folder's tables and arrays."""
    folder.write_results(table, safe_csv=config.safe_csv)
    base = {}
    for split, extraction in (("fit", splits.fit), ("select", splits.select), ("test", splits.test)):
        first = next(iter(extraction.activations.values())) if extraction is not None else None
        if first is not None and first.base_prediction is not None and first.base_confidence is not None:
            base[split] = (first.base_prediction, first.base_confidence)
    folder.write_samples(data, base)
    folder.write_fitted(fitted, splits.select.fitted_on if splits.select is not None else None)
    if config.evaluation.diagnostics:
        selection, scope = headline_selection(config), config.intervention.scope
        held_out = splits.test.fitted_on
        found = diagnose(fitted, held_out, scope=scope, **selection)
        folder.write_diagnostics(*found, detectors(sweeps, held_out, data.concepts))
    write_tables(folder, table, config)
    folder.write_summary(summarise(table, config))
