"""Keeps a stage's arrays under its fingerprint: safetensors and a manifest, never pickle, never half a file."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save

from neuronlens.config import plain
from neuronlens.errors import OutputError


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
        raise OutputError(f"Cannot write {path}: {error}. Next: paths.output_dir=<a writable folder>.") from error


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


class _Arrays(Mapping[str, NDArray[Any]]):
    """A safetensors file's arrays by name, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _readable(path):
            self.file: Any = safe_open(path, framework="numpy")
            self.names = list(self.file.keys())

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.names:
            raise KeyError(name)
        with _readable(self.path):
            found: NDArray[Any] = self.file.get_tensor(name)
            return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # safetensors raises its own type for a broken header
        raise OutputError(f"Cannot read {path}: {error}. Next: delete it; it will be computed again.") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, atomically; dataclasses and arrays are unfolded."""
    text = json.dumps(_without_nan(plain(content)), indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def _without_nan(value: Any) -> Any:
    """Return JSON types with null for NaN, which JSON has no word for; infinity (a tau) is written as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    return [_without_nan(entry) for entry in value] if isinstance(value, list) else value


class Store:
    """The cache `<root>/<stage>/<fingerprint>/`; a stage exists when its folder does."""

    def __init__(self, root: Path) -> None:
        """Keep stages under `root`, which is made when something is first written."""
        self.root = Path(root)

    def claim(self) -> None:
        """Make sure that the cache can be written, before anything expensive.

        Raises:
            OutputError: it cannot.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()
        except OSError as error:
            raise OutputError(
                f"Cannot write the cache {self.root}: {error}. Next: paths.cache_dir=<folder>."
            ) from error

    def folder(self, stage: str, key: str) -> Path:
        """Return where a stage with this fingerprint is kept, there or not."""
        return self.root / stage / key

    def has(self, stage: str, key: str) -> bool:
        """Return whether the whole stage is kept."""
        return (self.folder(stage, key) / "manifest.json").is_file()

    def load(self, stage: str, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return a stage's arrays and manifest, or None where it was not kept.

        Raises:
            OutputError: kept, but not readable.
        """
        if not self.has(stage, key):
            return None
        folder = self.folder(stage, key)
        return read_tensors(folder / "arrays.safetensors"), json.loads((folder / "manifest.json").read_text())

    def opened(self, stage: str, key: str) -> tuple[Mapping[str, NDArray[Any]], dict[str, Any]] | None:
        """Return the same as `load`, each array read when it is asked for.

        Raises:
            OutputError: kept, but not readable.
        """
        if not self.has(stage, key):
            return None
        folder = self.folder(stage, key)
        return _Arrays(folder / "arrays.safetensors"), json.loads((folder / "manifest.json").read_text())

    def save(self, stage: str, key: str, arrays: Mapping[str, NDArray[Any]], manifest: Mapping[str, Any]) -> None:
        """Keep a stage's arrays, whole or not at all."""
        with self.writing(stage, key, manifest) as folder:
            write_tensors(folder / "arrays.safetensors", arrays)

    @contextmanager
    def writing(self, stage: str, key: str, manifest: Mapping[str, Any]) -> Iterator[Path]:
        """Give a folder to fill, and put it in place under the fingerprint once filled.

        Where another process was faster, its folder stays: equal fingerprints, equal content.

        Raises:
            OutputError: the cache cannot be written.
        """
        final = self.folder(stage, key)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{key}."))
        except OSError as error:
            raise OutputError(
                f"Cannot write the cache {final.parent}: {error}. Next: paths.cache_dir=<folder>."
            ) from error
        try:
            yield temporary
            write_json(temporary / "manifest.json", {"stage": stage, "fingerprint": key, **manifest})
            temporary.chmod(0o755)
            try:
                temporary.rename(final)
            except OSError:
                if not self.has(stage, key):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
