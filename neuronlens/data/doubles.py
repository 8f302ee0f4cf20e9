"""Texts that stand twice: under two labels, in train and test, or almost alike; each kind counted and named."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator

import pandas as pd

from neuronlens.errors import DataError

LEAST_PREFIX = 80
"""Characters from which a text that begins another one is the same text cut off, and no mere short phrase."""


def settled(table: pd.DataFrame, conflicts: str, name: str, notes: list[str]) -> pd.DataFrame:
    """Return the table with every text once, none of its test texts among the others, and say in `notes` what was left out.

    Texts are the same where they differ in white space or case alone, or where one is the other one cut off.

    Args:
        table: columns text, concept, source and id; not modified.
        conflicts: `error`, `drop` or `first`: what happens to a text under several labels.

    Raises:
        DataError: a text under several labels where that is an error, or a test file that the others contain.
    """
    notes += _alike_names(table["concept"].unique())
    table = _one_label_each(table, conflicts, name, notes)
    once = table.drop_duplicates("id", keep="first")
    if len(once) < len(table):
        notes.append(f"{len(table) - len(once)} rows of '{name}' repeat a text and count once.")
    is_test = table["source"] == "test"
    tests, others = table[is_test].drop_duplicates("id"), table[~is_test]
    if tests.empty or others.empty:
        return once
    known = _known_again(tests["text"], others["text"])
    leaked = tests["id"][known].tolist()
    if len(leaked) == len(tests):
        raise DataError(
            f"The test file of dataset '{name}' is contained in the others: all {len(tests)} of its texts are there, so "
            "nothing would be measured on new text. Next: another test file, or none, so that one is drawn."
        )
    if leaked:
        notes.append(
            f"{len(leaked)} of {len(tests)} test texts of '{name}' stand in its other files too and are left out."
        )
    return once[~((once["source"] == "test") & once["id"].isin(leaked))]


def _one_label_each(table: pd.DataFrame, conflicts: str, name: str, notes: list[str]) -> pd.DataFrame:
    labels = table.groupby("id")["concept"].nunique()
    several = labels.index[labels > 1]
    if not len(several):
        return table
    rows = table[table["id"] == several[0]]
    example = f"such as {str(rows['text'].iloc[0])[:60]!r} under {' and '.join(sorted(rows['concept'].unique()))}"
    if conflicts == "error":
        raise DataError(
            f"{len(several)} texts of dataset '{name}' stand under several labels, {example}. Next: "
            "dataset.conflicts=drop leaves them out, dataset.conflicts=first takes the first label."
        )
    done = "are left out" if conflicts == "drop" else "keep their first label"
    notes.append(f"{len(several)} texts of '{name}' stand under several labels and {done}, {example}.")
    return table[~table["id"].isin(several)] if conflicts == "drop" else table


def _alike_names(concepts: Collection[str]) -> Iterator[str]:
    """Give a sentence for concepts that differ in case or white space alone."""
    groups: dict[str, list[str]] = {}
    for concept in sorted(concepts):
        groups.setdefault(plain_text(concept), []).append(concept)
    for names in groups.values():
        if len(names) > 1:
            yield f"{' and '.join(map(repr, names))} are different concepts. Next: dataset.merge, if they are one."


def plain_text(text: str) -> str:
    r"""Return a text without what copies differ in: case and white space.

    >>> plain_text("  The  Harbour\n froze ")
    'the harbour froze'
    """
    return " ".join(text.split()).casefold()


def _known_again(tests: pd.Series, others: pd.Series) -> list[bool]:
    """Return for each test text whether another file holds it, cut off or whole."""
    own, rest = [plain_text(text) for text in tests], sorted({plain_text(text) for text in others})
    whole = set(rest)
    cut = {text for text in own if len(text) >= LEAST_PREFIX and _begins_one(text, rest)}
    ordered = sorted(set(own))
    for text in rest:
        if len(text) >= LEAST_PREFIX:
            cut.update(_beginning_with(text, ordered))
    return [text in whole or text in cut for text in own]


def _begins_one(text: str, ordered: list[str]) -> bool:
    place = bisect_left(ordered, text)
    return place < len(ordered) and ordered[place].startswith(text)


def _beginning_with(text: str, ordered: list[str]) -> Iterator[str]:
    place = bisect_left(ordered, text)
    while place < len(ordered) and ordered[place].startswith(text):
        yield ordered[place]
        place += 1
