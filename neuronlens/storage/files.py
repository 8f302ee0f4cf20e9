"""Files that are whole or not there: written beside, synced, renamed; never pickle."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save

from neuronlens.config.fingerprint import plain
from neuronlens.errors import OutputError, reason


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the whole new one: beside it, fsync, rename.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {reason(error)}. Next: paths.output_dir=<a writable folder>."
        ) from error


def write_tensors(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as one safetensors file, atomically."""
    write_atomically(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return a safetensors file's arrays by name.

    Raises:
        OutputError: missing, or not a whole safetensors file.
    """
    with _readable(path):
        return load_file(path)


class StoredArrays(Mapping[str, NDArray[Any]]):
    """A safetensors file's arrays by name, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OutputError: missing, or not a whole safetensors file.
        """
        self.path = path
        with _readable(path):
            self.file: Any = safe_open(path, framework="numpy")
            self.names = list(self.file.keys())

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return one array, read from the file."""
        if name not in self.names:
            raise KeyError(name)
        with _readable(self.path):
            found: NDArray[Any] = self.file.get_tensor(name)
            return found

    def __iter__(self) -> Iterator[str]:
        """Give the arrays' names."""
        return iter(self.names)

    def __len__(self) -> int:
        """Return how many arrays there are."""
        return len(self.names)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # safetensors raises its own type for a broken header
        raise OutputError(f"Cannot read {path}: {reason(error)}. Next: copy its folder again, or run again.") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, atomically; dataclasses and arrays are unfolded."""
    text = json.dumps(json_types(content), indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def json_types(content: Any) -> Any:
    """Return `content` as it can stand in JSON, which has no word for NaN (null here) and infinity (text here).

    >>> json_types({"tau": (2.5, float("inf"), float("nan"))})
    {'tau': [2.5, 'inf', None]}
    """
    return _finite(plain(content))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list) else value
