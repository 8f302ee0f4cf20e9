"""Several edits at one site, made one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuronlens.edits.base import EditBatch
from neuronlens.records import Site


class InOrder:
    """Edits at one site: each sees what the ones before it made."""

    def __init__(self, edits: Sequence[EditBatch]) -> None:
        """Take the edits in their order, each of one cell."""
        self.edits = tuple(edits)

    def __call__(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the edited hidden states `[cell, sample, position, neuron]`; see `EditBatch`."""
        for edit in self.edits:
            hidden = edit(hidden, mask)
        return hidden

    def to(self, device: torch.device | str) -> InOrder:
        """Return the edits on `device`."""
        return InOrder([edit.to(device) for edit in self.edits])


def in_order(concepts: Sequence[Mapping[Site, EditBatch]]) -> dict[Site, InOrder]:
    """Return the edits of several concepts as one per site, in the order given."""
    sites = dict.fromkeys(site for edits in concepts for site in edits)
    return {site: InOrder([edits[site] for edits in concepts if site in edits]) for site in sites}
