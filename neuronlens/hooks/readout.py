"""Narrows a language model's head to the positions, and the words, that are read, and reads its words' probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.hooks.probe import THREAD

MOST_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Logits that are normalised at once by kind of device: on a CPU no more than stay in its cache."""


class _Readout(nn.Module):
    """The model's own output embedding, applied to some positions and some words only."""

    def __init__(self, own: nn.Module, index: Tensor | None, words: Tensor | None) -> None:
        super().__init__()
        self.own, self.index, self.words = own, index, words

    def __getattr__(self, name: str) -> Any:
        """Return the model's own module's attribute: some models look at its weight."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("own"), name)

    def forward(self, hidden: Tensor) -> Tensor:
        if THREAD.probing:
            return self.own(hidden)
        if self.index is not None:
            hidden = hidden.gather(1, self.index[..., None].expand(-1, -1, hidden.shape[-1]))
        if self.words is None:
            return self.own(hidden)
        bias = getattr(self.own, "bias", None)
        weight: Any = self.own.weight
        return nn.functional.linear(hidden, weight[self.words], None if bias is None else bias[self.words])


@contextmanager
def reading(
    model: Any, index: Tensor | None, words: Tensor | None = None, *, instead: nn.Module | None = None
) -> Iterator[None]:
    """Make the model's logits `[sample, read, word]` those of some positions and words, by its own head.

    Whatever the model does after its output embedding, such as soft-capping, is done as ever. On leaving the block the
    model's own module is back.

    Args:
        index: positions to read `[sample, read]`; None for all.
        words: token ids whose logits are wanted; None for the whole vocabulary.
        instead: an output embedding in the place of the model's own, such as one in training.
    """
    own = model.get_output_embeddings()
    parent, name = _place(model, own)
    try:
        setattr(parent, name, _Readout(instead or own, index, words))
        yield
    finally:
        setattr(parent, name, own)


def _place(model: nn.Module, module: nn.Module) -> tuple[nn.Module, str]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if child is module:
                return parent, name
    raise LookupError("the model's output embedding is none of its modules")


def log_probability_of(logits: Tensor, target: Tensor) -> Tensor:
    """Return log p of each row's target tokens over the whole vocabulary `[row, option]`, in float32 at least.

    Some rows at a time: a copy of all logits at once, as logsumexp makes two, takes longer than the product they come from.

    Args:
        logits: `[row, word]`; not modified.
        target: token ids `[row, option]`.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    pieces = zip(*_in_pieces(logits, target), strict=True)
    return torch.cat([piece.to(wide).log_softmax(-1).gather(-1, some) for piece, some in pieces])


def log_probability_of_others(logits: Tensor, target: Tensor) -> Tensor:
    """Return log p that each row's next word is none of its targets `[row]`, in float32 at least.

    log sigmoid(logsumexp of the others - logsumexp of the targets); log(1 - sum of p) would cancel where that sum is
    near 1 (TRAPS 49). The lowest finite number where there is no other word.

    Args:
        logits: `[row, word]`; not modified.
        target: token ids `[row, option]`, each once.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    parts = []
    for piece, some in zip(*_in_pieces(logits, target), strict=True):
        row = piece.to(wide)
        others = row.scatter(-1, some, -torch.inf).logsumexp(-1)
        parts.append(torch.nn.functional.logsigmoid(others - row.gather(-1, some).logsumexp(-1)))
    return torch.cat(parts).clamp(min=torch.finfo(wide).min)


def _in_pieces(logits: Tensor, target: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return both in pieces of as many rows as may be normalised at once."""
    rows = max(1, MOST_AT_ONCE.get(logits.device.type, 1 << 26) // logits.shape[-1])
    return logits.split(rows), target.split(rows)
