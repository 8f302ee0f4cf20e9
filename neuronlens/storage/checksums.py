"""SHA-256 of the files of a folder, written beside them and held against them before they are used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

_seen: dict[tuple[str, int, int, int], str] = {}
"""Hash of each file that this process has read, known again by its path, size, time and number on the disk."""


def checksum(path: Path) -> str:
    """Return a file's SHA-256 in hex; read once per process, unless the file changed."""
    found = path.stat()
    key = (str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino)
    if key not in _seen:
        with path.open("rb") as file:
            _seen[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _seen[key]


def checksums(folder: Path, but: str) -> dict[str, str]:
    """Return the hash of every file below a folder by its name there.

    Args:
        but: the name of the file that the hashes are written into.
    """
    files = sorted(Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return {
        path.relative_to(folder).as_posix(): checksum(path)
        for path in files
        if path.relative_to(folder).as_posix() != but
    }


def broken(folder: Path, kept: Mapping[str, str]) -> str | None:
    """Return what is wrong with a folder: the first file that is gone or not what it was; None where all agree."""
    for name, expected in kept.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is gone"
        if checksum(path) != expected:
            return f"{name} is not what was written"
    return None
