"""The only reader and writer of a run folder's result files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from neuronlens.config.schema import Config
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import NeuronLensError, OutputError
from neuronlens.models.identity import Sample
from neuronlens.records import ActivationSet, ConceptDataset, FloatArray, IntArray, Job, ResultTable, Site
from neuronlens.results import fitted, manifest, samples, started, tables
from neuronlens.results.claim import FOLLOWED, OURS
from neuronlens.results.fitted import FittedFiles
from neuronlens.results.manifest import Manifest
from neuronlens.storage import checksums
from neuronlens.storage.files import json_types, read_tensors, write_atomically, write_json, write_tensors

WEIGHTS = "weights.safetensors"
SEALED = (manifest.NAME, "base.json", "ranges.json", "summary.json", "*.parquet", "*.safetensors")
"""What is read again; each is held against its checksum first. Pages, figures and logs are for people, and
the activations, the largest file, may be taken away: only a lens reads them, and says so."""


class RunFolder:
    """The files of one run, under the names of SPEC section 8.

    Its manifest is written last, and the checksums of all that is read again with it. From then on a folder with such a file
    changed, cut off or lost is refused; one without checksums, of an older version, is read as it is.
    """

    def __init__(self, path: Path) -> None:
        """Read or write below `path`."""
        self.path = Path(path)
        self._is_whole = False

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / "figures"

    @property
    def finished(self) -> bool:
        """Whether a run came to its end here: its manifest is written last, and the checksums with it."""
        return (self.path / manifest.NAME).is_file() or checksums.is_sealed(self.path)

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

    def stopped_with(self, config: Config) -> bool:
        """Whether a run with this very config was started here and did not come to its end."""
        return not self.finished and started.stored_config(self.path) == json_types(config)

    def claim_for_a_run(self, *, overwrite: bool = False, resumed: bool = False) -> None:
        """Make sure that the folder is this run's alone: nothing of another run stays in it to enter the new report.

        Args:
            overwrite: whether what another run left is taken away; files that no run writes stay.
            resumed: whether this is the run that was stopped here, and writes its files anew.

        Raises:
            OutputError: it cannot be written, or it holds files of another run and `overwrite` is off.
        """
        found = [self.path / name for name in OURS if (self.path / name).exists()]
        results = [
            path.name for path in found if path.name not in FOLLOWED or (path == self.figures and any(path.iterdir()))
        ]
        if results and not overwrite and not resumed:
            named = ", ".join(results[:3]) + (" and more" if len(results) > 3 else "")
            raise OutputError(
                f"The run folder {self.path} holds {named} of another run. Next: another folder, or overwrite=true."
            )
        for path in found:
            if path.name == "wandb" and (resumed or not overwrite):
                continue  # the record of a run that was stopped, which can still be sent
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.claim()

    def write_started(self, config: Config, job: Job | None = None) -> None:
        """Write what the run is started with, for `neuronlens run --resume`."""
        started.write_started(self.path, config, job)

    def write_manifest(self, content: Manifest) -> None:
        """Write what the results rest on, and the checksums of every file that is read again: the run is finished."""
        with self._writing():
            content.write(self.path)
        self._seal()
        (self.path / started.NAME).unlink(missing_ok=True)

    def read_manifest(self) -> Manifest:
        """Return what the results rest on, an older format brought to today's.

        Raises:
            OutputError: not the folder of a finished run, or of a run by a newer version.
        """
        with self._reading():
            return Manifest.read(self.path)

    def write_results(self, table: ResultTable, *, safe_csv: bool = False) -> None:
        """Write results, matched erasure and its comparison, as parquet and (for results) CSV.

        Args:
            safe_csv: whether text that a spreadsheet would compute is quoted in the CSV.
        """
        with self._writing():
            tables.write_results(self.path, table, safe_csv=safe_csv)

    def read_results(self) -> ResultTable:
        """Return the tables of a finished run.

        Raises:
            OutputError: not a run folder, or not finished.
        """
        with self._reading():
            return tables.read_results(self.path)

    def write_samples(self, data: ConceptDataset, base: Mapping[str, tuple[IntArray, FloatArray]]) -> None:
        """Write one row per example used: id, split, label, text, base prediction and gold confidence (null if not run)."""
        with self._writing():
            samples.write_samples(self.path, data, base)

    def read_samples(self, split: str) -> pd.DataFrame:
        """Return id, label and text of one split's examples, in file order.

        Raises:
            OutputError: the folder holds no samples.
        """
        with self._reading():
            return samples.read_samples(self.path, split)

    def write_fitted(self, fits: Mapping[Site, Fitted], select: Mapping[Site, ActivationSet] | None = None) -> None:
        """Write rankings, ranges and the activations they were fitted on, those of the select split with them."""
        with self._writing():
            fitted.write_fitted(self.path, fits, select)

    def read_fitted(self) -> FittedFiles:
        """Return the arrays of rankings, ranges and shown neurons by name, and the description in `ranges.json`."""
        with self._reading():
            return fitted.read_fitted(self.path)

    def restore_fitted(self) -> tuple[dict[Site, Fitted], dict[Site, ActivationSet]]:
        """Return what `write_fitted` was given: per site the fits, and the select split's activations where recorded.

        Raises:
            OutputError: not the folder of a finished run, or of one that kept no activations.
        """
        with self._reading():
            return fitted.restore_fitted(self.path)

    def write_weights(self, sample: Sample) -> None:
        """Write a few values of the model's weights, by which a lens knows the model (`models.identity`)."""
        with self._writing():
            write_tensors(self.path / WEIGHTS, sample)

    def read_weights(self) -> Sample | None:
        """Return a few values of the model's weights; None of a run of an older version."""
        with self._reading():
            return read_tensors(self.path / WEIGHTS) if (self.path / WEIGHTS).is_file() else None

    def write_diagnostics(
        self, neurons: pd.DataFrame, overlap: pd.DataFrame, detectors: pd.DataFrame | None = None
    ) -> None:
        """Write what ranges do on held-out samples per (concept, neuron), how salient sets overlap, and gates' detectors."""
        with self._writing():
            tables.write_table(self.path, "diagnostics", neurons)
            tables.write_table(self.path, "overlap", overlap)
            if detectors is not None and len(detectors):
                tables.write_table(self.path, "detectors", detectors)

    def read_diagnostics(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the held-out diagnostics and the overlap of salient sets, both empty where they were off."""
        with self._reading():
            neurons, overlap = (tables.read_table(self.path, name) for name in ("diagnostics", "overlap"))
        return pd.DataFrame() if neurons is None else neurons, pd.DataFrame() if overlap is None else overlap

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the run folder."""
        write_atomically(self.path / name, text.encode())

    def write_summary(self, content: Mapping[str, Any]) -> None:
        """Write `summary.json`: what came of the run, for programs."""
        sealed = checksums.is_sealed(self.path)
        with self._writing():
            write_json(self.path / "summary.json", content)
        if sealed:  # written anew from a finished run's tables
            self._seal()

    def read_summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`.

        Raises:
            OutputError: not the folder of a finished run.
        """
        with self._reading():
            content = json.loads((self.path / "summary.json").read_text())
            assert isinstance(content, dict), "a summary is a JSON object"
            return content

    def _seal(self) -> None:
        checksums.seal(self.path, (path for pattern in SEALED for path in self.path.glob(pattern)))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Take the checksums away: what is written in the block is not what they were made of."""
        self._is_whole = False
        (self.path / checksums.NAME).unlink(missing_ok=True)
        yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold the files against their checksums, once; what goes wrong in the block is one sentence.

        Raises:
            OutputError: a file was changed, cut off or lost, or there is no finished run here.
        """
        sealed = checksums.is_sealed(self.path) and not self._is_whole
        wrong = checksums.damage(self.path, may_lack=(fitted.ACTIVATIONS,)) if sealed else None
        if wrong is not None:
            raise OutputError(
                f"'{self.path}' is not as the run left it: {wrong}. Next: copy the folder again from where it ran, or delete "
                f"its {checksums.NAME} to read it as it is."
            )
        self._is_whole = True
        try:
            yield
        except NeuronLensError:
            raise
        except Exception as error:  # of a broken file any of Python's errors, wherever it is read
            words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise OutputError(
                f"'{self.path}' is not the folder of a finished run, or a file in it is broken ({words}). Next: copy the "
                "folder again from where it ran."
            ) from error
