"""Tables of a folder, a wheel or a hub id through `datasets`, and its many exceptions as one sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuronlens.errors import DataError
from neuronlens.storage.cache import Store

READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".bz2": "csv",
    ".gz": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
}


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
    except Exception as error:  # the readers raise what they like
        reason = re.sub(r"\s+", " ", str(error.__cause__ or error))[:300]
        if "corresponds to no data" in reason:
            raise DataError(f"Dataset '{where}' is empty: no row in any of its files.") from error
        hint = f" Next: check the network, or {option}=<folder> for a local copy." if hub else ""
        raise DataError(f"Cannot read dataset '{where}': {reason}.{hint}") from error


def hub_splits(name: str, subset: str | None, revision: str | None, store: Store) -> Mapping[str, Any]:
    """Return a hub dataset's splits; call it within `reading`."""
    return _library().load_dataset(name, subset, revision=revision, cache_dir=str(store.root / "datasets"))


def hub_stream(name: str, subset: str | None, split: str, revision: str | None) -> Any:
    """Return one split of a hub dataset as a stream, of which no more is fetched than is read; call it within `reading`."""
    return _library().load_dataset(name, subset, split=split, revision=revision, streaming=True)


def file_splits(files: Mapping[str, Path], read_options: Mapping[str, Any], store: Store) -> Mapping[str, Any]:
    """Return the splits of files of one kind and with the same columns; call it within `reading`.

    Args:
        read_options: for the reader, as pandas calls them; tabs separate .tsv and .tab files by themselves.

    Raises:
        DataError: files of several kinds.
    """
    reader, options = _reader(files.values()), dict(read_options)
    if reader == "csv" and "sep" not in options and all(path.suffix in (".tsv", ".tab") for path in files.values()):
        options["sep"] = "\t"
    data_files = {split: str(path) for split, path in files.items()}
    return _library().load_dataset(reader, data_files=data_files, cache_dir=str(store.root / "datasets"), **options)


def split_files(folder: Path, splits: Sequence[str], option: str) -> dict[str, Path]:
    """Return the file of each split that a local folder holds.

    Args:
        option: the config entry that named the folder.

    Raises:
        DataError: not a folder, no file of any split, or two of one.
    """
    if not folder.is_dir():
        raise DataError(f"{option} '{folder}' is not a folder. Expected one with {splits[0]}.csv or the like.")
    files: dict[str, Path] = {}
    for split in splits:
        found = sorted(path for path in folder.glob(f"{split}.*") if path.suffix in READERS)
        if len(found) > 1:
            raise DataError(f"{folder} holds {' and '.join(p.name for p in found)}. Expected one file per split.")
        if found:
            files[split] = found[0]
    if not files:
        wanted = " or ".join([", ".join(splits[:-1])] * (len(splits) > 1) + [splits[-1]])
        raise DataError(f"{folder} holds no {wanted} file. Expected .csv, .tsv, .parquet or .jsonl.")
    return files


def _reader(paths: Iterable[Path]) -> str:
    kinds = sorted({READERS[path.suffix] for path in paths})
    if len(kinds) > 1:
        raise DataError(f"The files of one dataset are of several kinds: {', '.join(kinds)}. Expected one.")
    return kinds[0]


def _library() -> Any:
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "false")  # it would ask the network, for local files too
    import datasets  # costs three seconds: only when something is read

    datasets.disable_progress_bars()
    return datasets
