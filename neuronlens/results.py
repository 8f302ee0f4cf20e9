"""The only reader and writer of a run folder's result files."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuronlens.config import fingerprint
from neuronlens.errors import OutputError
from neuronlens.evaluation.metrics import MEASURES, BaseOutcomes, measure
from neuronlens.evaluation.sweep import Cell, Outcomes
from neuronlens.records import (
    ActivationRanges,
    ActivationSet,
    ConceptDataset,
    FloatArray,
    IntArray,
    NeuronRanking,
    ResultTable,
    Site,
)
from neuronlens.schema import Config
from neuronlens.store import read_tensors, write_atomically, write_json, write_tensors

KNOBS = (
    *("run_id", "model", "dataset", "layer", "site", "saliency", "top_fraction", "range", "tau", "gate", "edit"),
    *("strength", "edit_positions", "concept", "seed", "n_concept", "n_complement"),
)
COLUMNS = (
    *KNOBS,
    *MEASURES,
    *(f"{name}_{end}" for name in MEASURES for end in ("low", "high")),
    *("n_neurons", "skipped", "cell_id"),
)
LIBRARIES = ("torch", "transformers", "pytorch-lightning", "scikit-learn", "numpy", "datasets", "hydra-core", "wandb")
SHOWN_NEURONS = 8  # salient neurons per concept whose values a run folder keeps, for the histograms


@dataclass(frozen=True)
class LayerSweep:
    """One layer's sweep, before it becomes rows."""

    site: Site
    saliency: str
    cells: Sequence[Cell]
    skipped: Mapping[Cell, str]
    n_neurons: Mapping[Cell, int]
    outcomes: Outcomes


def result_rows(
    config: Config,
    *,
    run_id: str,
    data: ConceptDataset,
    sweeps: Sequence[LayerSweep],
    base: BaseOutcomes,
    labels: IntArray,
    fingerprints: Mapping[str, str],
) -> pd.DataFrame:
    """Return one row per (cell x concept) in the columns of SPEC section 8, the unedited model first.

    A skipped cell has its reason in `skipped` and null measures; knobs that play no part are null.

    Args:
        fingerprints: of the model, the data and how ranking and ranges are fitted; with a cell's knobs they make its id.
    """
    options: dict[str, Any] = {
        "level": config.evaluation.level,
        "resamples": config.evaluation.bootstrap,
        "seed": config.seed,
    }
    shared = {
        "run_id": run_id,
        "model": config.model.name,
        "dataset": data.name,
        "edit_positions": config.intervention.edit_positions,
        "seed": config.seed,
    }
    rows: list[dict[str, Any]] = []
    unedited = Outcomes(
        base.gold[None], base.correct[None], np.zeros((1, len(labels))), np.zeros((1, len(labels)), bool)
    )
    for concept, name in enumerate(data.concepts):
        member = labels == concept
        found = measure(unedited, np.array([0]), base, member, **options)
        sizes = {"concept": name, "n_concept": int(member.sum()), "n_complement": int((~member).sum())}
        identity = {"edit": "none", "cell_id": fingerprint([fingerprints, "none", name]), "edit_positions": None}
        rows.append(shared | sizes | {key: value[0] for key, value in found.items()} | identity)
    for sweep in sweeps:
        index = {cell: place for place, cell in enumerate(sweep.cells)}
        for concept, name in enumerate(data.concepts):
            member = labels == concept
            own = [cell for cell in (*sweep.cells, *sweep.skipped) if cell[1] == concept]
            places = np.array([index[cell] for cell in own if cell in index], dtype=int)
            found = measure(sweep.outcomes, places, base, member, **options) if len(places) else {}
            order = {place: number for number, place in enumerate(places)}
            for cell in own:
                row = shared | {"concept": name, "n_concept": int(member.sum()), "n_complement": int((~member).sum())}
                row |= _knob_columns(sweep, cell)
                row["cell_id"] = fingerprint([fingerprints, str(sweep.site), cell[0], shared["edit_positions"], name])
                if cell in index:
                    row |= {key: value[order[index[cell]]] for key, value in found.items()}
                else:
                    row["skipped"] = sweep.skipped[cell]
                rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"layer": "Int64", "n_neurons": "Int64"})


def _knob_columns(sweep: LayerSweep, cell: Cell) -> dict[str, Any]:
    knobs = cell[0]
    return {
        "layer": sweep.site.layer,
        "site": sweep.site.name,
        "saliency": sweep.saliency,
        "top_fraction": knobs.top_fraction,
        "range": knobs.range,
        "tau": knobs.tau,
        "gate": knobs.gate,
        "edit": knobs.edit,
        "strength": knobs.strength,
        "n_neurons": sweep.n_neurons[cell],
    }


