"""Which files a local dataset is made of: one table, a folder with a file per split, or a folder of tables of any names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuronlens.data.files import KINDS, NAMES, kind_of, split_files
from neuronlens.errors import DataError

OPTION = "dataset.path"


def local_files(place: Path, splits: Sequence[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of each source split, and what is to be known of them in sentences.

    A single file, or a folder in which no file is named after a split, is all `train`: the test split is then drawn from it.

    Args:
        place: a table or a folder of tables.
        splits: the source splits, such as train, validation, test.

    Raises:
        DataError: it is not there, no table, a folder without one, or a folder with two files of one split.
    """
    if place.is_file():
        if kind_of(place) is None:
            raise DataError(f"{OPTION} '{place}' is no table by its name. Expected {_endings()}, each also with .gz.")
        return {splits[0]: [place]}, [f"{place.name} is one file: fit, select and test samples are drawn from it."]
    if not place.exists():
        raise DataError(f"{OPTION} '{place}' is not there. Expected a table ({_endings()}) or a folder of such.")
    tables = sorted(path for path in place.iterdir() if path.is_file() and kind_of(path) is not None)
    named = [name for split in splits for name in NAMES.get(split, (split,))]
    if not tables:
        others = ", ".join(sorted(path.name for path in place.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{OPTION} '{place}' holds no table, but {others}. Expected {_endings()}, as in {splits[0]}.csv."
        )
    if not any(path.name.partition(".")[0].lower() in named for path in tables):
        together = " and ".join([", ".join(path.name for path in tables[:-1])] * (len(tables) > 1) + [tables[-1].name])
        what = f"{len(tables)} files" if len(tables) > 6 else together
        return {splits[0]: tables}, [
            f"No file in {place} is named after a split (train, validation, test): fit, select and test samples are drawn from "
            f"{what}."
        ]
    files, ignored = split_files(place, splits, OPTION)
    several = f"Not read, for no split has that name: {', '.join(ignored)}. Known are train, validation and test."
    return {split: [path] for split, path in files.items()}, [several] if ignored else []


def _endings() -> str:
    return ", ".join(KINDS)
