"""The typed configuration of a run itself: where it computes, who follows it and where it writes."""

from __future__ import annotations

from dataclasses import dataclass, field

LOGGERS = ("wandb", "tensorboard", "csv")


@dataclass
class TrainerConfig:
    """Where the forwards run, whether they draw progress bars, and how much memory stored states take before a file does."""

    accelerator: str = "auto"
    progress: bool = True
    threads: int | None = None
    state_budget_gib: float = 4.0


@dataclass
class LoggerConfig:
    """Where results go besides the run folder: `wandb` (offline unless told otherwise), `tensorboard`, `csv`, or several
    joined by `+`.

    Left out, `group` is the run's name, or the multirun; `job_type` the experiment; `tags` the model, dataset, saliency
    and range.
    """

    kind: str = "wandb"
    offline: bool = True
    project: str = "neuronlens"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class PathsConfig:
    """Folders, relative to where the command is typed."""

    output_dir: str = "outputs"
    cache_dir: str = "outputs/cache"
