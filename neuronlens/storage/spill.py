"""Holds stored states in memory up to a budget and past it in a file, from which they come back as mapped tensors."""

from __future__ import annotations

import mmap
import tempfile
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from neuronlens.config.schema_run import TrainerConfig
from neuronlens.errors import OutputError
from neuronlens.storage.cache import Store

GIB = 1 << 30
ALIGNMENT = 64
"""Bytes that a tensor's place in the file is a multiple of: every dtype's, and a cache line."""
SEGMENT_BYTES = GIB
"""Bytes of the file that are mapped at once: a process may hold some ten thousand maps only, and more tensors."""


class StateBudget:
    """How much memory stored states may take, and the file that takes those beyond it.

    The file has no name: the operating system takes it back when the last tensor in it is gone, or the process is,
    however that ends, so no run leaves one behind or finds another's. What is read from it is held in memory as long as
    there is room for it, and no longer.

    Attributes:
        in_memory, in_file: bytes of the tensors kept so far.
    """

    def __init__(self, most_bytes: int, folder: Path | None = None) -> None:
        """Allow `most_bytes` in memory; the file is made in `folder` when it is first needed.

        Args:
            folder: on a disk, or the file takes memory after all; None for the system's folder for temporary files.
        """
        self.most_bytes, self.folder = most_bytes, folder
        self.in_memory = self.in_file = 0
        self._file: IO[bytes] | None = None
        self._segment: mmap.mmap | None = None
        self._start = self._next = 0

    def keep(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the same values on the CPU: itself within the budget, else one over the mapped file.

        A tensor over the file must not be written to.

        Raises:
            OutputError: the file cannot be written, its disk full for example.
        """
        held = tensor.detach().cpu()
        size = held.numel() * held.element_size()
        if self.in_memory + size <= self.most_bytes:
            self.in_memory += size
            return held
        return self._in_file(held, size)

    def _in_file(self, tensor: Tensor, size: int) -> Tensor:
        raw = tensor.contiguous().flatten().view(torch.uint8).numpy()
        try:
            segment, place = self._room(size)
            assert self._file is not None, "a segment is part of the file"
            # Written and not stored through the map: a full disk is an error here and a killed process there.
            self._file.seek(self._start + place)
            self._file.write(raw.data)
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"Cannot write stored states past the budget of {self.most_bytes / GIB:g} GiB into "
                f"{self.folder or tempfile.gettempdir()}: {error}. Next: paths.cache_dir=<folder with room>, a larger "
                "trainer.state_budget_gib, or fewer layers."
            ) from error
        self.in_file += size
        return torch.frombuffer(segment, dtype=tensor.dtype, count=tensor.numel(), offset=place).view(tensor.shape)

    def _room(self, size: int) -> tuple[mmap.mmap, int]:
        """Return a map of the file and a place in it that has `size` bytes left."""
        place = -(-self._next // ALIGNMENT) * ALIGNMENT
        if self._segment is None or place + size > len(self._segment):
            if self._file is None:
                if self.folder is not None:
                    self.folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - lives as long as its tensors
            self._start += 0 if self._segment is None else len(self._segment)
            page = mmap.ALLOCATIONGRANULARITY
            length = max(SEGMENT_BYTES, -(-size // page) * page)
            self._file.truncate(self._start + length)
            self._segment, place = mmap.mmap(self._file.fileno(), length, offset=self._start), 0
        self._next = place + size
        return self._segment, place


def state_budget(trainer: TrainerConfig, store: Store | None) -> StateBudget:
    """Return the configured memory for stored states; what is past it goes into a file on the cache's disk."""
    return StateBudget(round(trainer.state_budget_gib * GIB), None if store is None else store.root)
