"""Narrows a language model's head to the positions, and the words, that are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class _Readout(nn.Module):
    """The model's own output embedding, applied to some positions and some words only."""

    def __init__(self, own: nn.Module, index: Tensor | None, words: Tensor | None) -> None:
        super().__init__()
        self.own, self.index, self.words = own, index, words

    def forward(self, hidden: Tensor) -> Tensor:
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
