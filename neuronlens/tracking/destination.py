"""What a place that follows runs must be able to take, and the records it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from neuronlens.config.nodes import option_of
from neuronlens.config.schema import Config
from neuronlens.records import Job
from neuronlens.tracking.scalars import Step

Warn = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class Labels:
    """What runs are found by.

    Attributes:
        name: the run's own.
        group: of runs that belong together: a multirun's jobs, or runs of one name.
        job_type: what kind of run it is: its experiment.
        tags: at most 64 characters each, W&B's limit.
    """

    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]


def labels_of(config: Config, folder: Path, job: Job | None = None) -> Labels:
    """Return a run's labels: the config's own, and where it gives none what the run is."""
    logger = config.logger
    own = (config.model.name, config.dataset.name, option_of(config, "saliency"), option_of(config, "range"))
    name = f"{config.run_name}/{folder.name}" if job is None else f"{config.run_name}/{job}"
    tags = logger.tags or [tag[:64] for tag in dict.fromkeys(own) if tag]
    group = logger.group or (job.multirun if job is not None else config.run_name)
    return Labels(name, group, logger.job_type or "run", tuple(tags))


@dataclass(frozen=True)
class Bundle:
    """Files of the run folder that belong together.

    Attributes:
        name: what they are: `ranges`, `lens` or `results`.
        files: paths below the run folder, those that are there.
        rests_on: a bundle logged before, and which of its files belong to this one too.
        about: what they were made from: fingerprints, names.
    """

    name: str
    files: tuple[str, ...]
    about: Mapping[str, Any]
    rests_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Destination(Protocol):
    """A place that follows a run while it goes on, and takes its results at the end."""

    notes: dict[str, str]
    """What to open or type to see the run there, and what that is good for."""

    def start(self) -> None:
        """Begin to follow the run."""

    def log_step(self, step: Step) -> None:
        """Take numbers at one point of an axis."""

    def log_message(self, message: str) -> None:
        """Take the run's message: what it shows, in a sentence."""

    def log_flat(self, values: Mapping[str, float], chosen: Mapping[str, float]) -> None:
        """Take the run's numbers: all of them, and the few by which runs are sorted and compared."""

    def log_tables(self, tables: Mapping[str, pd.DataFrame], means: pd.DataFrame) -> None:
        """Take tables by name, and the trade-off (`scalars.tradeoff`) to draw as charts."""

    def log_figures(self, figures: Sequence[Path], page: Path | None) -> None:
        """Take images, and the report page where there is one."""

    def log_files(self, bundles: Sequence[Bundle]) -> None:
        """Take files to keep, each bundle after those that it rests on."""

    def finish(self, exit_code: int) -> None:
        """End the run: 0 done, 1 failed, 130 interrupted."""
