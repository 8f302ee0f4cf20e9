"""An edit behind gates that decide for whole samples, or softly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronlens.edits import detected
from neuronlens.edits.base import EditBatch
from neuronlens.edits.gates.decisions import Decision
from neuronlens.errors import ShapeError
from neuronlens.hooks.tokens import Tokens


@dataclass(frozen=True)
class DecidedEdit(EditBatch):
    """An edit behind one decision per cell, with the same call as the edit alone.

    x' = x + g (edit(x) - x), g in [0, 1] the same for all neurons at a position.

    Attributes:
        edit: of all cells.
        decisions: one per cell; None lets the cell through everywhere.
    """

    edit: EditBatch
    decisions: tuple[Decision | None, ...]

    @property
    def reads_tokens(self) -> bool:
        """Whether any cell's gate decides for whole samples, so that the call needs `tokens`."""
        return any(decision is not None and decision.over is not None for decision in self.decisions)

    def opened(self, hidden: Tensor, tokens: Tokens | None) -> Tensor:
        """Return how far each cell's gate is open `[cell, sample, position]`, float64 in [0, 1].

        Args:
            hidden: `[cell or 1, sample, position, neuron]`, before the edit.
            tokens: of the forward; None where no gate reads them.

        Raises:
            ShapeError: a gate decides for whole samples and there are no tokens.
        """
        if tokens is None and self.reads_tokens:
            raise ShapeError(
                "A gate per sample must know which positions hold tokens. Next: call the edit with tokens=, or let "
                "nl.edited do it."
            )
        values = hidden.to(torch.float64)
        found: dict[tuple[int, int], Tensor] = {}
        opened = []
        for place, decision in enumerate(self.decisions):
            row = place if len(values) > 1 else 0
            key = id(decision), row  # one gate over one state decides once, whatever strengths stand behind it
            if key not in found and decision is None:
                found[key] = values.new_ones(hidden.shape[1:3])
            elif key not in found and decision is not None:
                found[key] = decision.opened(values[row], tokens, place)
            opened.append(found[key])
        return torch.stack(opened)

    def __call__(
        self, hidden: Tensor, mask: Tensor | None = None, *, allowed: Tensor | None = None, tokens: Tokens | None = None
    ) -> Tensor:
        """Return the edited hidden states `[cell, sample, position, neuron]`; where no gate is open they keep their bits.

        Args:
            hidden, mask, allowed: as of every edit.
            tokens: of the forward, for gates that decide for whole samples.

        Raises:
            ShapeError: shapes do not fit, or tokens are missing.
        """
        opened = self.opened(hidden, tokens)
        open_at_all = opened > 0
        edited = self.edit(hidden, mask, allowed=open_at_all if allowed is None else open_at_all & allowed)
        if not any(decision is not None and decision.soft for decision in self.decisions):
            return edited
        wide = torch.promote_types(hidden.dtype, torch.float32)
        share = opened.to(wide)[..., None]
        moved = torch.lerp(hidden.to(wide).expand(edited.shape), edited.to(wide), share).to(hidden.dtype)
        return torch.where((share == 1) | (edited == hidden), edited, moved)

    @classmethod
    def stack(cls, batches: Sequence[EditBatch]) -> DecidedEdit:
        """Return several batches as one; the cells of one without a decision are let through everywhere."""
        decisions: list[Decision | None] = []
        for batch in batches:
            decisions += batch.decisions if isinstance(batch, DecidedEdit) else [None] * batch.cells
        inner = [batch.edit if isinstance(batch, DecidedEdit) else batch for batch in batches]
        return cls(detected.stacked(inner), tuple(decisions))

    def to(self, device: torch.device | str) -> DecidedEdit:
        """Return the edit and its gates on `device`; a gate that stands for several cells stays one."""
        moved = {id(one): one.to(device) for one in self.decisions if one is not None}
        return DecidedEdit(self.edit.to(device), tuple(moved.get(id(one)) for one in self.decisions))

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return self.edit.cells


def stacked(batches: Sequence[EditBatch]) -> EditBatch:
    """Return several batches as one, their cells in order; all mix neurons or none does, whatever gates stand before them."""
    if any(isinstance(batch, DecidedEdit) for batch in batches):
        return DecidedEdit.stack(batches)
    return detected.stacked(batches)
