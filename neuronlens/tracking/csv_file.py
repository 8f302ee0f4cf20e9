"""The same numbers as a text file: `metrics.csv` in the run folder, one row per number, written as they come."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd

from neuronlens.tracking.destination import Bundle
from neuronlens.tracking.scalars import Step


class CsvFile:
    """Rows of `name, axis, at, value`; `axis` and `at` are empty for the run's flat numbers."""

    def __init__(self, folder: Path) -> None:
        """Write below a run folder."""
        self.path = folder / "metrics.csv"
        self.notes: dict[str, str] = {}
        self._open: IO[str] | None = None

    def start(self) -> None:
        """Open the file."""
        self._open = self.path.open("w", newline="")
        self._write([("name", "axis", "at", "value")])

    def log_step(self, step: Step) -> None:
        """Write numbers at one point of an axis."""
        self._write((name, step.axis, f"{step.at:g}", value) for name, value in step.values.items())

    def log_message(self, message: str) -> None:
        """Leave the message to the run folder."""

    def log_flat(self, values: Mapping[str, float], chosen: Mapping[str, float]) -> None:
        """Write the run's numbers, all of them."""
        self._write((name, "", "", value) for name, value in values.items())

    def _write(self, rows: Iterable[Sequence[Any]]) -> None:
        assert self._open is not None, "the file is opened by `start`"
        csv.writer(self._open).writerows(rows)
        self._open.flush()  # a run that is killed leaves what it had

    def log_tables(self, tables: Mapping[str, pd.DataFrame], means: pd.DataFrame) -> None:
        """Leave tables to the run folder, which has them as CSV or parquet."""

    def log_figures(self, figures: Sequence[Path], page: Path | None) -> None:
        """Leave figures to the run folder."""

    def log_files(self, bundles: Sequence[Bundle]) -> None:
        """Leave files to the run folder."""

    def finish(self, exit_code: int) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.close()
