"""Sends a run to Weights & Biases; offline unless the config asks otherwise, so that no key and no network are needed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.nodes import option_of
from neuronlens.config.schema import Config
from neuronlens.measures.columns import COST
from neuronlens.storage.files import json_types
from neuronlens.tracking.columns import fewer_columns
from neuronlens.tracking.destination import Bundle, Labels, Warn
from neuronlens.tracking.scalars import Step

SHARE = "share_erased"
"""Of a concept's accuracy: the axis of erasure, as on the page and in the figures."""
AXES = {"stage": "timing", "neurons": "by_neurons", "strength": "by_strength"}
"""Which metrics are drawn over which axis."""


class WeightsAndBiases:
    """One W&B run of its own, whatever other runs the process has: history by stage and dose, tables, charts, artifacts."""

    def __init__(self, config: Config, folder: Path, labels: Labels, warn: Warn) -> None:
        """Prepare a run whose files go below the run folder."""
        self.config, self.folder, self.labels, self.warn = config, folder, labels, warn
        self.notes: dict[str, str] = {}
        self.run: Any = None

    def start(self) -> None:
        """Start the run; offline where W&B cannot be reached, so that it can still be sent later."""
        asked = os.environ.get("WANDB_MODE")
        mode = "offline" if self.config.logger.offline else asked or "online"
        try:
            self._init("disabled" if asked == "disabled" else mode)
        except Exception as error:
            if mode != "online":
                raise
            self._init("offline")
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            found = f"W&B could not be reached ({reason}). The run is recorded offline."
            self.warn([f"{found} Next: wandb login, then {self._sync()}"])
        taken = dict(self.run.config.items())  # under a sweep agent, what it chose
        self.run.config.update(dict(_beside(taken, _by_option(self.config))), allow_val_change=True)
        for axis, prefix in AXES.items():
            self.run.define_metric(axis)
            along = {} if axis == "stage" else {"summary": "none"}  # the last point of a curve is no figure of a run
            self.run.define_metric(f"{prefix}/*", step_metric=axis, **along)

    def _init(self, mode: str) -> None:
        with _environment(WANDB_ERROR_REPORTING="false" if mode == "offline" else None):
            import wandb  # reads the environment as it is imported, and has a process of its own read it again

            logger = self.config.logger
            agent = bool(os.environ.get("WANDB_SWEEP_ID"))  # which has named project, entity and run id
            settings: dict[str, Any] = {"silent": not os.environ.get("WANDB_VERBOSE"), "console": "off"}
            start = partial(
                wandb.init,
                mode=mode,  # type: ignore[arg-type]
                dir=str(self.folder),
                project=None if agent else logger.project,
                entity=None if agent else logger.entity,
                group=self.labels.group,
                job_type=self.labels.job_type,
                tags=list(self.labels.tags),
                name=self.labels.name,
                reinit="create_new",  # neither another job's run nor one that the caller has open is touched
                settings=wandb.Settings(**settings),
            )
            try:
                self.run = start()
            except Exception as error:
                if type(error).__name__ != "WandbServiceConnectionError" or "WANDB_SERVICE" not in os.environ:
                    raise
                # A process that used W&B names its service to those that it starts; this one is dead: start our own.
                del os.environ["WANDB_SERVICE"]
                self.run = start()
        if mode == "offline":
            self.notes = {self._sync(): "sends this run to W&B"}
        elif mode == "online":
            self.notes = {str(self.run.url): "this run in W&B"}

    def _sync(self) -> str:
        """Return what sends an offline run."""
        return f"wandb sync {shlex.quote(str(Path(self.run.dir).parent))}"

    def log_step(self, step: Step) -> None:
        """Log a line of history."""
        self.run.log({step.axis: step.at, **step.values})

    def log_message(self, message: str) -> None:
        """Put the run's message into its summary, and into its notes, which stand beside its name, where it has none."""
        self.run.summary["message"] = message
        if not self.run.notes:
            self.run.notes = message

    def log_flat(self, values: Mapping[str, float], chosen: Mapping[str, float]) -> None:
        """Put the chosen numbers into the run's summary, where runs are sorted by them; the artifact `results` has all."""
        self.run.summary.update(dict(chosen))

    def log_tables(self, tables: Mapping[str, pd.DataFrame], means: pd.DataFrame) -> None:
        """Log tables with typed columns, at most 25 of them, and the trade-off and its frontier as charts.

        All columns stand in the artifact `results`, whole at any size; W&B cuts a table after 200,000 rows.
        """
        import wandb

        logged: dict[str, Any] = {
            name: _table(fewer_columns(table)) for name, table in tables.items() if len(table.columns)
        }
        several = means["place"].nunique() > 1
        named = means.assign(method=means["place"] + " " + means["name"] if several else means["name"])
        named = named.drop(columns="name").dropna(subset=SHARE)
        frontier = named[named["frontier"]].sort_values(["place", SHARE])
        logged["tradeoff"] = wandb.plot.line(
            _table(named), SHARE, COST, stroke="method", title="What each method costs the others as it erases more"
        )
        logged["frontier"] = wandb.plot.line(
            _table(frontier),
            SHARE,
            COST,
            stroke="place",
            title="The frontier: no method erases as much at a lower cost",
        )
        with self._own_staging():
            self.run.log(logged)

    def log_figures(self, figures: Sequence[Path], page: Path | None) -> None:
        """Log figures as images, and the report page."""
        import wandb

        logged: dict[str, Any] = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures}
        if page is not None:
            logged["report"] = wandb.Html(str(page), inject=False)
        if logged:
            self.run.log(logged)

    def log_files(self, bundles: Sequence[Bundle]) -> None:
        """Log a bundle as an artifact; files it shares with an earlier one are references into that, which is its lineage.

        Files are taken from the run folder as they stand (policy `immutable`), so that nothing is copied.
        """
        import wandb

        logged: dict[str, Any] = {}
        with self._own_staging():
            for bundle in bundles:
                name = re.sub(r"[^\w.-]+", "-", f"{bundle.name}-{self.config.model.name}-{bundle.about['dataset']}")
                about = {**json_types(bundle.about), "rests_on": {}}
                artifact = wandb.Artifact(name[:128], type=bundle.name, metadata=about)
                for file in bundle.files:
                    artifact.add_file(str(self.folder / file), name=file, policy="immutable", skip_cache=True)
                for other, files in bundle.rests_on.items():
                    # W&B resolves the id that an artifact has before it is logged; offline runs know no other.
                    source = logged[other]
                    for file in files:
                        artifact.add_reference(f"wandb-client-artifact://{source._client_id}/{file}", name=file)
                    artifact.metadata["rests_on"] = {other: {"name": source.name, "digest": source.digest}}
                logged[bundle.name] = artifact
                self.run.log_artifact(artifact)

    def finish(self, exit_code: int) -> None:
        """Finish the run, with its log beside it: it says why a run failed."""
        if self.run is not None:
            if (self.folder / "run.log").is_file():
                copy = Path(
                    shutil.copy(self.folder / "run.log", self.run.dir)
                )  # saving one from elsewhere is remarked on
                self.run.save(str(copy), base_path=str(copy.parent), policy="now")
            with self._own_staging():
                self.run.finish(exit_code=exit_code)

    def _own_staging(self) -> Any:
        """Return a block in which W&B stages files in the run folder: a home may be full, or not writable at all."""
        return _environment(WANDB_DATA_DIR=str(self.folder / "wandb" / "data"))


