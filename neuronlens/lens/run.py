"""A finished run's folder as the parts of a lens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from neuronlens.config.nodes import option_of
from neuronlens.config.schema import Config
from neuronlens.errors import NeuronLensError, OutputError
from neuronlens.results.folder import RunFolder
from neuronlens.storage.files import json_types

SHOWN = ("concept_accuracy_drop", "concept_confidence_drop", "complement_accuracy_drop", "complement_confidence_drop")
"""Measures whose figures a card shows."""


def parts_of_run(path: Path) -> dict[str, Any]:
    """Return what a lens is made from.

    Raises:
        OutputError: not the folder of a finished run, or one of a version that kept less.
        ConfigError: its config does not hold in this version.
    """
    folder = RunFolder(path)
    manifest = folder.read_manifest()
    fitted, select = folder.restore_fitted()
    if manifest.model_type is None or manifest.layer_count is None:
        absent = "model_type" if manifest.model_type is None else "layer_count"
        raise OutputError(f"The manifest of '{path}' has no '{absent}'. Next: neuronlens run, once more.")
    return {
        "config": manifest.config,
        "fitted": fitted,
        "select": select,
        "model_type": manifest.model_type,
        "layer_count": manifest.layer_count,
        "model_folder": _found_from(path, manifest.model_folder),
        "examples": manifest.prompt.examples if manifest.prompt is not None else (),
        "weights": folder.read_weights(),
        "figures": _figures(folder, manifest.config),
        "versions": dict(manifest.versions),
        "fitting": manifest.fitting,
    }


def _figures(folder: RunFolder, config: Config) -> list[dict[str, Any]]:
    """Return the run's own cell on its test split, a row per concept and site; none where it was not swept."""
    try:
        rows = folder.read_results().rows
    except NeuronLensError:  # a lens may be all that was kept of a run
        return []
    own = config.intervention
    wanted = {
        "saliency": option_of(config, "saliency"),
        "range": option_of(config, "range"),
        "tau": config.headline_tau,
    }
    wanted |= {"gate": own.gate, "edit": own.edit, "strength": own.strength}
    chosen = rows[rows["skipped"].isna() & rows["control"].isna()]
    for knob, value in wanted.items():
        chosen = chosen[(chosen[knob] == value) | chosen[knob].isna()]
    if len(chosen):
        near = (chosen["top_fraction"] - own.top_fraction).abs()
        chosen = chosen[(near == near.min()) | near.isna()]
    columns = ["concept", "layer", "site", *wanted, "top_fraction", "n_concept", "n_complement"]
    columns += [f"{measure}{end}" for measure in SHOWN for end in ("", "_low", "_high")]
    table: pd.DataFrame = chosen[columns]
    return [{str(name): value for name, value in json_types(row).items()} for row in table.to_dict("records")]


def _found_from(run_folder: Path, model_folder: str | None) -> str | None:
    """Return the model's folder, looked for from the run folder upwards where it was written relative to elsewhere."""
    if model_folder is None or Path(model_folder).is_dir():
        return model_folder
    places = [parent / model_folder for parent in run_folder.resolve().parents]
    return str(next((place for place in places if place.is_dir()), model_folder))
