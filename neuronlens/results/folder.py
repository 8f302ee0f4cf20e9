"""The only reader and writer of a run folder's result files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from neuronlens.edits.fitting import Fitted
from neuronlens.errors import OutputError
from neuronlens.records import ActivationSet, ConceptDataset, FloatArray, IntArray, ResultTable, Site
from neuronlens.results import fitted, manifest, samples, tables
from neuronlens.results.claim import FOLLOWED, OURS
from neuronlens.results.fitted import FittedFiles
from neuronlens.results.intact import FITTED_FILES, RESULT_FILES, checksums_of_run, intact
from neuronlens.results.manifest import Manifest
from neuronlens.storage.files import write_atomically, write_json


class RunFolder:
    """The files of one run, under the names of SPEC section 8."""

    def __init__(self, path: Path) -> None:
        """Read or write below `path`."""
        self.path = Path(path)

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    @property
    def finished(self) -> bool:
        """Whether a run came to its end here: its manifest is written last."""
        return (self.path / manifest.NAME).is_file()

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

    def claim_for_a_run(self, *, overwrite: bool = False) -> None:
        """Make sure that the folder is this run's alone: nothing of another run stays in it to enter the new report.

        Args:
            overwrite: whether what another run left is taken away; files that no run writes stay.

        Raises:
            OutputError: it cannot be written, or it holds files of another run and `overwrite` is off.
        """
        found = [self.path / name for name in OURS if (self.path / name).exists()]
        results = [
            path.name for path in found if path.name not in FOLLOWED or (path == self.figures and any(path.iterdir()))
        ]
        if results and not overwrite:
            named = ", ".join(results[:3]) + (" and more" if len(results) > 3 else "")
            raise OutputError(
                f"The run folder {self.path} holds {named} of another run. Next: another folder, or overwrite=true."
            )
        for path in found:
            if path.name == "wandb" and not overwrite:
                continue  # the record of a run that was stopped, which can still be sent
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.claim()

    def write_manifest(self, content: Manifest) -> None:
        """Write what the results rest on."""
        replace(content, checksums=checksums_of_run(self.path)).write(self.path)

    def read_manifest(self) -> Manifest:
        """Return what the results rest on, an older format brought to today's.

        Raises:
            OutputError: not the folder of a finished run, or of a run by a newer version.
        """
        return Manifest.read(self.path)

    def write_results(self, table: ResultTable, *, safe_csv: bool = False) -> None:
        """Write results, matched erasure and its comparison, as parquet and (for results) CSV.

        Args:
            safe_csv: whether text that a spreadsheet would compute is quoted in the CSV.
        """
        tables.write_results(self.path, table, safe_csv=safe_csv)

    def read_results(self) -> ResultTable:
        """Return the tables of a finished run.

        Raises:
            OutputError: not a run folder, or not finished.
        """
        with intact(self.path, RESULT_FILES):
            return tables.read_results(self.path)

    def write_samples(self, data: ConceptDataset, base: Mapping[str, tuple[IntArray, FloatArray]]) -> None:
        """Write one row per example used: id, split, label, text, base prediction and gold confidence (null if not run)."""
        samples.write_samples(self.path, data, base)

    def read_samples(self, split: str) -> pd.DataFrame:
        """Return id, label and text of one split's examples, in file order.

        Raises:
            OutputError: the folder holds no samples.
        """
        with intact(self.path, ("samples.parquet",)):
            return samples.read_samples(self.path, split)

    def write_fitted(self, fits: Mapping[Site, Fitted], select: Mapping[Site, ActivationSet] | None = None) -> None:
        """Write rankings, ranges and the activations they were fitted on, those of the select split with them."""
        fitted.write_fitted(self.path, fits, select)

    def read_fitted(self) -> FittedFiles:
        """Return the arrays of rankings, ranges and shown neurons by name, and the description in `ranges.json`."""
        with intact(self.path, FITTED_FILES[:-1]):
            return fitted.read_fitted(self.path)

    def restore_fitted(self) -> tuple[dict[Site, Fitted], dict[Site, ActivationSet]]:
        """Return what `write_fitted` was given: per site the fits, and the select split's activations where recorded.

        Raises:
            OutputError: not the folder of a finished run, or of one that kept no activations.
        """
        with intact(self.path, FITTED_FILES):
            return fitted.restore_fitted(self.path)

    def write_diagnostics(self, neurons: pd.DataFrame, overlap: pd.DataFrame) -> None:
        """Write what ranges do on held-out samples per (concept, neuron), and how salient sets overlap."""
        tables.write_table(self.path, "diagnostics", neurons)
        tables.write_table(self.path, "overlap", overlap)

    def read_diagnostics(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the held-out diagnostics and the overlap of salient sets, both empty where they were off."""
        with intact(self.path, ("diagnostics.parquet", "overlap.parquet")):
            neurons, overlap = (tables.read_table(self.path, name) for name in ("diagnostics", "overlap"))
        return pd.DataFrame() if neurons is None else neurons, pd.DataFrame() if overlap is None else overlap

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run folder."""
        write_atomically(self.path / name, text.encode())

    def write_summary(self, content: Mapping[str, Any]) -> None:
        """Write `summary.json`: what came of the run, for programs."""
        write_json(self.path / "summary.json", content)

    def read_summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`.

        Raises:
            OutputError: not the folder of a finished run.
        """
        try:
            content = json.loads((self.path / "summary.json").read_text())
        except (OSError, ValueError) as error:
            raise OutputError(f"'{self.path}' is not the folder of a finished run: {error}.") from error
        assert isinstance(content, dict), "a summary is a JSON object"
        return content
