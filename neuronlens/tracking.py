"""Sends a run to Weights & Biases; offline unless told otherwise, so that no key and no network are needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuronlens.config import plain
from neuronlens.records import ResultTable
from neuronlens.schema import Config

CHART_MEASURES = (
    "concept_accuracy_drop",
    "complement_accuracy_drop",
    "complement_confidence_drop",
    "selectivity",
    "kl",
)


class Tracker:
    """One W&B run, or nothing where `logger=csv`. A context manager: the run is finished even after a failure."""

    def __init__(self, config: Config, folder: Path) -> None:
        """Prepare a tracker whose files go below the run folder."""
        self.config, self.folder = config, folder
        self.run: Any = None

    def __enter__(self) -> Tracker:
        """Start the W&B run where one is asked for."""
        logger = self.config.logger
        if logger.kind == "wandb":
            import wandb

            self.run = wandb.init(
                mode="offline" if logger.offline else "online",
                dir=str(self.folder),
                project=logger.project,
                entity=logger.entity,
                group=logger.group,
                job_type=logger.job_type,
                tags=list(logger.tags),
                name=f"{self.config.run_name}/{self.folder.name}",
                config=plain(self.config),
                settings=wandb.Settings(silent=not os.environ.get("WANDB_VERBOSE"), console="off"),
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Finish the run, as failed where the block raised."""
        if self.run is not None:
            self.run.finish(exit_code=1 if error else 0)

    def log_timings(self, timings: Mapping[str, float]) -> None:
        """Record seconds per stage."""
        if self.run is not None:
            self.run.summary.update({f"timing/{stage}_s": seconds for stage, seconds in timings.items()})

    def log_results(self, table: ResultTable, summary: Mapping[str, Any], figures: list[Path]) -> None:
        """Record the results table, the trade-off as a chart over means, the figures, and the summary's numbers."""
        if self.run is None:
            return
        import wandb

        rows = table.rows.astype(object).where(table.rows.notna(), None)
        edited = table.rows[table.rows["edit"] != "none"]
        knobs = ["layers", "site", "saliency", "edit", "gate", "range", "tau", "control", "strength", "top_fraction"]
        means = edited.groupby(knobs, dropna=False)[list(CHART_MEASURES)].mean().reset_index()
        means["method"] = [
            f"{row.edit}, {row.gate}" + (f" tau {row.tau:g}" if row.tau == row.tau else "")
            for row in means.itertuples()
        ]
        means = means.astype(object).where(means.notna(), None)
        chart = wandb.Table(dataframe=means)
        axes = ("concept_accuracy_drop", "complement_accuracy_drop")
        self.run.log(
            {
                "results": wandb.Table(dataframe=rows),
                "tradeoff_means": chart,
                "tradeoff": wandb.plot.scatter(chart, *axes, title="Erasure against collateral, mean over concepts"),
                **{f"figures/{path.stem}": wandb.Image(str(path)) for path in figures},
            }
        )
        self.run.summary.update(plain(summary))
