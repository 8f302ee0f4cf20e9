"""What a way of reading a sweep's cells offers: how many share one forward, and what the edited model answers there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from neuronlens.edits.base import EditBatch
from neuronlens.models.batches import Batch
from neuronlens.models.heads.base import Reading
from neuronlens.records import Site

MOST_LOGITS = 1 << 27
"""Logits that the cells of one forward make together, 512 MiB in float32."""

Shared = TypeVar("Shared")


class Strategy(Protocol):
    """One way of reading the cells of a sweep over stored batches."""

    def share(self, batch: Batch) -> int:
        """Return how many cells share one forward over a batch, at least 1."""

    def read(self, cells: int, edits: Mapping[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return what the model answers under each cell's edits.

        Args:
            cells: how many cells each of the edits holds.
            edits: by site, on the states' device.
            batch: the tokenised samples.
            states: stored for the batch `[sample, position, neuron]`; not modified.

        Returns:
            Log-probabilities `[cell, sample, concept]` and predictions `[cell, sample]`.
        """


def cells_that_fit(samples: int, *, tokens: int, floats: int, tokens_per_forward: int) -> int:
    """Return how many cells one forward may hold, at least 1.

    Args:
        samples: of the batch.
        tokens: that a cell runs per sample.
        floats: logits that a cell makes per sample.
        tokens_per_forward: samples x tokens x cells that a forward may hold.

    >>> cells_that_fit(4, tokens=10, floats=1, tokens_per_forward=100)
    2
    """
    return max(1, min(tokens_per_forward // (samples * tokens), MOST_LOGITS // (samples * floats)))


class OncePerBatch(Generic[Shared]):
    """What the cells of one batch share: made for the first forward over the batch, kept for those that follow."""

    def __init__(self, make: Callable[[Batch, Tensor], Shared]) -> None:
        """Take the function that makes it from a batch and its states."""
        self._make = make
        self._latest: tuple[Batch, Shared] | None = None

    def __call__(self, batch: Batch, states: Tensor) -> Shared:
        """Return it for a batch; the one before is forgotten."""
        if self._latest is None or self._latest[0].rows is not batch.rows:
            self._latest = batch, self._make(batch, states)
        return self._latest[1]
