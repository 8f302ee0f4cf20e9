"""Run folders that belong to one command, and that leave with it where it came to nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from neuronlens.config.schema import Config
from neuronlens.errors import OutputError, file_name

TABLES = (
    *("results", "doses", "matched", "comparison", "methods", "budget", "budget_comparison", "budget_methods"),
    *("operating_points", "general", "diagnostics", "overlap", "detectors"),
)
FOLLOWED = ("started.json", "figures", "metrics.csv", "tensorboard", "wandb")
"""What a run makes before it has results; of a run that was refused it may be replaced."""
OURS = (
    *("manifest.json", "checksums.json"),
    *(f"{name}.parquet" for name in (*TABLES, "samples")),
    *(f"{name}.safetensors" for name in ("ranking", "ranges", "activations", "neurons", "weights")),
    *("results.csv", "base.json", "summary.json", "ranges.json", "table.md", "report.html"),
    *FOLLOWED,
)
"""Everything that a run writes into its folder, besides Hydra's record and the log."""
MOST = 1000
"""Commands that may start in one second."""


def own_folder(overrides: Sequence[str], config: Config, *, multirun: bool) -> list[str]:
    """Return the override of a folder that is a command's alone, made here; none where the user names one.

    Two commands of one second would share the folder that Hydra names after the time.

    Raises:
        OutputError: it cannot be made.
    """
    key = "hydra.sweep.dir" if multirun else "hydra.run.dir"
    if any(override.lstrip("+").startswith(f"{key}=") for override in overrides):
        return []
    folder = claimed(Path(config.paths.output_dir) / ("multirun" if multirun else file_name(config.run_name)))
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [f"{key}='{quoted}'"]


def claimed(above: Path, at: datetime | None = None) -> Path:
    """Return a new folder that is named after the time and made here, so that no other command has it.

    Args:
        above: the folder it is made in, made too where it is not there.
        at: the time; now where none is given.

    Raises:
        OutputError: it cannot be made.
    """
    name = (at or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
    try:
        above.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST):
            folder = above / (name if number == 1 else f"{name}_{number}")
            with suppress(FileExistsError):
                folder.mkdir()  # fails where another command was faster
                return folder
    except OSError as error:
        raise OutputError(
            f"Cannot write the run folder below {above}: {error.strerror}. Next: paths.output_dir=<a writable folder>."
        ) from error
    raise OutputError(f"{above} holds {MOST} folders of this second. Next: another run_name.")


def given_up(folder: Path) -> None:
    """Take away the folder of a run that was refused before it had results, and the folder above where that is empty.

    A folder with files that no run writes, or with results, stays.
    """
    known = {".hydra", "run.log", *OURS}
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there - known or {"results.parquet", "manifest.json"} & there:
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()
