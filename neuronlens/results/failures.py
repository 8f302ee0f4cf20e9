"""Why jobs of a multirun failed: a file for each, beside the jobs' folders, whoever launched them."""

from __future__ import annotations

import json
from pathlib import Path

from neuronlens.errors import NeuronLensError
from neuronlens.records import Job
from neuronlens.storage.files import write_json

FOLDER = "failures"


def write_failure(multirun: Path, job: Job, error: Exception) -> str:
    """Write why a job failed into the folder of its multirun, and return the sentence."""
    own = isinstance(error, NeuronLensError)
    why = str(error) if own else " ".join(f"{type(error).__name__}: {error}".split())[:500]
    write_json(multirun / FOLDER / f"{job.number}.json", {"overrides": job.overrides, "reason": why})
    return why


def read_failure(multirun: Path, number: int) -> str | None:
    """Return why a job failed; None where it wrote nothing of the kind."""
    try:
        return str(json.loads((multirun / FOLDER / f"{number}.json").read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_failure(multirun: Path, number: int) -> None:
    """Take away why a job failed before: it is run again."""
    (multirun / FOLDER / f"{number}.json").unlink(missing_ok=True)
