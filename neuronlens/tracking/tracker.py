"""Follows one run wherever the config says; a place that fails is left out with a warning, and the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from neuronlens.config.extras import to_install
from neuronlens.config.schema import Config
from neuronlens.execution.signals import code_of
from neuronlens.measures.naming import word
from neuronlens.records import Job, ResultTable
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest
from neuronlens.results.tables import OPTIONAL
from neuronlens.tracking.destination import Bundle, Destination, Warn, labels_of
from neuronlens.tracking.scalars import Step, chosen, flat, steps_along_the_dose, tradeoff

log = logging.getLogger(__name__)

RANGES = ("ranges.safetensors", "ranges.json")
LENS = ("manifest.json", *(f"{name}.safetensors" for name in ("ranking", "neurons", "activations", "weights")))
"""With `RANGES` all that `Lens.from_run` reads."""
RESULTS = (
    *("results.parquet", "matched.parquet", "comparison.parquet", "methods.parquet", "operating_points.parquet"),
    *(f"{name}.parquet" for name in OPTIONAL),
    *("diagnostics.parquet", "overlap.parquet", "base.json", "summary.json", "table.md", "table.tex", "table.csv"),
)


class Tracker:
    """The places that follow one run. A context manager: each is finished even after a failure, with its exit code."""

    def __init__(self, config: Config, folder: RunFolder, *, warn: Warn, job: Job | None = None) -> None:
        """Prepare to follow a run.

        Args:
            folder: the run's; what is written here goes below it.
            warn: prints a warning when a place fails.
            job: which one of a multirun the run is.
        """
        self.config, self.folder, self.warn = config, folder, warn
        self.labels = labels_of(config, folder.path, job)
        self.notes: dict[str, str] = {}
        self._followed: list[tuple[str, Destination]] = []
        self._stage = 0

    def __enter__(self) -> Tracker:
        """Start every place; one that does not start is left out."""
        for kind in self._kinds():
            try:
                destination = self._make(kind)
                destination.start()
            except Exception as error:
                self._lost(kind, "could not start", error)
            else:
                self._followed.append((kind, destination))
        return self

    def _kinds(self) -> list[str]:
        """Return the places by name, each once; `auto` is wandb where it is installed, and none where it is not."""
        kinds = self.config.logger.kind.split("+")
        if "auto" in kinds:
            absent = to_install("Nobody follows this run beside its folder: W&B", "wandb")
            if absent and len(kinds) == 1:
                self.warn([f"{absent}, or logger=csv."])
            kinds = [kind if kind != "auto" else "wandb" for kind in kinds if kind != "auto" or not absent]
        return list(dict.fromkeys(kinds))

    def _make(self, kind: str) -> Destination:
        """Return a place by its name; its library is imported only here."""
        if kind == "wandb":
            from neuronlens.tracking.weights_and_biases import WeightsAndBiases

            return WeightsAndBiases(self.config, self.folder.path, self.labels, self.warn)
        if kind == "tensorboard":
            from neuronlens.tracking.tensorboard_files import TensorBoardFiles

            return TensorBoardFiles(self.config, self.folder.path)
        from neuronlens.tracking.csv_file import CsvFile

        return CsvFile(self.folder.path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Finish every place: 0 done, 1 failed, 130 interrupted, 143 terminated."""
        code = code_of(error)
        for name, destination in self._followed:
            try:
                destination.finish(code)
            except Exception as failure:
                self._lost(name, "could not be finished", failure)
            else:
                self.notes |= destination.notes

    def log_stage(self, name: str, seconds: float) -> None:
        """Record how long a stage took."""
        step = Step("stage", self._stage, {f"timing/{word(name)}_s": seconds})
        self._stage += 1
        self._each(lambda place: place.log_step(step))

    def log_results(self, table: ResultTable, manifest: Manifest) -> None:
        """Record what came of the run: numbers, tables, charts, figures and files, all read from the finished folder."""
        if not self._followed:
            return
        try:
            self._log_all(table, manifest)
        except Exception as error:  # whatever is wrong here, the run has its results
            self._lost(self.config.logger.kind, "did not get all results", error)

    def _log_all(self, table: ResultTable, manifest: Manifest) -> None:
        values, few = flat(table, self.config), chosen(table, self.config)
        means = tradeoff(table.rows)
        named = {"results": table.rows, "comparison": table.comparison, "methods": table.methods}
        for name in OPTIONAL:
            found = getattr(table, name)
            if found is not None and name not in ("doses", "budget"):  # the files have every cell and concept
                named[name] = found
        for step in steps_along_the_dose(means):
            self._each(lambda place, step=step: place.log_step(step))  # type: ignore[misc]
        message = str(self.folder.read_summary()["message"])
        self._each(lambda place: place.log_message(message))
        self._each(lambda place: place.log_flat(values, few))
        self._each(lambda place: place.log_tables(named, means))
        figures, page = sorted(self.folder.figures.glob("*.png")), self.folder.path / "report.html"
        self._each(lambda place: place.log_figures(figures, page if page.is_file() else None))
        bundles = self._bundles(manifest)
        self._each(lambda place: place.log_files(bundles))

    def _bundles(self, manifest: Manifest) -> list[Bundle]:
        """Return the files worth keeping, with what they were made from."""
        recorded = ("run_id", "fingerprints", "git_revision", "model_type", "concepts")
        made_from: dict[str, Any] = {name: getattr(manifest, name) for name in recorded}
        made_from |= {"model": self.config.model.name, "dataset": self.config.dataset.name}
        made_from |= {"layers": str(self.config.layers.select), "site": self.config.layers.site}

        def there(files: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in files if (self.folder.path / name).is_file())

        ranges, page = there(RANGES), there(("report.html",))
        return [
            Bundle("ranges", ranges, made_from),
            Bundle("lens", there(LENS), made_from, rests_on={"ranges": ranges}),
            Bundle("results", there(RESULTS) + page, made_from),
        ]

    def _each(self, what: Callable[[Destination], None]) -> None:
        for name, destination in list(self._followed):
            try:
                what(destination)
            except Exception as error:
                self._followed.remove((name, destination))
                self._lost(name, "stopped recording", error)
                self._give_up(destination)

    def _give_up(self, destination: Destination) -> None:
        """Close what is open of a place that failed, as far as it can be closed."""
        try:
            destination.finish(1)
        except Exception:
            log.exception("It could not be closed either")

    def _lost(self, kind: str, how: str, error: Exception) -> None:
        log.exception("logger=%s %s", kind, how, exc_info=error)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self.warn([f"logger={kind} {how} ({reason}). The run itself goes on: its results are in {self.folder.path}."])
