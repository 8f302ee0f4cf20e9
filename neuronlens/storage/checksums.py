"""Checksums of a folder's files: written once these are whole, and held against them before any of them is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from neuronlens.errors import reason
from neuronlens.storage.files import write_json

NAME = "checksums.json"
"""Holds bytes and SHA-256 per file, by its path in the folder; itself it holds no place in it."""


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex; an idle core reads 1 to 2 GB a second."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Write the checksums of files in a folder.

    Args:
        files: those in it that are held against them later; None for all.

    Raises:
        OutputError: they cannot be written.
    """
    chosen = folder.rglob("*") if files is None else files
    found = {path.relative_to(folder).as_posix(): path for path in chosen if path.is_file() and path.name != NAME}
    content = {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in found.items()}
    write_json(folder / NAME, content)


def is_sealed(folder: Path) -> bool:
    """Return whether a folder has checksums, good ones or not."""
    return (folder / NAME).is_file()


def damage(folder: Path, *, may_lack: Collection[str] = ()) -> str | None:
    """Return what is wrong with a sealed folder, its first such file named; None where each is as it was written.

    Args:
        may_lack: files that may have been taken away, because who reads them names their absence.
    """
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{NAME} is missing"
    except (OSError, ValueError, RecursionError):
        return f"{NAME} cannot be read"
    if not isinstance(content, dict) or not content:
        return f"{NAME} lists no file"
    for name, known in content.items():
        gone = name in may_lack and not (folder / name).exists()
        found = None if gone else _difference(folder, name, known)
        if found is not None:
            return found
    return None


def _difference(folder: Path, name: str, known: Any) -> str | None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or not isinstance(known, dict):
        return f"{NAME} was changed"
    path = folder / inside
    try:
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != known.get("bytes"):
            return f"{name} has {size:,} bytes and was written with {known.get('bytes')}"
        if sha256_of(path) != known.get("sha256"):
            return f"{name} was changed"
    except (OSError, ValueError) as error:  # a name that no file can have
        return f"{name} cannot be read: {reason(error)}"
    return None
