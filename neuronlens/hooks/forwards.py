"""What one forward was called with, from which the edited positions follow; kept per thread, and through a recomputation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.errors import SiteError
from neuronlens.hooks.generation import GenerateCall, by_name
from neuronlens.hooks.masks import edit_mask, position_mask, read_index
from neuronlens.hooks.tokens import Tokens, Written


@dataclass(frozen=True)
class Forward:
    """One forward of the body as it was called.

    Attributes:
        attention_mask: for all cells, as passed, or `attended` for one cell in its place.
        past: columns that the cache holds already.
        call: the generate call it serves, or None for a plain forward.
        prompt, segment: as given to `edited`.
    """

    attention_mask: Any
    past: int
    call: GenerateCall | None
    prompt: Tensor | None
    segment: Tensor | None = None

    @classmethod
    def of(
        cls,
        module: nn.Module,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        call: GenerateCall | None,
        *,
        positions: str,
        prompt: Tensor | None = None,
        attended: Tensor | None = None,
        segment: Tensor | None = None,
    ) -> Forward:
        """Read a forward's mask and cache off its arguments.

        Raises:
            SiteError: the mask does not tell pads from tokens, or the position to be edited is a pad.
        """
        passed = by_name(module.forward, arguments, named)
        mask: Any = passed.get("attention_mask")
        cache: Any = passed.get("past_key_values")
        past = int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0
        if call is not None:
            if prompt is not None or attended is not None:
                raise SiteError("prompt= and attended= describe plain forwards; model.generate knows its own prompt.")
            _refuse_pads(call.given, positions)
            return cls(mask, past, call, None)
        if attended is not None:
            return cls(attended, past, None, prompt, segment)
        if passed.get("cu_seq_lens_q") is not None or not (
            mask is None or (isinstance(mask, Tensor) and mask.dim() == 2)
        ):
            raise SiteError(
                "This forward's attention mask is not [sample, position] and does not say which positions are pads. "
                "Next: nl.edited(..., attended=<bool tensor [sample, position]>)."
            )
        _refuse_pads(mask, positions)
        return cls(mask, past, None, prompt, segment)

    def mask(self, by_cell: Tensor, positions: str) -> Tensor | None:
        """Return which positions are edited `[sample, position]`, None for all, of `[cell, sample, position, neuron]`."""
        if self.call is None:
            known = None if self.attention_mask is None else self.attention_mask[: by_cell.shape[1]]
            return position_mask(known, by_cell[0], positions, self.prompt)
        columns, asked = self._columns(by_cell, self.call)
        return edit_mask(columns, asked, positions)[:, self.past : self.past + by_cell.shape[2]]

    def _columns(self, by_cell: Tensor, call: GenerateCall) -> tuple[Tensor, Tensor]:
        """Return which columns of a generate call are attended and which are prompt `[sample, column]`, cached ones too."""
        cells, samples, width = by_cell.shape[:3]
        columns = call.attended(self.attention_mask, cells * samples, self.past + width, by_cell.device)[:samples]
        asked = columns.clone()
        asked[:, call.width :] = False
        return columns, asked

    def tokens(self, by_cell: Tensor, *, causal: bool, owner: Any) -> Tokens:
        """Return the tokens of `[cell, sample, position, neuron]`, for an edit that decides per sample.

        Args:
            causal: whether the model is.
            owner: whose memory of the generate call it is.

        Raises:
            SiteError: a plain forward that goes on from a cache.
        """
        width = by_cell.shape[2]
        if self.call is not None:
            written = Written(self.past, self.call.width, self.call.beams, self.call.kept.setdefault(owner, {}))
            attended, asked = (part[:, self.past : self.past + width] for part in self._columns(by_cell, self.call))
            return Tokens(attended, asked, causal, written=written)
        if self.past:
            raise SiteError(
                "This forward goes on from a cache, and a gate per sample needs the tokens before it. Next: model.generate, or "
                "the whole text in one forward."
            )
        known = self.mask(by_cell, "all")
        attended = torch.ones(by_cell.shape[1:3], dtype=torch.bool, device=by_cell.device) if known is None else known
        prompt = attended if self.prompt is None else attended & self.prompt.to(attended.device)
        return Tokens(attended, prompt, causal, self.segment)


def _refuse_pads(mask: Tensor | None, positions: str) -> None:
    """Refuse an edit of column 0 where that is a pad: nothing would be edited, and nobody would know."""
    if positions == "cls" and mask is not None and bool((mask[:, 0] == 0).any()):
        raise SiteError(
            "positions='cls' is column 0, which is a pad in a text padded on the left. Next: pad on the right, or another "
            "position."
        )


def refuse_unread_end(model: Any, passed: dict[str, Any]) -> None:
    """Refuse an edit of the last token where that is the pad token, which a classification head skips (TRAPS 31).

    A tokenizer that pads with its end token and ends each text with it makes the head read the token before.
    """
    ids, mask, pad = passed.get("input_ids"), passed.get("attention_mask"), model.config.get_text_config().pad_token_id
    if not type(model).__name__.endswith("ForSequenceClassification") or ids is None or pad is None:
        return
    attended = ids == ids if mask is None else mask != 0
    last = ids.gather(1, read_index(attended, "last")[:, None])
    if attended.shape == ids.shape and bool((last == pad).any()):
        raise SiteError(
            f"positions='last' is the pad token {pad}, which the head of {type(model).__name__} skips, so the edit would not be "
            "read. Next: a tokenizer whose pad token is not its end token, or positions='all'."
        )


class Running(threading.local):
    """What this thread's forward is, for the hooks of one context.

    Attributes:
        forward: None before the body was entered.
        depth: how many of the modules around the blocks this thread is in.
        shapes: rows and positions of each block's hidden states, by the block's id.
        again: whether a forward runs once more for its gradients.
    """

    def __init__(self) -> None:
        """Start outside of any forward."""
        self.forward: Forward | None = None
        self.depth = 0
        self.shapes: dict[int, tuple[int, int]] = {}
        self.again = False


@contextmanager
def kept_through_checkpoints(blocks: Sequence[nn.Module], running: Running, *, needed: bool) -> Iterator[None]:
    """Let a block that runs again for its gradients find the forward that it ran in, whichever ran since (TRAPS 34).

    Args:
        needed: whether what runs again must be edited again: outside the block it could not be.

    Raises:
        SiteError: on such a run outside the block.
    """
    own = [(block, vars(block)["_gradient_checkpointing_func"]) for block in blocks if _checkpoints(block)]
    left = threading.Event()
    for block, function in own:
        vars(block)["_gradient_checkpointing_func"] = _bound(function, running, left if needed else None)
    try:
        yield
    finally:
        left.set()
        for block, function in own:
            vars(block)["_gradient_checkpointing_func"] = function


def _checkpoints(block: nn.Module) -> bool:
    return bool(getattr(block, "gradient_checkpointing", False)) and "_gradient_checkpointing_func" in vars(block)


def _bound(function: Callable[..., Any], running: Running, left: threading.Event | None) -> Callable[..., Any]:
    def checkpoint(run: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        forward, shapes, running_now = running.forward, dict(running.shapes), True

        def run_or_again(*inner: Any, **options: Any) -> Any:
            if running_now:
                return run(*inner, **options)
            if left is not None and left.is_set():
                raise SiteError(
                    "With gradient checkpointing the backward pass runs the edited blocks again, and the edit's context was "
                    "left before it. Next: call backward inside the block."
                )
            before = running.forward, running.shapes, running.again
            running.forward, running.shapes, running.again = forward, shapes, True
            try:
                return run(*inner, **options)
            finally:
                running.forward, running.shapes, running.again = before

        try:
            return function(run_or_again, *arguments, **named)
        finally:
            running_now = False

    return checkpoint
