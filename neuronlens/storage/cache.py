"""Keeps a stage's arrays under its fingerprint: safetensors and a manifest, never pickle, never half a file."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError

from neuronlens.errors import OutputError, reason
from neuronlens.storage.checksums import damage, seal
from neuronlens.storage.files import StoredArrays, write_json, write_tensors

log = logging.getLogger(__name__)


def _say(sentence: str) -> None:
    log.warning("%s", sentence)
    print(f"neuronlens: {sentence}", file=sys.stderr)


class Store:
    """The cache `<root>/<stage>/<fingerprint>/`; a stage exists when its folder does, each file in it as it was written."""

    def __init__(self, root: Path, *, warn: Callable[[str], None] = _say) -> None:
        """Keep stages under `root`, which is made when something is first written.

        Args:
            warn: gets a sentence for each stage that was damaged and is made again.
        """
        self.root, self._warn = Path(root), warn

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
                f"Cannot write the cache {self.root}: {reason(error)}. Next: paths.cache_dir=<folder>."
            ) from error

    def folder(self, stage: str, key: str) -> Path:
        """Return where a stage with this fingerprint is kept, there or not."""
        return self.root / stage / key

    def found(self, stage: str, key: str) -> Path | None:
        """Return the folder of a kept stage, or None where it was not kept.

        Every file is held against its checksum first (`is_whole`); a damaged stage is not found, so it is made again.

        Raises:
            OutputError: a damaged folder cannot be taken away.
        """
        folder = self.folder(stage, key)
        return folder if folder.is_dir() and self.is_whole(folder) else None

    def is_whole(self, folder: Path) -> bool:
        """Return whether each file in a folder of the cache is as it was written, by its checksum.

        A folder with one that was changed, cut off or lost is taken away, and a sentence names the file.

        Raises:
            OutputError: a damaged folder cannot be taken away.
        """
        wrong = damage(folder)
        if wrong is None:
            return True
        self._warn(f"The cache {folder} is not as it was written: {wrong}. It is not used and made again.")
        try:
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".damaged.") as aside:
                folder.rename(Path(aside) / folder.name)  # gone at once, for other processes too
        except FileNotFoundError:
            pass  # one of them was faster
        except OSError as error:
            raise OutputError(
                f"Cannot take away the damaged cache {folder}: {reason(error)}. Next: paths.cache_dir=<folder>."
            ) from error
        return False

    def load(self, stage: str, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Return a stage's arrays and manifest, or None where it was not kept.

        Raises:
            OutputError: as `found` does.
        """
        found = self.opened(stage, key)
        return None if found is None else (dict(found[0]), found[1])

    def opened(self, stage: str, key: str) -> tuple[Mapping[str, NDArray[Any]], dict[str, Any]] | None:
        """Return the same as `load`, each array read when it is asked for.

        Raises:
            OutputError: as `found` does.
        """
        folder = self.found(stage, key)
        if folder is None:
            return None
        return StoredArrays(folder / "arrays.safetensors"), json.loads((folder / "manifest.json").read_text())

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
                f"Cannot write the cache {final.parent}: {reason(error)}. Next: paths.cache_dir=<folder>."
            ) from error
        try:
            yield temporary
            write_json(temporary / "manifest.json", {"stage": stage, "fingerprint": key, **manifest})
            seal(temporary)
            temporary.chmod(0o755)
            try:
                temporary.rename(final)
            except OSError:
                if self.found(stage, key) is None:
                    raise
        except (OSError, SafetensorError) as error:  # a full disk, in the words of whoever wrote
            raise OutputError(
                f"Cannot write the cache {final.parent}: {reason(error)}. Next: paths.cache_dir=<folder with room>."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
