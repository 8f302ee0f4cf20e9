"""What happens where a device runs out of memory: the work is done in halves, and the size that fitted is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

from neuronlens.errors import ModelError
from neuronlens.execution.progress import remark

Work = TypeVar("Work")
_smaller: ContextVar[dict[str, int] | None] = ContextVar("neuronlens_smaller_batches", default=None)


@contextmanager
def watching_memory() -> Iterator[dict[str, int]]:
    """Give what had to be done in smaller pieces in the block: the largest size that fitted, by what it counts."""
    found: dict[str, int] = {}
    token = _smaller.set(found)
    try:
        yield found
    finally:
        _smaller.reset(token)


def in_halves(
    run: Callable[[Work], None],
    work: Work,
    *,
    halve: Callable[[Work], tuple[Work, Work] | None],
    size: Callable[[Work], int],
    what: str,
) -> None:
    """Do a piece of work; where the device's memory does not suffice, half of it and then the other, and so on.

    Args:
        run: does it; what it did before memory ran out is done again.
        halve: gives two halves; None where the work is one piece.
        size: of a piece of work, for the report.
        what: is counted by `size`: `samples of one forward`.

    Raises:
        ModelError: the smallest piece does not fit either.
    """
    try:
        run(work)
        return
    except torch.OutOfMemoryError as error:
        why = " ".join(str(error).split())[:200]
    # Out of the block above, where the error's traceback would hold the tensors that did not fit.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    halves = halve(work)
    if halves is None:
        raise ModelError(
            f"The device has no memory for the smallest piece of {what} ({why}). Next: a smaller model.max_length, "
            "model.dtype=bfloat16, or trainer=cpu."
        )
    _report(what, size(halves[0]))
    for half in halves:
        in_halves(run, half, halve=halve, size=size, what=what)


def _report(what: str, size: int) -> None:
    found = _smaller.get()
    if found is None or size < found.get(what, size + 1):
        remark(f"out of memory: goes on with {size} {what}")
        if found is not None:
            found[what] = size
