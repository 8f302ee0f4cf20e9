"""Run folders made of tables written by hand: what a comparison or a claim says of them can be worked out on paper."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.records import MOMENTS, ResultTable
from neuronlens.report.compare.runs import Run, read_runs
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest
from neuronlens.storage.files import write_json, write_tensors

CONCEPTS = ("apple", "bridge", "cloud", "drum")
METHOD: dict[str, Any] = {
    "layer": 5,
    "layers": "5",
    "site": "resid_post",
    "edit_positions": "record",
    "saliency": "max",
    "range": None,
    "tau": np.nan,
    "gate": "neuron",
    "edit": "zero",
    "control": None,
    "strength": 1.0,
    "n_neurons": np.nan,
    "top_fraction": np.nan,
}
RANGE: dict[str, Any] = {**METHOD, "gate": "range", "range": "gaussian", "tau": 2.5}
CONFIG: dict[str, Any] = {
    "model": {"name": "made_up", "batch_size": 8},
    "dataset": {"name": "fruit"},
    "layers": {"select": "last", "site": "resid_post"},
    "saliency": {"_target_": "neuronlens.saliency.max.MaxSaliency"},
    "range": {"_target_": "neuronlens.ranges.gaussian.GaussianRange", "tau": 2.5},
    "intervention": {"edit": "zero", "top_fraction": 0.25},
    "evaluation": {"level": 0.95, "bootstrap": 400, "diagnostics": True},
    "seed": 0,
    "paths": {"output_dir": "outputs"},
}


def method(base: dict[str, Any], cost: dict[str, float], level: float = 0.5, **knobs: Any) -> pd.DataFrame:
    """Return a method's rows of matched.parquet: the others' confidence drop by concept, twice it in accuracy."""
    rows = [
        {**base, **knobs, "concept": name, "level": level, "complement_accuracy_drop": 2 * value}
        | {"complement_confidence_drop": value, "kl": value}
        for name, value in cost.items()
    ]
    return pd.DataFrame(rows)


def unedited(accuracy: dict[str, float], *, model: str = "made_up", dataset: str = "fruit") -> pd.DataFrame:
    """Return the unedited model's rows of results.parquet: accuracy by concept, half of it in confidence."""
    own = {**dict.fromkeys(METHOD), "model": model, "dataset": dataset, "edit": "none", "skipped": None}
    own |= {"concept_accuracy_drop": 0.0}
    rows = [{**own, "concept": n, "concept_accuracy": v, "concept_confidence": v / 2} for n, v in accuracy.items()]
    return pd.DataFrame(rows)


def write_run(
    path: Path,
    *,
    rows: pd.DataFrame,
    matched: pd.DataFrame | None = None,
    comparison: pd.DataFrame | None = None,
    general: pd.DataFrame | None = None,
    diagnostics: pd.DataFrame | None = None,
    overlap: pd.DataFrame | None = None,
    scores: dict[str, np.ndarray] | None = None,
    fitted: int = 60,
    **changed: Any,
) -> Path:
    """Write a run folder and return it; `changed` replaces values of the config by `group__key` names."""
    config = copy.deepcopy(CONFIG)
    for name, value in changed.items():
        group, _, key = name.partition("__")
        if key:
            config[group][key] = value
        else:
            config[group] = value
    folder = RunFolder(path)
    matched = method(METHOD, {}) if matched is None else matched
    if matched.empty:
        matched = pd.DataFrame(columns=[*METHOD, "concept", "level", "complement_accuracy_drop", "kl"])
        matched["complement_confidence_drop"] = []
    comparison = pd.DataFrame() if comparison is None else comparison
    base = {"accuracy": 1.0, "confidence": 1.0, "n": 4.0, "concepts": 4.0}
    folder.write_results(ResultTable(rows, matched, comparison, pd.DataFrame(), pd.DataFrame(), base, general))
    folder.write_manifest(Manifest(config, fingerprints={"data": config["dataset"]["name"]}, git_revision="abc"))
    if diagnostics is not None or overlap is not None:
        folder.write_diagnostics(
            pd.DataFrame() if diagnostics is None else diagnostics, pd.DataFrame() if overlap is None else overlap
        )
    if scores is not None:
        concepts = list(dict.fromkeys((overlap if overlap is not None else diagnostics)["concept"]))  # type: ignore[index]
        write_tensors(path / "ranking.safetensors", scores)
        counts = {f"{name.rpartition('/')[0]}/count": np.full(len(concepts), fitted) for name in scores}
        for name, own in scores.items():
            counts |= {f"{name.rpartition('/')[0]}/{moment}": np.zeros(own.shape) for moment in MOMENTS[1:]}
        write_tensors(path / "ranges.safetensors", counts)
        write_tensors(path / "neurons.safetensors", {"nothing": np.zeros(1)})
        write_json(path / "ranges.json", {"concepts": concepts, "ranges": []})
    return path


def read(*paths: Path) -> list[Run]:
    """Return the runs of these folders."""
    return read_runs(list(paths))
