"""Keeps a stage's arrays under its fingerprint: safetensors and a manifest, never pickle, never half a file."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from neuronlens.errors import OutputError
from neuronlens.storage.checksums import broken, checksums
from neuronlens.storage.files import StoredArrays, json_types, write_json, write_tensors

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
OF_ITSELF = "checksum"
"""The entry of a manifest that is the hash of its others."""


def _of(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _wrong(folder: Path) -> str | None:
    """Return what is wrong with a kept stage; a stage of an older version gets the checksums that it lacks."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{MANIFEST} is gone or no JSON"
    if not isinstance(content, dict) or content.get("fingerprint") != folder.name:
        return f"{MANIFEST} is not that of this stage"
    if not isinstance(content.get("checksums"), dict):
        content["checksums"] = checksums(folder, MANIFEST)
        with suppress(OutputError):
            write_json(folder / MANIFEST, {**content, OF_ITSELF: _of(content)})
        return None
    if content.pop(OF_ITSELF, None) != _of(content):
        return f"{MANIFEST} is not what was written"
    return broken(folder, content["checksums"])


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
        """Return whether the whole stage is kept, every file as it was written.

        One that is not is taken away with a line in the log, so that it is computed again.
        """
        folder = self.folder(stage, key)
        if not folder.is_dir():
            return False
        reason = _wrong(folder)
        if reason is not None:
            log.warning("The cached stage '%s' (%s) is broken: %s. It is computed again.", stage, key, reason)
            shutil.rmtree(folder, ignore_errors=True)
        return reason is None

    def load(self, stage: str, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return a stage's arrays and manifest, or None where it was not kept.

        Raises:
            OutputError: kept, but not readable.
        """
        found = self.opened(stage, key)
        return None if found is None else (dict(found[0]), found[1])

    def opened(self, stage: str, key: str) -> tuple[Mapping[str, NDArray[Any]], dict[str, Any]] | None:
        """Return the same as `load`, each array read when it is asked for.

        Raises:
            OutputError: kept, but not readable.
        """
        if not self.has(stage, key):
            return None
        folder = self.folder(stage, key)
        return StoredArrays(folder / "arrays.safetensors"), json.loads((folder / MANIFEST).read_text())

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
            kept = {"stage": stage, "fingerprint": key, "checksums": checksums(temporary, MANIFEST)}
            content = json_types({**manifest, **kept})
            write_json(temporary / MANIFEST, {**content, OF_ITSELF: _of(content)})
            temporary.chmod(0o755)
            try:
                temporary.rename(final)
            except OSError:
                if not self.has(stage, key):
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
