"""Which finished runs the folders that someone names hold: the runs themselves, or those inside a multirun's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuronlens.errors import OutputError
from neuronlens.results.folder import RunFolder


def finished_runs(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the finished runs that folders are or hold, in their order, and a sentence for each that is left out.

    A folder that is no run stands for the runs right inside it, as those of a multirun or of one run name; jobs are in the
    order of their numbers.

    Raises:
        OutputError: a folder that is not there, or no finished run in any of them.
    """
    found: list[Path] = []
    left_out: list[str] = []
    for path in map(Path, paths):
        if not path.is_dir():
            there = "is a file" if path.is_file() else "is not there"
            raise OutputError(
                f"'{path}' is not the folder of a finished run: it {there}. Next: a folder below outputs/."
            )
        inside = [] if RunFolder(path).finished else sorted(filter(_is_run, path.iterdir()), key=_by_number)
        for folder in inside or [path]:
            if RunFolder(folder).finished:
                found.append(folder)
            else:
                left_out.append(f"Left out: {folder}, which is not the folder of a finished run.")
    if not found:
        raise OutputError(" ".join(left_out) + " Next: a run that ended, or run it again.")
    return found, left_out


def _is_run(path: Path) -> bool:
    """Return whether a folder is a run's, finished or not."""
    return path.is_dir() and (RunFolder(path).finished or (path / ".hydra").is_dir() or (path / "run.log").is_file())


def _by_number(path: Path) -> tuple[int, str]:
    return (int(path.name) if path.name.isdigit() else -1, path.name)
