"""Prose that perplexity is measured on: documents with stable ids, none of them one that something was fitted on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema_evaluation import DocumentsConfig
from neuronlens.data.columns import example_id
from neuronlens.data.concepts import draw_place
from neuronlens.data.files import READERS, read_table
from neuronlens.data.source import file_of_wheel, on_the_hub, place_of
from neuronlens.data.tables import hub_stream, reading
from neuronlens.errors import DataError, unknown
from neuronlens.records import ConceptDataset
from neuronlens.storage.cache import Store

log = logging.getLogger(__name__)

FITTED_SPLITS = ("train", "fit", "select")
"""What a model, a replacement mean, a range or an operating point rests on."""
STREAMED_PER_DRAWN = 10
"""Of a hub set so many times `limit` documents are fetched, its first ones, and `limit` of them drawn."""
OPTION = "evaluation.general.documents"


@dataclass(frozen=True)
class DocumentSet:
    """Documents, each once.

    Attributes:
        ids: `data.dataset.example_id` of the stripped text, so a document is known again in a dataset of concepts.
        texts: stripped, none empty.
        dropped: why documents were left out -> how many.
        fingerprint: of the ids.
    """

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    dropped: Mapping[str, int]
    fingerprint: str


def load_documents(config: DocumentsConfig, store: Store, data: ConceptDataset | None = None) -> DocumentSet:
    """Return the configured documents, in the order of their draw: that of a hash of seed and text.

    A text that stands twice counts once. Documents whose id is among those of the train, fit or select split of `data` are
    left out, since the model, its replacement means or its operating points may know them (TRAPS 19).

    Args:
        data: the run's concepts, or None where nothing was fitted.

    Raises:
        DataError: no source named, unreadable, a missing column, or no document left.
    """
    fitted = {key: split for split in FITTED_SPLITS for key in _ids(data, split)}
    dropped: Counter[str] = Counter()
    found: dict[str, str] = {}
    for text in _texts(config, store):
        text = text.strip()
        key = example_id(text)
        if not text:
            dropped["empty"] += 1
        elif key in found:
            dropped["the same text again"] += 1
        elif key in fitted:
            dropped[f"in the {fitted[key]} split of '{data.name if data else ''}'"] += 1
        else:
            found[key] = text
        if on_the_hub(config) and config.limit and len(found) == config.limit * STREAMED_PER_DRAWN:
            break
    if not found:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "no row in any of its files"
        raise DataError(f"Documents '{config.name}': none is left ({why}). Next: {OPTION}.path=<other prose>.")
    for reason, count in dropped.items():
        log.warning("%d of the documents of '%s' left out: %s", count, config.name, reason)
    ids = sorted(found, key=lambda key: draw_place(config.seed, key))[: config.limit]
    key = fingerprint({"documents": ids})
    return DocumentSet(config.name, tuple(ids), tuple(found[key] for key in ids), dict(dropped), key)


def _ids(data: ConceptDataset | None, split: str) -> list[str]:
    return [] if data is None else [data.ids[row] for row in data.rows(split)]


def _texts(config: DocumentsConfig, store: Store) -> Iterator[str]:
    """Give the source's texts as they stand there."""
    where = place_of(config, f"Document set '{config.name}'", OPTION)
    with reading(where, hub=on_the_hub(config), option=f"{OPTION}.path"):
        if config.path:
            yield from _local(Path(config.path), config)
        elif config.wheel:
            options = {**config.wheel_options, **config.read_options}
            yield from _rows(file_of_wheel(config, OPTION, store), config, options)
        else:
            yield from _column(hub_stream(where, config.subset, config.split, config.revision), config)


def _local(place: Path, config: DocumentsConfig) -> Iterator[str]:
    """Give the texts of a file or of a folder's files: one per row of a table, one per .txt file."""
    if not place.exists():
        raise DataError(f"{OPTION}.path '{place}' does not exist. Expected a file or a folder.")
    files = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
    known = [path for path in files if path.suffix in (".txt", *READERS)]
    if not known:
        raise DataError(f"{OPTION}.path '{place}' holds no file of a known kind: {', '.join(('.txt', *READERS))}.")
    for path in known:
        if path.suffix == ".txt":
            yield _text(path)
        else:
            yield from _rows(path, config, config.read_options)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 from byte {error.start:,} on. Next: save it as UTF-8.") from error


def _rows(path: Path, config: DocumentsConfig, options: Mapping[str, Any]) -> Iterator[str]:
    """Give the texts of a table."""
    yield from _column(read_table(path, options).to_dict("records"), config)


def _column(rows: Iterable[Mapping[str, Any]], config: DocumentsConfig) -> Iterator[str]:
    for row in rows:
        if config.text_column not in row:
            raise DataError(unknown("column", config.text_column, map(str, row), f"{OPTION}.text_column=<column>"))
        if row[config.text_column] is not None:
            yield str(row[config.text_column])
