"""Texts and labels out of tables: which columns hold them, and what is missing in them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pandas as pd

from neuronlens.config.schema_data import DatasetConfig
from neuronlens.errors import DataError, unknown

TEXTS = (
    "text",
    "sentence",
    "content",
    "review",
    "comment",
    "tweet",
    "document",
    "body",
    "message",
    "question",
    "utterance",
)
LABELS = ("label", "labels", "class", "category", "target", "sentiment", "emotion", "topic", "intent", "concept")
"""What columns of texts and of labels are called, in any case."""
FEW = 0.2
"""Share of a column's cells that differ, up to which it can be one of labels."""


def labelled_texts(
    tables: Mapping[str, pd.DataFrame], config: DatasetConfig, name: str, notes: list[str]
) -> pd.DataFrame:
    """Return texts, labels, sources and stable ids in one table; rows that lack a text or a label are left out.

    Args:
        tables: by source split.
        notes: gets a sentence on what was left out, and on columns that were guessed.

    Raises:
        DataError: a missing column, cells that are no text, or no labelled text in a file.
    """
    text_column, label_column = _columns(tables, config, notes)
    parts = []
    for source, table in tables.items():
        for column in (text_column, label_column):
            if column not in table.columns:
                raise DataError(_no_column(column, list(map(str, table.columns)), name, source))
        whole = pd.DataFrame(
            {
                "text": [_cell(value, text_column, name, source) for value in table[text_column]],
                "concept": [_cell(value, label_column, name, source) for value in table[label_column]],
                "source": source,
            }
        )
        part = whole[(whole["text"] != "") & (whole["concept"] != "")]
        if len(part) < len(whole):
            notes.append(f"{len(whole) - len(part)} of {len(whole)} rows of the {source} file lack a text or a label.")
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    if found.empty:
        raise DataError(f"Dataset '{name}' holds no labelled text: every row lacks a text or a label.")
    empty = [source for source, part in zip(tables, parts, strict=True) if part.empty]
    if empty:
        raise DataError(
            f"The {empty[0]} file of dataset '{name}' holds no labelled text. Next: fill it, or take it away; without a "
            "test file the test split is drawn from the others."
        )
    found["id"] = [example_id(text) for text in found["text"]]
    return found


def example_id(text: str) -> str:
    """Return the stable id of an example: the first 16 hex digits of its text's SHA-256.

    >>> example_id("a") == example_id("a"), len(example_id("a"))
    (True, 16)
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _columns(tables: Mapping[str, pd.DataFrame], config: DatasetConfig, notes: list[str]) -> tuple[str, str]:
    """Return the columns of texts and labels: the configured ones, or those that a local table can only mean.

    A configured name that is there counts, and so does one that is not the default: it is then refused by its own sentence.
    """
    shared = [str(column) for column in next(iter(tables.values())).columns]
    shared = [column for column in shared if all(column in table.columns for table in tables.values())]
    chosen = [config.text_column, config.label_column]
    defaults = [DatasetConfig().text_column, DatasetConfig().label_column]
    if not config.path or all(name in shared for name in chosen):
        return chosen[0], chosen[1]
    open_ = [name not in shared and name == default for name, default in zip(chosen, defaults, strict=True)]
    for place, known in enumerate((TEXTS, LABELS)):
        if open_[place]:
            chosen[place] = _meant(shared, known, [chosen[1 - place]]) or chosen[place]
    missing = [name not in shared for name in chosen]
    if len(shared) == 2 and any(missing):
        labels = [column for column in shared if _few(tables, column)]
        if missing == [True, True] and len(labels) == 1 and all(open_):
            chosen = [next(column for column in shared if column not in labels), labels[0]]
        elif missing != [True, True] and open_[missing.index(True)]:
            chosen[missing.index(True)] = next(column for column in shared if column not in chosen)
    guessed = [
        (what, name)
        for what, name, default in zip(("texts", "labels"), chosen, defaults, strict=True)
        if name != default
    ]
    if guessed and all(name in shared for name in chosen):
        words = " and ".join(f"'{name}' as the {what}" for what, name in guessed)
        notes.append(f"Columns: {words}. Other ones: dataset.text_column=..., dataset.label_column=...")
    return chosen[0], chosen[1]


def _meant(columns: list[str], known: tuple[str, ...], taken: list[str]) -> str | None:
    """Return the one column that is called as such columns are; None of none or several."""
    found = [column for column in columns if column.lower() in known and column not in taken]
    return found[0] if len(found) == 1 else None


def _few(tables: Mapping[str, pd.DataFrame], column: str) -> bool:
    """Return whether a column's cells repeat as labels do."""
    cells = pd.concat([table[column].astype(str) for table in tables.values()])
    return 2 <= cells.nunique() <= max(2, FEW * len(cells))


def _cell(value: object, column: str, name: str, source: str) -> str:
    """Return a cell's text without white space at its ends; empty where there is none."""
    if isinstance(value, (list, dict)):
        raise DataError(
            f"Column '{column}' of dataset '{name}', {source} file, holds a {type(value).__name__}, expected text. Next: "
            "another column by dataset.text_column or dataset.label_column."
        )
    return "" if value is None or value != value else str(value).strip()


def _no_column(column: str, present: list[str], name: str, source: str) -> str:
    """Return the sentence for a missing column, with what seems to separate the cells where there is one column alone."""
    place = f" Dataset '{name}', {source} file."
    mark = next((mark for mark in (";", "\t", "|", ",") if len(present) == 1 and mark in present[0]), None)
    if mark is not None:
        shown = {"\t": "'\\t'"}.get(mark, f"'{mark}'")
        return (
            f"There is no column '{column}': the header {present[0]!r} seems to be separated by {shown}.{place} Next: "
            f"++dataset.read_options.sep={shown}, the quotes in quotes of the shell."
        )
    return unknown("column", column, present) + f"{place} Next: dataset.text_column=..., dataset.label_column=..."
