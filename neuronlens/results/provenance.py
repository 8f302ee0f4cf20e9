"""What a result rests on besides its config: versions, revision, machine, command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema import Config
from neuronlens.records import Job
from neuronlens.storage.files import json_types

LIBRARIES = ("torch", "transformers", "pytorch-lightning", "scikit-learn", "numpy", "datasets", "hydra-core", "wandb")


class Provenance(TypedDict):
    """Fields of a manifest that describe the process rather than the run."""

    versions: dict[str, str]
    git_revision: str | None
    machine: str
    command: tuple[str, ...]


def provenance() -> Provenance:
    """Return the versions, the git revision, the machine and the command line of this process."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return {
        "versions": versions,
        "git_revision": _git_revision(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "command": tuple(sys.argv),
    }


def _git_revision() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def run_id(config: Config, folder: Path, job: Job | None = None) -> str:
    """Return what a run is called wherever results of several are read together: name, date, job and a short fingerprint.

    The fingerprint is of the config but for where files lie and how the run is shown, so that the same run has the same id,
    and with it the same results to the byte, in any place.

    Args:
        folder: the run's, named after the time when it began; of a multirun's job, after its number.
        job: which one of a multirun it is.
    """
    when = folder.name if job is None else f"{job.multirun}-{job.number}"
    shown = ("paths", "logger", "trainer", "quiet", "overwrite")
    asked = {name: value for name, value in json_types(config).items() if name not in shown}
    asked["sweep"] = {name: value for name, value in asked["sweep"].items() if name != "workers"}
    return "-".join([config.run_name, when, fingerprint(asked)[:8]])
