"""Keeps a sweep's outcomes in the store, part by part: a run that was stopped goes on, and one like it computes no cell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import numpy as np

from neuronlens.config.fingerprint import fingerprint
from neuronlens.records import Cell
from neuronlens.storage.cache import Claimed, Store
from neuronlens.sweep.evaluator import Outcomes

STAGE = "outcomes"
FORMAT = 1  # raised when the arrays change their meaning
MOST_BYTES = 4 << 30
"""Of all sweeps' outcomes together, after a run: those that were used longest ago are taken away."""


class KeptOutcomes:
    """The kept outcomes of one sweep over one split: `outcomes/<sweep>/<cells>/`, one folder for each part of its cells."""

    def __init__(self, store: Store, inputs: Mapping[str, Any]) -> None:
        """Keep in `store`.

        Args:
            inputs: all that outcomes rest on beside the cells themselves.
        """
        self.store, self.inputs = store, {**inputs, "format": FORMAT}
        self.stage = f"{STAGE}/{fingerprint(self.inputs)}"

    def key(self, cells: Sequence[Cell]) -> str:
        """Return the fingerprint of some cells that are run together."""
        return fingerprint([[knobs, concept] for knobs, concept in cells])

    def claimed(self, cells: Sequence[Cell]) -> AbstractContextManager[Claimed]:
        """Hold the right to compute some cells in the block, if no other process has it: `Store.claimed` without waiting."""
        return self.store.claimed(self.stage, self.key(cells), wait=False)

    def load(self, cells: Sequence[Cell]) -> Outcomes | None:
        """Return the outcomes of cells that were kept together, or None."""
        found = self._load(self.key(cells))
        return None if found is None else found[0]

    def load_part(self, cells: Sequence[Cell]) -> tuple[Outcomes, int] | None:
        """Return what a stopped run computed of some cells, with the number of forwards it had done; None if nothing."""
        found = self._load(f"{self.key(cells)}-part")
        return None if found is None else (found[0], int(found[1]["forwards"]))

    def save(self, cells: Sequence[Cell], outcomes: Outcomes) -> None:
        """Keep the outcomes of some cells.

        Raises:
            OutputError: the cache cannot be written.
        """
        key = self.key(cells)
        self.store.save(self.stage, key, _packed(outcomes), self._manifest(outcomes, cells))
        self.store.forget(self.stage, f"{key}-part")

    def save_part(self, cells: Sequence[Cell], outcomes: Outcomes, forwards: int) -> None:
        """Keep what was computed of some cells when a run is stopped in the middle of them.

        Raises:
            OutputError: the cache cannot be written.
        """
        key = f"{self.key(cells)}-part"
        self.store.forget(self.stage, key)
        self.store.save(self.stage, key, _packed(outcomes), self._manifest(outcomes, cells) | {"forwards": forwards})

    def _manifest(self, outcomes: Outcomes, cells: Sequence[Cell]) -> dict[str, Any]:
        return {"inputs": self.inputs, "samples": outcomes.gold.shape[1], "cells": len(cells)}

    def _load(self, key: str) -> tuple[Outcomes, dict[str, Any]] | None:
        found = self.store.load(self.stage, key)
        if found is None:
            return None
        arrays, manifest = found
        samples = int(manifest["samples"])
        bits = {
            name: np.unpackbits(arrays[name], axis=1, count=samples).astype(bool) for name in ("correct", "flipped")
        }
        return Outcomes(gold=arrays["gold"], kl=arrays["kl"], **bits), manifest


def _packed(outcomes: Outcomes) -> dict[str, Any]:
    bits = {name: np.packbits(getattr(outcomes, name), axis=1) for name in ("correct", "flipped")}
    return {"gold": outcomes.gold, "kl": outcomes.kl, **bits}


def trim(store: Store, most_bytes: int = MOST_BYTES) -> None:
    """Take away the outcomes of the sweeps that were used longest ago, until all are at most `most_bytes` together."""
    sweeps = [folder for folder in (store.root / STAGE).glob("*") if folder.is_dir()]
    sizes, used = {}, {}
    for folder in sweeps:
        with suppress(OSError):  # another process may take it away meanwhile
            sizes[folder] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            used[folder] = folder.stat().st_mtime
    total = sum(sizes.values())
    for folder in sorted(used, key=lambda one: used[one]):
        if total <= most_bytes:
            return
        shutil.rmtree(folder, ignore_errors=True)
        total -= sizes[folder]


def touch(kept: KeptOutcomes) -> None:
    """Note that a sweep's outcomes are used now."""
    with suppress(OSError):
        os.utime(kept.store.root / kept.stage)
