"""General ability under the cells of a sweep: what is loaded, what is measured, and the tidy table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema import Config
from neuronlens.config.schema_evaluation import GeneralConfig
from neuronlens.data.documents import DocumentSet, load_documents
from neuronlens.data.questions import QuestionSet, load_questions
from neuronlens.errors import ConfigError, ModelError, unknown
from neuronlens.measures.columns import GENERAL, RESULTS
from neuronlens.measures.estimates import ENDS
from neuronlens.measures.general.mmlu import Answers, answer_questions, answer_rows, refuse_questions
from neuronlens.measures.general.perplexity import DocumentLosses, document_losses, perplexity_rows, refuse_documents
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.rows import cell_id, knob_columns, range_concept
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Cell, ConceptDataset, Site
from neuronlens.storage.cache import Store
from neuronlens.sweep.evaluator import BuildsEdits
from neuronlens.sweep.runner import SiteSweep

COLUMNS = (
    *("measure", "subject"),
    *(key for key in RESULTS.front if RESULTS[key].role != "count"),
    *(name + end for name in GENERAL.measures for end in ENDS),
    *GENERAL.behind,
    *(key for key in RESULTS.behind if key != "skipped" and RESULTS[key].kind != "extra"),
)


@dataclass(frozen=True)
class GeneralData:
    """What general ability is measured on; None where a measure is off."""

    documents: DocumentSet | None
    questions: QuestionSet | None


@dataclass(frozen=True)
class GeneralOutcomes:
    """What was measured under each of some cells; None where a measure is off."""

    cells: Sequence[Cell]
    losses: DocumentLosses | None
    answers: Answers | None


def check_model(config: GeneralConfig, loaded: LoadedModel) -> None:
    """Refuse a model that cannot give what is asked of it, before anything is run.

    Raises:
        ModelError: no vocabulary head, no mask token for a masked model, a masked model for MMLU, too few positions, or a
            model that no stored state serves.
    """
    if not (loaded.paths.replays and loaded.paths.shrinks):
        raise ModelError(
            f"General ability is read from stored states, which model type '{loaded.model.config.model_type}' does not give "
            "again. Next: evaluation.general.perplexity=false and .mmlu=false."
        )
    if config.perplexity:
        refuse_documents(loaded, config.documents.max_length)
    if config.mmlu:
        refuse_questions(loaded, config.questions.max_length)


def load_general(config: GeneralConfig, store: Store, data: ConceptDataset) -> GeneralData:
    """Return documents and questions, those of the measures that are on.

    Raises:
        DataError: a source that cannot be read, or nothing left of it once what was fitted on is left out (TRAPS 19).
        ConfigError: `concepts` names one that the data has not.
    """
    for concept in config.concepts or []:
        if concept not in data.concepts:
            raise ConfigError(unknown("concept of evaluation.general.concepts:", concept, data.concepts))
    return GeneralData(
        documents=load_documents(config.documents, store, data) if config.perplexity else None,
        questions=load_questions(config.questions, store) if config.mmlu else None,
    )


def chosen_cells(config: GeneralConfig, cells: Sequence[Cell], concepts: Sequence[str]) -> list[Cell]:
    """Return the cells whose `top_fraction`, `tau` and concept are among the configured ones.

    A list that is null chooses nothing, and a cell without the knob (the neuron gate has no tau) is not left out for it.
    """
    return [
        (knobs, concept)
        for knobs, concept in cells
        if (config.top_fraction is None or knobs.top_fraction in (None, *config.top_fraction))
        and (config.tau is None or knobs.tau in (None, *config.tau))
        and (config.concepts is None or concepts[concept] in config.concepts)
    ]


def measure_general(
    config: Config,
    loaded: LoadedModel,
    general: GeneralData,
    builders: Mapping[Site, BuildsEdits],
    cells: Sequence[Cell],
) -> GeneralOutcomes:
    """Return perplexity's losses and MMLU's answers under each cell, of the measures that are on.

    Args:
        builders: of one group of sites, in the order of the model.
        cells: of that group, such as `chosen_cells` gives.

    Raises:
        ModelError: the model cannot give what is asked of it.
    """
    documents, questions = config.evaluation.general.documents, config.evaluation.general.questions
    options: dict[str, Any] = {"tokens_per_forward": config.evaluation.tokens_per_forward, "trainer": config.trainer}
    losses = answers = None
    if general.documents is not None:
        windows: dict[str, Any] = {"max_length": documents.max_length, "max_windows": documents.max_windows}
        losses = document_losses(loaded, general.documents, builders, cells, **windows, **options)
    if general.questions is not None:
        answers = answer_questions(
            loaded,
            general.questions,
            builders,
            cells,
            shots=questions.shots,
            max_length=questions.max_length,
            edit_positions=questions.edit_positions,
            **options,
        )
    return GeneralOutcomes(list(cells), losses, answers)


def general_rows(
    config: Config,
    *,
    run_id: str,
    data: ConceptDataset,
    sweeps: Sequence[tuple[SiteSweep, GeneralOutcomes]],
    fingerprints: Mapping[str, str],
    bootstrap: Bootstrap,
) -> pd.DataFrame:
    """Return one row per (measure, MMLU subject, cell), the unedited model first.

    `subject` is null for a measure over everything, `concept` for the unedited model, `ratio` for all but perplexity.
    `edit_positions` says where the measure's own edits were made; `cell_id` is that of the cell's row in the results, whose
    edit is the same and may have been made at other positions.

    Args:
        sweeps: each group of sites with what was measured there.
        fingerprints: the ones that the results' rows were made with.
    """
    shared = {"run_id": run_id, "model": config.model.name, "dataset": data.name, "seed": config.seed}
    rows: list[dict[str, Any]] = []
    for number, (sweep, outcomes) in enumerate(sweeps):
        for positions, unedited, *found in _measured(config, outcomes, bootstrap):
            if number == 0:
                none = {"edit": "none", "cell_id": fingerprint([fingerprints, "none", None])}
                rows += [shared | none | row for row in unedited]
            for cell, own in zip(outcomes.cells, found, strict=True):
                name = data.concepts[cell[1]]
                key = cell_id(sweep, cell, name, config.intervention.edit_positions, fingerprints)
                identity = {"concept": name, "edit_positions": positions, "cell_id": key}
                identity["range_concept"] = range_concept(cell, data.concepts, config.seed)
                rows += [shared | knob_columns(sweep, cell) | identity | row for row in own]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(RESULTS.dtypes(COLUMNS) | GENERAL.dtypes(COLUMNS))


def _measured(config: Config, outcomes: GeneralOutcomes, bootstrap: Bootstrap) -> list[tuple[Any, ...]]:
    """Return, per measure that is on, its edit positions and then the rows of the unedited model and of each cell."""
    found: list[tuple[Any, ...]] = []
    if outcomes.losses is not None:
        losses = replace(outcomes.losses, edited=np.vstack([outcomes.losses.base, outcomes.losses.edited]))
        found.append(("all", *([row] for row in perplexity_rows(losses, bootstrap))))
    if outcomes.answers is not None:
        answers = replace(
            outcomes.answers, edited=np.concatenate([outcomes.answers.base[None], outcomes.answers.edited])
        )
        found.append((config.evaluation.general.questions.edit_positions, *answer_rows(answers, bootstrap)))
    return found
