"""The stages before the sweep: model, data, activations, and what is fitted on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuronlens.activations.extract import extract
from neuronlens.activations.sinks import skips_first
from neuronlens.activations.tokens import token_plans
from neuronlens.config.knobs import layers_of, needs_gradients, needs_select
from neuronlens.config.schema import Config
from neuronlens.config.schema_evaluation import GeneralConfig
from neuronlens.data.concepts import load_concepts
from neuronlens.edits.fitting import Fitted
from neuronlens.execution.stages import Stages
from neuronlens.execution.trainer import quiet_libraries
from neuronlens.hooks.admission import Admission
from neuronlens.measures.general.rows import (
    GeneralData,
    check_model,
    load_general,
)
from neuronlens.models.admission import admit_run
from neuronlens.models.checkpoint import text_reader
from neuronlens.models.finetune import finetuned
from neuronlens.models.load import load
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.masked import with_vocabulary
from neuronlens.models.source import ModelSource, locate
from neuronlens.records import ConceptDataset, Site
from neuronlens.storage.cache import Store
from neuronlens.storage.spill import state_budget
from neuronlens.sweep.gradients import with_gradients
from neuronlens.sweep.group import sweep_group
from neuronlens.sweep.runner import Splits, fit_all, site_groups


@dataclass(frozen=True)
class Prepared:
    """What a sweep starts from.

    Attributes:
        general, language_model: what general ability is measured with; the model is None where it is off.
        groups: of sites that are edited at once.
        fitted: by site.
    """

    data: ConceptDataset
    general: GeneralData
    loaded: LoadedModel
    language_model: LoadedModel | None
    groups: list[tuple[Site, ...]]
    admission: Admission
    splits: Splits
    fitted: Mapping[Site, Fitted]


def prepare(config: Config, store: Store, stages: Stages) -> Prepared:
    """Return the model, its activations and what is fitted on them: every stage before the sweep."""
    with stages("model files"):
        source = locate(config.model, store)
        layers = layers_of(config, source.layer_count, source.width)
    with stages("data"):
        data = load_concepts(config.dataset, store, text_reader(config.model, source))
        stages.warn(data.notes)
        general = load_general(config.evaluation.general, store, data)
    with stages("model"):
        loaded, data = prepare_model(config, source, data, store)
    groups = site_groups(config, layers)
    with stages("admission"):
        loaded, admission = admit_run(config, loaded, data, groups, store)
        loaded = replace(loaded, skips_first=skips_first(config, loaded, data, groups))
        language_model = speaker(config, source, loaded)
    stages.warn([f"Slower, because exact: {path}." for path in admission.slower])
    with stages("activations"):
        splits = extract_splits(config, loaded, data, groups, store)
    with stages("ranking and ranges"):
        fitted = fit_all(config, splits.fit)
    return Prepared(data, general, loaded, language_model, groups, admission, splits, fitted)


def share_sweep(config: Config) -> None:
    """Run cells of a run's sweep beside other processes: what one of them has claimed or kept is not run here."""
    stages = Stages(bars=False, quiet=True)
    stages.warnings.quiet = True  # the run itself prints them
    store = Store(Path(config.paths.cache_dir), warn=lambda sentence: None)
    with quiet_libraries():
        ready = prepare(replace(config, evaluation=replace(config.evaluation, general=GeneralConfig())), store, stages)
        for group in ready.groups:
            sweep_group(config, ready.loaded, group, ready.fitted, ready.splits, store)


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
    plans = token_plans(config, loaded)
    options_of = {split: options | {"tokens": plans.get(split)} for split in ("fit", "select", "test")}
    stated = incremental or config.evaluation.recovery or needs_gradients(config)
    head = correct or stated or whole
    fit = extract(loaded, data, "fit", keep=starts if stated else (), to_the_head=head, **options_of["fit"])
    if needs_gradients(config):
        fit = with_gradients(config, loaded, fit)
    chosen = config.evaluation.select != "none"
    select = None
    if needs_select(config):
        keep, head = starts if chosen or incremental else (), chosen or incremental or whole
        select = extract(loaded, data, "select", keep=keep, to_the_head=head, **options_of["select"])
    elif len(data.rows("select")) and not incremental:  # for the gates of a lens
        select = extract(loaded, data, "select", to_the_head=whole, **options_of["select"])
    return Splits(fit, extract(loaded, data, "test", keep=starts, **options_of["test"]), select)


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
