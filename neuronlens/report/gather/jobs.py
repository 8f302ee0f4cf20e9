"""The jobs of a multirun: what each one's own values are, and whether it came to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from neuronlens.config.jobs import split_jobs
from neuronlens.errors import NeuronLensError, OutputError, reason
from neuronlens.results.failures import read_failure
from neuronlens.results.folder import RunFolder

TYPED = "multirun.yaml"


@dataclass(frozen=True)
class GatheredJob:
    """One job of a multirun.

    Attributes:
        number: its place, from 0.
        values: what it has of its own, by the key that was swept.
        folder: its run folder, there or not.
        failed: why it has no results; None where it has.
    """

    number: int
    values: Mapping[str, str]
    folder: Path
    failed: str | None


def jobs_of(multirun: Path) -> list[GatheredJob]:
    """Return every job of a multirun, those that failed or were never started too.

    Raises:
        OutputError: not the folder of a multirun.
    """
    overrides = _typed(multirun)
    folders, typed = _folders(multirun), set(overrides)
    found = []
    for number, own in enumerate(split_jobs(overrides)):
        values = dict(override.lstrip("+").split("=", 1) for override in own if override not in typed)
        folder = folders.get(number, multirun / str(number))
        found.append(GatheredJob(number, values, folder, _failure(multirun, number, folder)))
    return found


def _typed(multirun: Path) -> list[str]:
    """Return the overrides of a multirun's command."""
    try:
        content = yaml.safe_load((multirun / TYPED).read_text(encoding="utf-8"))
        return [str(override) for override in content["hydra"]["overrides"]["task"]]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise OutputError(
            f"'{multirun}' is not the folder of a multirun: {TYPED}: {reason(error)}. Expected outputs/multirun/<date_time>. "
            "Next: neuronlens compare for single runs."
        ) from error


def _folders(multirun: Path) -> dict[int, Path]:
    """Return where each job has run, by its number: `hydra.sweep.subdir` may name folders after anything."""
    found = {}
    for record in sorted(multirun.glob("**/.hydra/hydra.yaml")):
        try:
            number = int(yaml.safe_load(record.read_text(encoding="utf-8"))["hydra"]["job"]["num"])
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            continue
        found[number] = record.parent.parent
    return found


def _failure(multirun: Path, number: int, folder: Path) -> str | None:
    run = RunFolder(folder)
    if run.finished:
        try:
            run.read_results()
        except NeuronLensError as error:
            return str(error)
        return None
    known = read_failure(multirun, number)
    if known is not None:
        return known
    if not folder.is_dir():
        return "It was not started."
    return f"It has not come to its end: it runs, or was killed. Next: neuronlens run --resume {folder}"