@contextmanager
def _environment(**wanted: str | None) -> Iterator[None]:
    """Set environment variables in the block, those that are not set already."""
    added = {name: value for name, value in wanted.items() if value is not None and name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _by_option(config: Config) -> dict[str, Any]:
    """Return a config as W&B shows it: a ranking and a range by the names of their options, with their parameters."""
    found: dict[str, Any] = json_types(config)
    for group in ("saliency", "range"):
        found[group] = {"name": option_of(config, group)} | {k: v for k, v in found[group].items() if k != "_target_"}
    return found


def _beside(taken: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give a config's entries; a group whose name a sweep has taken for its chosen option, key by key: `dataset.name`."""
    for key, value in config.items():
        if key not in taken:
            yield key, value
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", entry) for name, entry in value.items() if f"{key}.{name}" not in taken)


def _table(table: pd.DataFrame) -> Any:
    """Return a W&B table of the same rows: numbers, text or truth values per column, nulls where a value is missing.

    A column that holds an infinity (tau of the whole neuron) is text: in JSON there is no such number, and W&B would show
    nothing of the table.
    """
    import wandb

    kinds: list[type] = []
    for name in table.columns:
        if pd.api.types.is_bool_dtype(table[name]):
            kinds.append(bool)
        else:
            numeric = pd.api.types.is_numeric_dtype(table[name])
            kinds.append(float if numeric and not np.isinf(table[name].astype(float)).any() else str)
    columns = [
        [None if pd.isna(value) else kind(value) for value in table[name]]
        for name, kind in zip(table.columns, kinds, strict=True)
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return wandb.Table(columns=[str(name) for name in table.columns], data=rows, dtype=kinds, optional=True)
