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
from typing import Any, NamedTuple

from numpy.typing import NDArray
from safetensors import SafetensorError

from neuronlens.config.fingerprint import FORMAT_VERSION
from neuronlens.errors import OutputError, reason
from neuronlens.storage.checksums import damage, seal
from neuronlens.storage.claims import claim
from neuronlens.storage.files import StoredArrays, write_json, write_tensors

log = logging.getLogger(__name__)


def _say(sentence: str) -> None:
    log.warning("%s", sentence)
    print(f"neuronlens: {sentence}", file=sys.stderr)


class Claimed(NamedTuple):
    """What a process that asked for a stage has: its folder where it is kept, and whether it may be made here where not."""

    kept: Path | None
    ours: bool


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
        wrong = damage(folder) or _stranger(folder)
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

    @contextmanager
    def claimed(self, stage: str, key: str, *, wait: bool = True) -> Iterator[Claimed]:
        """Hold the right to make a stage in the block, and give what is kept of it by then.

        Of several processes one makes a stage that is not there, and the others wait for it; where its owner died, the next
        one takes over. A stage that is there is nobody's to make, so nobody waits for it.

        Args:
            wait: whether to wait for an owner; where it is off and another process makes the stage, it is not `ours`.

        Raises:
            OutputError: as `found` does, or the claim cannot be written.
        """
        kept = self.found(stage, key)
        if kept is not None:
            yield Claimed(kept, ours=True)
            return
        with claim(self.root / "claims" / f"{stage}-{key}.lock", wait=wait, warn=self._warn) as ours:
            kept = self.found(stage, key)
            if ours and kept is None:  # whoever held the claim before and left a half-filled folder is dead
                for left in self.folder(stage, key).parent.glob(f".{key}.*"):
                    shutil.rmtree(left, ignore_errors=True)
            yield Claimed(kept, ours=ours)

    def forget(self, stage: str, key: str) -> None:
        """Take a stage away, if it is there: what it was kept for is done."""
        shutil.rmtree(self.folder(stage, key), ignore_errors=True)

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
            write_json(
                temporary / "manifest.json", {**manifest, "stage": stage, "fingerprint": key, "format": FORMAT_VERSION}
            )
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


def _stranger(folder: Path) -> str | None:
    """Return what is wrong with a whole folder that does not belong where it stands; None where it does."""
    try:
        content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # written by `seal` alone, with no manifest to hold it against
    if not isinstance(content, dict):
        return "manifest.json holds no JSON object"
    if content.get("format", 1) != FORMAT_VERSION:  # the first one had no number
        return f"manifest.json has format {content.get('format', 1)!r}, and this version reads {FORMAT_VERSION}"
    if content.get("fingerprint", folder.name) != folder.name:
        return f"manifest.json is that of {content['fingerprint']}"
    return None
