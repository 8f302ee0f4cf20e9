"""The tokens of a forward, over which a gate that decides per sample takes its mean: whole texts, or what was read so far.

A model in which every position sees every other has one mean per text. In a causal model a position may know the tokens up
to its own alone, so it has the mean of these; or the prompt is read first, and its mean holds for all that follows. Under a
KV cache a forward holds new tokens alone, so the forwards of one generate call hand on their sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from neuronlens.errors import SiteError
from neuronlens.hooks.masks import prompt_mask, see_each_other

Over = Literal["so_far", "prompt"]
"""What a causal model's mean is taken over: the tokens up to a position, or the whole prompt."""


class Sums(NamedTuple):
    """What a gate has read of each sample: the sum of its features `[sample, feature]` and the number of tokens `[sample, 1]`.

    Attributes:
        columns: up to which it has read.
    """

    total: Tensor
    number: Tensor
    columns: int


Memory = dict[int, Sums]
"""What the forwards of one generate call leave at one site for the next ones, by the gate's place among the edit's cells."""


@dataclass(frozen=True)
class Written:
    """Where a forward stands in a generate call.

    Attributes:
        past: columns before this forward's, which a cache holds.
        width: columns of the prompt.
        beams: of a beam search.
        memory: kept from forward to forward.
    """

    past: int
    width: int
    beams: int
    memory: Memory


@dataclass(frozen=True)
class Tokens:
    """One forward's tokens, for one cell.

    Attributes:
        attended: which are no pads, bool `[sample, position]`.
        prompt: which of these belong to the prompt, bool `[sample, position]`.
        causal: whether a position may know those up to its own alone.
        segment: 0 for the prompt, k for label k's continuation `[sample, position]`; None where there is none.
        written: where the forward stands in a generate call; None for a plain forward.
    """

    attended: Tensor
    prompt: Tensor
    causal: bool
    segment: Tensor | None = None
    written: Written | None = None

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor], *, causal: bool) -> Tokens:
        """Return the tokens of a batch `[sample, position]`."""
        return cls(inputs["attention_mask"] != 0, prompt_mask(inputs), causal, inputs.get("segment"))

    def mean(self, features: Tensor, over: Over, place: int = 0) -> Tensor:
        """Return what a gate at each position may know of the whole sample: the mean of its tokens' features.

        Args:
            features: of every position `[sample, position, feature]`, float64; not modified.
            over: what a causal model's mean is taken over; every other model's is over the whole text.
            place: of the gate among the edit's cells: its sums are kept under it.

        Returns:
            `[sample, position, feature]`, or with one position where all have the same mean.

        Raises:
            SiteError: the mean cannot be known in this kind of generation.
        """
        if not self.causal:
            if self.written is not None:
                raise SiteError(
                    "A gate per sample needs the whole text at once, and this model writes it. Next: a gate per position."
                )
            return _mean(features, self.attended)
        if self.written is not None:
            return self._written(features, over, place, self.written)
        if over == "prompt":
            return _mean(features, self.prompt)
        if self.segment is None:
            total, count = _sums_so_far(features, self.attended)
            return total / count.clamp(min=1)
        places = features.shape[1]
        earlier = self.attended.new_ones(places, places).tril()
        seen = (see_each_other(self.segment, self.segment) & earlier & self.attended[:, None]).to(features.dtype)
        return seen @ features / seen.sum(-1, keepdim=True).clamp(min=1)

    def _written(self, features: Tensor, over: Over, place: int, written: Written) -> Tensor:
        """Return the mean in a forward of a generate call, and keep the sums for the next one."""
        memory, columns = written.memory, written.past + features.shape[1]
        if over == "so_far" and written.beams > 1:
            raise SiteError(
                "A beam search reorders what its beams have written, so a mean of the tokens so far would mix them up. Next: "
                "num_beams=1, or a gate that reads the prompt alone."
            )
        if over == "prompt" and columns < written.width:
            raise SiteError(
                "The prompt is read in parts, and a gate needs all of it. Next: generate without prefill_chunk_size."
            )
        before = memory.get(place) if written.past else None
        if written.past and before is None:
            raise SiteError(
                "The cache holds tokens that this generate call did not read, and a gate per sample needs them. Next: "
                "generate from the whole text, without past_key_values."
            )
        if over == "prompt":
            if before is None:
                before = memory[place] = Sums(*_sums(features, self.prompt), columns)
            return (before.total / before.number.clamp(min=1))[:, None]
        if before is not None and before.columns != written.past:
            raise SiteError(
                "The cache was cut, so what a gate has read is not what it holds. Next: generate without an assistant."
            )
        total, count = _sums_so_far(features, self.attended)
        if before is not None:
            total, count = total + before.total[:, None], count + before.number[:, None]
        memory[place] = Sums(total[:, -1], count[:, -1], columns)
        return total / count.clamp(min=1)


def _sums(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    weights = mask.to(features.dtype)[..., None]
    return (features * weights).sum(1), weights.sum(1)


def _mean(features: Tensor, mask: Tensor) -> Tensor:
    total, count = _sums(features, mask)
    return (total / count.clamp(min=1))[:, None]


def _sums_so_far(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    weights = mask.to(features.dtype)[..., None]
    return (features * weights).cumsum(1), weights.cumsum(1)


def reads_tokens(edits: Mapping[Any, Any]) -> bool:
    """Return whether any of some edits must be given the forward's tokens."""
    return any(getattr(edit, "reads_tokens", False) for edit in edits.values())


def run_edit(edit: Callable[..., Tensor], hidden: Tensor, mask: Tensor | None, tokens: Tokens | None) -> Tensor:
    """Return hidden states under an edit, which is given the forward's tokens where it reads them."""
    return edit(hidden, mask, tokens=tokens) if getattr(edit, "reads_tokens", False) else edit(hidden, mask)
