"""What a model or a dataset is called in run names, tables and trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

NAMELESS = ("local", "dataset", "model")
"""Names that say nothing: those of the options that leave the path open, and the defaults."""


def source_name(source: Any) -> str:
    """Return the name of a model or dataset: that of its folder or file where it is a local one without a name of its own.

    A path beside a wheel or hub id takes the place of both, and so does its name; a name beside a path alone is kept.

    Args:
        source: with the keys `name`, `path`, `wheel` and `hub`: a node of the config, composed or typed.

    >>> from neuronlens.config.schema_data import DatasetConfig
    >>> source_name(DatasetConfig(name="local", path="../data/emotions"))
    'emotions'
    >>> source_name(DatasetConfig(name="local", path="reviews.csv.gz")), source_name(DatasetConfig(name="x", path="a"))
    ('reviews', 'x')
    """
    path = source.path
    if not path or not (source.name in NAMELESS or source.wheel or source.hub):
        return str(source.name)
    place = Path(path).resolve()
    return place.name.partition(".")[0] if place.is_file() or _is_table(place) else place.name


def _is_table(place: Path) -> bool:
    """Return whether a path is a table's by its ending, for one that is not there yet."""
    return place.suffix.lower() in (".csv", ".tsv", ".tab", ".jsonl", ".parquet", ".gz", ".bz2")
