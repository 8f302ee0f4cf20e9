"""The only reader and writer of a run folder's result files."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuronlens.activations.moments import statistics_of
from neuronlens.config.fingerprint import fingerprint
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import OutputError
from neuronlens.measures.columns import RESULTS
from neuronlens.records import (
    ActivationRanges,
    ActivationSet,
    ConceptDataset,
    ConceptStatistics,
    FloatArray,
    IntArray,
    NeuronRanking,
    ResultTable,
    Site,
)
from neuronlens.storage.files import read_tensors, write_atomically, write_json, write_tensors

LIBRARIES = ("torch", "transformers", "pytorch-lightning", "scikit-learn", "numpy", "datasets", "hydra-core", "wandb")
MOMENTS = tuple(field.name for field in fields(ConceptStatistics))
SHOWN_NEURONS = 8  # salient neurons per concept whose values a run folder keeps, for the histograms
COMPONENTS = ("weights", "means", "stds")


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
        self._write_table("methods", table.methods)
        if len(table.operating_points):
            self._write_table("operating_points", table.operating_points)
        if table.general is not None:
            self._write_table("general", table.general)
        write_json(self.path / "base.json", table.base)

    def read_results(self) -> ResultTable:
        """Return the tables of a finished run.

        Raises:
            OutputError: not a run folder, or not finished.
        """
        try:
            base = json.loads((self.path / "base.json").read_text())
            names = ("results", "matched", "comparison", "methods")
            tables = [RESULTS.completed(pd.read_parquet(self.path / f"{name}.parquet")) for name in names]
            chosen = self.path / "operating_points.parquet"
            points = RESULTS.completed(pd.read_parquet(chosen)) if chosen.is_file() else pd.DataFrame()
            able = self.path / "general.parquet"
            general = RESULTS.completed(pd.read_parquet(able)) if able.is_file() else None
        except (OSError, ValueError) as error:
            raise OutputError(
                f"'{self.path}' is not the folder of a finished run: {error}. Expected results.parquet and base.json in it."
            ) from error
        return ResultTable(tables[0], tables[1], tables[2], tables[3], points, base, general)

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

    def read_samples(self, split: str) -> pd.DataFrame:
        """Return id, label and text of one split's examples, in file order.

        Raises:
            OutputError: the folder holds no samples.
        """
        path = self.path / "samples.parquet"
        try:
            table = pd.read_parquet(path, columns=["id", "split", "label", "text"], filters=[("split", "==", split)])
        except (OSError, ValueError) as error:
            raise OutputError(f"Cannot read {path}: {error}. Expected the folder of a finished run.") from error
        return table.drop(columns="split")

    def write_fitted(self, fitted: Mapping[Site, Fitted], select: Mapping[Site, ActivationSet] | None = None) -> None:
        """Write rankings, ranges with their statistics, and the fit values of every concept's most salient neurons.

        The values' example ids stand beside them as UTF-8 bytes `[sample, byte]` (`example_ids` reads them).
        `activations.safetensors` holds all values fitted on, and those of the select split: with them every gate and edit
        can be made again (`restore_fitted`).
        """
        rankings: dict[str, NDArray[Any]] = {}
        bounds: dict[str, NDArray[Any]] = {}
        shown: dict[str, NDArray[Any]] = {}
        values: dict[str, NDArray[Any]] = {}
        described = []
        for site, found in fitted.items():
            rankings |= {f"{site}/{name}": ranking.scores for name, ranking in found.rankings.items()}
            for (range_name, tau), ranges in found.ranges.items():
                name = f"{site}/{range_name}" + ("" if tau is None else f"/tau={tau}")
                bounds |= {f"{name}/lower": ranges.lower, f"{name}/upper": ranges.upper}
                bounds |= {f"{site}/{range_name}/{part}": array for part, array in ranges.components.items()}
                skipped = {ranges.concepts[concept]: reason for concept, reason in ranges.skipped.items()}
                described.append({"name": name, "site": str(site), "range": range_name, "tau": tau, "skipped": skipped})
            moments = found.activations.statistics
            bounds |= {f"{site}/{field}": getattr(moments, field) for field in MOMENTS}
            orders = [ranking.order[:, :SHOWN_NEURONS] for ranking in found.rankings.values()]
            neurons = np.unique(np.concatenate(orders, axis=1)) if orders else np.arange(0)
            shown |= {f"{site}/values": found.activations.values[:, neurons], f"{site}/neurons": neurons}
            shown |= {f"{site}/labels": found.activations.labels, f"{site}/ids": _ids_as_bytes(found.activations.ids)}
            for split, seen in (("fit", found.activations), ("select", (select or {}).get(site))):
                if seen is not None:
                    values |= {f"{site}/{split}": seen.values, f"{site}/{split}_labels": seen.labels}
        write_tensors(self.path / "ranking.safetensors", rankings)
        write_tensors(self.path / "ranges.safetensors", bounds)
        write_tensors(self.path / "neurons.safetensors", shown)
        write_tensors(self.path / "activations.safetensors", values)
        concepts = next(iter(fitted.values())).activations.concepts
        layout = {
            "lower, upper": "[concept, interval, neuron]",
            "count": "[concept]",
            "mean, variance, mean_abs": "[concept, neuron]",
            "weights, means, stds": "[concept, component, neuron]",
        }
        about = {"concepts": concepts, "ranges": described, "layout": layout}
        about["sites"] = [{"layer": site.layer, "name": site.name, "failed": fitted[site].failed} for site in fitted]
        write_json(self.path / "ranges.json", about)

    def read_fitted(
        self,
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, Any]]:
        """Return ranking, ranges and shown neurons by name, and the description in ranges.json."""
        arrays = [read_tensors(self.path / f"{name}.safetensors") for name in ("ranking", "ranges", "neurons")]
        return arrays[0], arrays[1], arrays[2], json.loads((self.path / "ranges.json").read_text())

    def restore_fitted(self) -> tuple[dict[Site, Fitted], dict[Site, ActivationSet]]:
        """Return what `write_fitted` was given: per site the fits, and the select split's activations where recorded.

        Samples have their row numbers for ids, and ranges no `law`.

        Raises:
            OutputError: not the folder of a finished run, or of one that kept no activations.
        """
        if not (self.path / "activations.safetensors").is_file():
            raise OutputError(
                f"'{self.path}' holds no activations.safetensors. Expected the folder of a finished run of this version. "
                "Next: neuronlens run."
            )
        scores, arrays, _, about = self.read_fitted()
        values = read_tensors(self.path / "activations.safetensors")
        concepts = tuple(about["concepts"])
        fitted: dict[Site, Fitted] = {}
        select: dict[Site, ActivationSet] = {}
        for entry in about["sites"]:
            site = Site(entry["layer"], entry["name"])
            moments = ConceptStatistics(*(arrays[f"{site}/{field}"] for field in MOMENTS))
            recorded = _activations(site, "fit", values, concepts, moments)
            if f"{site}/select" in values:
                select[site] = _activations(site, "select", values, concepts)
            own = {
                name.removeprefix(f"{site}/"): found for name, found in scores.items() if name.startswith(f"{site}/")
            }
            rankings = {name: NeuronRanking(name, found, concepts) for name, found in own.items()}
            ranges = {}
            for told in about["ranges"]:
                if told["site"] == str(site):
                    tau = None if told["tau"] is None else float(told["tau"])
                    bounds = arrays[f"{told['name']}/lower"], arrays[f"{told['name']}/upper"]
                    skipped = {concepts.index(name): reason for name, reason in told["skipped"].items()}
                    parts = {part: f"{site}/{told['range']}/{part}" for part in COMPONENTS}
                    components = {part: arrays[name] for part, name in parts.items() if name in arrays}
                    ranges[told["range"], tau] = ActivationRanges(
                        told["range"], tau, *bounds, concepts, moments, skipped, components=components
                    )
            fitted[site] = Fitted(recorded, rankings, ranges, entry["failed"])
        return fitted, select

    def write_diagnostics(self, neurons: pd.DataFrame, overlap: pd.DataFrame) -> None:
        """Write what ranges do on held-out samples per (concept, neuron), and how salient sets overlap."""
        self._write_table("diagnostics", neurons)
        self._write_table("overlap", overlap)

    def read_diagnostics(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the held-out diagnostics and the overlap of salient sets, both empty where they were off."""
        paths = [self.path / f"{name}.parquet" for name in ("diagnostics", "overlap")]
        found = [pd.read_parquet(path) if path.is_file() else pd.DataFrame() for path in paths]
        return found[0], found[1]

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


def _activations(
    site: Site,
    split: str,
    arrays: Mapping[str, NDArray[Any]],
    concepts: tuple[str, ...],
    moments: ConceptStatistics | None = None,
) -> ActivationSet:
    values, labels = arrays[f"{site}/{split}"], arrays[f"{site}/{split}_labels"]
    moments = moments or statistics_of(values, labels, len(concepts))
    ids = tuple(f"{split} {row}" for row in range(len(labels)))
    return ActivationSet(site, values, labels, concepts, ids, moments, fingerprint([str(site), split, values.shape]))


def _ids_as_bytes(ids: Sequence[str]) -> NDArray[np.uint8]:
    encoded = np.array([name.encode() for name in ids], dtype=np.bytes_)
    return encoded.view(np.uint8).reshape(len(ids), encoded.itemsize)


def example_ids(encoded: NDArray[np.uint8]) -> list[str]:
    """Return the ids that a safetensors file holds as UTF-8 bytes `[sample, byte]`, padded with zeros.

    >>> example_ids(np.array([[97, 98], [99, 0]], dtype=np.uint8))
    ['ab', 'c']
    """
    return [row.tobytes().rstrip(b"\0").decode() for row in encoded]


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
