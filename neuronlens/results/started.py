"""What an unfinished run was started with, so that it can go on: `started.json`, until its manifest takes its place."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronlens.config.compose import restore
from neuronlens.config.schema import Config
from neuronlens.errors import OutputError, reason
from neuronlens.records import Job
from neuronlens.results import manifest
from neuronlens.results.formats import FORMAT
from neuronlens.storage.files import json_types, write_json

NAME = "started.json"


@dataclass(frozen=True)
class Started:
    """A run as it was started.

    Attributes:
        config: the whole of it, checked.
        directory: where the command was typed; the config's relative paths start there.
        job: which one of a multirun it is.
    """

    config: Config
    directory: Path
    job: Job | None


def write_started(folder: Path, config: Config, job: Job | None) -> None:
    """Write what a run is started with into its folder.

    Raises:
        OutputError: it cannot be written.
    """
    content = {"config": json_types(config), "directory": str(Path.cwd()), "format": FORMAT}
    write_json(folder / NAME, content | ({} if job is None else {"job": asdict(job)}))


def stored_config(folder: Path) -> Any:
    """Return the config that a run was started with in a folder, as JSON types; None where nothing of the kind is there."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content.get("config") if isinstance(content, dict) else None


def read_started(folder: Path) -> Started | None:
    """Return what the run in a folder was started with; None where it has come to its end.

    Raises:
        OutputError: no run was started here, or one by another version.
        ConfigError: the config does not hold, or names a class that nobody registered in this process.
    """
    if (folder / manifest.NAME).is_file():
        return None
    if (folder / "multirun.yaml").is_file():
        raise OutputError(
            f"'{folder}' holds a multirun, expected the folder of one run. Next: the command of the multirun again, which "
            f"finds all that was computed, or --resume {folder / '0'}."
        )
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
            raise ValueError("it holds no config")
        if content.get("format") != FORMAT:
            raise ValueError(f"it has format {content.get('format')!r}, and this version reads {FORMAT}")
        directory, job = Path(str(content["directory"])), _job(content.get("job"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(
            f"'{folder}' is not the folder of a run that can go on: {NAME}: {reason(error)}. Expected "
            "outputs/<run_name>/<date_time> of a run that was stopped. Next: the command of that run again."
        ) from error
    return Started(restore(content["config"]), directory, job)


def _job(stored: Any) -> Job | None:
    return None if stored is None else Job(int(stored["number"]), tuple(stored["overrides"]), str(stored["multirun"]))
