"""The typed configuration of a run itself: where it computes, who follows it and where it writes."""

from __future__ import annotations

from dataclasses import dataclass

from neuronlens.config.containers import Joined, ListOf, Nullable
from neuronlens.config.keys import key
from neuronlens.config.rules import FILLED, OneOf, at_least, more_than

LOGGERS = ("auto", "wandb", "tensorboard", "csv")


@dataclass
class TrainerConfig:
    """Where the forwards run, whether they draw progress bars, and how much memory stored states take before a file does."""

    accelerator: str = key(
        "auto", "The device that computes; auto takes a GPU where there is one.", OneOf(("auto", "cpu", "gpu", "cuda"))
    )
    progress: bool = key(True, "Whether stages draw progress bars on a terminal.")
    threads: int | None = key(None, "CPU threads of torch.", Nullable(at_least(1, most=1024), "torch's own choice"))
    state_budget_gib: float = key(
        4.0, "Memory in GiB that stored states may take before they go to a file.", more_than(0, most=1_048_576)
    )


@dataclass
class LoggerConfig:
    """Where results go besides the run folder, which is whole without any of these."""

    kind: str = key(
        "auto",
        "Who follows the run; auto is wandb where it is installed, and nobody where it is not.",
        Joined(OneOf(LOGGERS)),
    )
    offline: bool = key(True, "Whether W&B writes to the run folder alone, so that no key and no network are needed.")
    project: str = key("neuronlens", "The W&B project.", FILLED)
    entity: str | None = key(None, "The W&B team or user; null takes the account's own.", FILLED)
    group: str | None = key(None, "The W&B group; null takes the run's name, or the multirun.", FILLED)
    job_type: str | None = key(None, "The W&B job type; null takes the experiment.", FILLED)
    tags: list[str] = key(
        [], "W&B tags; where there is none: model, dataset, saliency and range.", ListOf(FILLED, least=0)
    )


@dataclass
class PathsConfig:
    """Folders, relative to where the command is typed."""

    output_dir: str = key("outputs", "The folder that run folders are made in.", FILLED)
    cache_dir: str = key(
        "outputs/cache", "The folder that stages are kept in, to be found again by later runs.", FILLED
    )
