"""Tables of a hub id through `datasets`, and its many exceptions as one sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuronlens.errors import DataError
from neuronlens.storage import checksums
from neuronlens.storage.cache import Store


@contextmanager
def reading(where: str, *, hub: bool, option: str) -> Iterator[None]:
    """Turn whatever `datasets` raises in the block into one sentence.

    Args:
        where: path, wheel or hub id, as the user knows it.
        hub: whether the network may be at fault.
        option: the config entry that takes a local copy instead.

    Raises:
        DataError: in the place of anything that is not one already.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the library raises what it likes
        reason = re.sub(r"\s+", " ", str(error.__cause__ or error))[:300]
        if "corresponds to no data" in reason:
            raise DataError(f"Dataset '{where}' is empty: no row in any of its files.") from error
        hint = f" Next: check the network, or {option}=<folder> for a local copy." if hub else ""
        raise DataError(f"Cannot read dataset '{where}': {reason}.{hint}") from error


def hub_splits(name: str, subset: str | None, revision: str | None, store: Store) -> Mapping[str, Any]:
    """Return a hub dataset's splits; call it within `reading`.

    What `datasets` keeps in the cache gets checksums, and is held against them before it is read again.
    """
    root = store.root / "datasets"
    for sealed in sorted(root.rglob(checksums.NAME)):
        store.is_whole(sealed.parent)
    loaded: Mapping[str, Any] = _library().load_dataset(name, subset, revision=revision, cache_dir=str(root))
    files = [Path(file["filename"]) for part in loaded.values() for file in part.cache_files]
    for folder in {file.parent for file in files}:
        if not checksums.is_sealed(folder):
            checksums.seal(folder)
    return loaded


def hub_stream(name: str, subset: str | None, split: str, revision: str | None) -> Any:
    """Return one split of a hub dataset as a stream, of which no more is fetched than is read; call it within `reading`."""
    return _library().load_dataset(name, subset, split=split, revision=revision, streaming=True)


def _library() -> Any:
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "false")  # it would ask the network, for local files too
    import datasets  # costs three seconds: only when something is read

    datasets.disable_progress_bars()
    return datasets