class RunFolder:
    """The files of one run, under the names of SPEC section 8."""

    def __init__(self, path: Path) -> None:
        """Read or write below `path`."""
        self.path = Path(path)

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    def claim(self) -> None:
        """Make sure that the folder can be written, before anything expensive.

        Raises:
            OutputError: it cannot.
        """
        try:
            self.figures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Cannot write the run folder {self.path}: {error}. Next: paths.output_dir=<folder>."
            ) from error
        if not os.access(self.path, os.W_OK):
            raise OutputError(f"The run folder {self.path} is not writable. Next: paths.output_dir=<folder>.")

    def write_results(self, table: ResultTable) -> None:
        """Write results, matched erasure and its comparison, as parquet and (for results) CSV."""
        self._write_table("results", table.rows)
        write_atomically(self.path / "results.csv", table.rows.to_csv(index=False).encode())
        self._write_table("matched", table.matched)
        self._write_table("comparison", table.comparison)
        write_json(self.path / "base.json", table.base)

    def read_results(self) -> ResultTable:
        """Return the tables of a finished run.

        Raises:
            OutputError: not a run folder, or not finished.
        """
        try:
            base = json.loads((self.path / "base.json").read_text())
            tables = [pd.read_parquet(self.path / f"{name}.parquet") for name in ("results", "matched", "comparison")]
        except (OSError, ValueError) as error:
            raise OutputError(
                f"'{self.path}' is not the folder of a finished run: {error}. Expected results.parquet and base.json in it."
            ) from error
        return ResultTable(tables[0], tables[1], tables[2], base)

    def write_samples(self, data: ConceptDataset, base: Mapping[str, tuple[IntArray, FloatArray]]) -> None:
        """Write one row per example used: id, split, label, text, base prediction and gold confidence (null if not run)."""
        frames = []
        for split in ("train", "fit", "select", "test"):
            rows = data.rows(split)
            prediction, confidence = base.get(split, (None, None))
            named = [data.concepts[number] for number in prediction] if prediction is not None else None
            frames.append(
                pd.DataFrame(
                    {
                        "id": [data.ids[row] for row in rows],
                        "split": split,
                        "label": [data.concepts[data.labels[row]] for row in rows],
                        "text": [data.texts[row] for row in rows],
                        "base_prediction": pd.Series(named, dtype=object, index=range(len(rows))),
                        "base_confidence": pd.Series(confidence, dtype=float, index=range(len(rows))),
                    }
                )
            )
        self._write_table("samples", pd.concat([frame for frame in frames if len(frame)], ignore_index=True))

    def write_fitted(
        self,
        rankings: Mapping[int, NeuronRanking],
        ranges: Mapping[int, Mapping[float | None, ActivationRanges]],
        activations: Mapping[int, ActivationSet],
    ) -> None:
        """Write rankings, ranges with their statistics, and the fit values of every concept's most salient neurons."""
        write_tensors(self.path / "ranking.safetensors", {str(Site(layer)): r.scores for layer, r in rankings.items()})
        bounds: dict[str, NDArray[Any]] = {}
        described = []
        for layer, by_tau in ranges.items():
            for tau, fitted in by_tau.items():
                name = f"{Site(layer)}/tau={tau}"
                bounds |= {f"{name}/lower": fitted.lower, f"{name}/upper": fitted.upper}
                skipped = {fitted.concepts[concept]: reason for concept, reason in fitted.skipped.items()}
                described.append({"name": name, "range": fitted.name, "tau": tau, "skipped": skipped})
            moments = next(iter(by_tau.values())).statistics
            for field in ("count", "mean", "variance"):
                bounds[f"{Site(layer)}/{field}"] = getattr(moments, field)
        write_tensors(self.path / "ranges.safetensors", bounds)
        concepts = next(iter(rankings.values())).concepts
        layout = {
            "lower, upper": "[concept, interval, neuron]",
            "count": "[concept]",
            "mean, variance": "[concept, neuron]",
        }
        write_json(self.path / "ranges.json", {"concepts": concepts, "ranges": described, "layout": layout})
        shown: dict[str, NDArray[Any]] = {}
        for layer, found in activations.items():
            neurons = np.unique(rankings[layer].order[:, :SHOWN_NEURONS])
            shown |= {f"{found.site}/values": found.values[:, neurons], f"{found.site}/neurons": neurons}
            shown[f"{found.site}/labels"] = found.labels
        write_tensors(self.path / "neurons.safetensors", shown)

    def read_fitted(
        self,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, Any]]:
        """Return ranking, ranges and shown neurons by name, and the description in ranges.json."""
        arrays = [read_tensors(self.path / f"{name}.safetensors") for name in ("ranking", "ranges", "neurons")]
        return arrays[0], arrays[1], arrays[2], json.loads((self.path / "ranges.json").read_text())

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run folder."""
        write_atomically(self.path / name, text.encode())

    def write_record(self, name: str, content: Any) -> None:
        """Write a JSON file of the run folder: the manifest or the summary."""
        write_json(self.path / name, content)

    def read_record(self, name: str) -> dict[str, Any]:
        """Return a JSON file of the run folder.

        Raises:
            OutputError: not there.
        """
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise OutputError(f"'{self.path}' is not the folder of a finished run: {error}.") from error

    def _write_table(self, name: str, table: pd.DataFrame) -> None:
        write_atomically(self.path / f"{name}.parquet", table.to_parquet(index=False))


def provenance() -> dict[str, Any]:
    """Return what a result rests on besides its config: versions, revision, machine, command."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return {
        "versions": versions,
        "git_revision": _git_revision(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "command": sys.argv,
    }


def _git_revision() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def peak_memory_gib() -> float:
    """Return the most memory this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
