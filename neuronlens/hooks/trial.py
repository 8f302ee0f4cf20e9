"""Single checks of a model on a few real samples: each says whether it holds, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.hooks.blocks import blocks_of
from neuronlens.hooks.branches import read_prompt, run_branches
from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.masks import edit_mask, prompt_mask, read_index, scored_index
from neuronlens.hooks.readout import reading
from neuronlens.hooks.replay import forward, replaying, starting_from, starts_at
from neuronlens.hooks.wrapped import bare
from neuronlens.records import Site

Outcome = tuple[bool, str]
TOLERANCE = 1e-4
"""Nats between two orders of the same float32 sums; bfloat16 and float16 get 0.1."""
NEW_TOKENS = 3


class Trial:
    """A model and a few samples, its logits on them, and what may be asked of both."""

    def __init__(self, model: nn.Module, inputs: Mapping[str, Tensor], *, reads: str, positions: str) -> None:
        """Run the model on the samples, twice: what the second time differs by, nothing can be held against.

        Args:
            reads: the position that the head reads, `cls`, `last` or `mean`.
            positions: which positions are edited.
        """
        self.model, self.inputs, self.reads, self.positions = model, dict(inputs), reads, positions
        own: Any = bare(model)
        self.speaks = getattr(own, "get_output_embeddings", lambda: None)() is not None
        self.last = len(blocks_of(model)) - 1
        self.attended, self.prompt = inputs["attention_mask"] != 0, prompt_mask(inputs)
        self.plain = self.logits(self.inputs)
        self.noise = float((self.logits(self.inputs) - self.plain).abs().max())
        self.allowed = TOLERANCE if own.dtype in (torch.float32, torch.float64) else 0.1
        self._states: dict[int, Tensor] = {}

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return log-probabilities `[sample, read, word]` at the positions that are read, one of a classifier."""
        if not self.speaks:
            return forward(self.model, inputs).float().log_softmax(-1)[:, None]
        with reading(bare(self.model), scored_index(inputs)):
            return forward(self.model, inputs).float().log_softmax(-1)

    def states(self, layer: int) -> Tensor:
        """Return block `layer`'s output on the samples `[sample, position, neuron]`; nothing for -1."""
        if layer < 0:
            return self.inputs["input_ids"][..., None][..., :0]
        if layer not in self._states:
            with capture(self.model, [Site(layer)]) as recorded:
                self.logits(self.inputs)
            self._states[layer] = recorded[Site(layer)]
            # What a block keeps of one forward to itself must not help a replay of another.
            self.logits({name: tensor.roll(1, 0) for name, tensor in self.inputs.items()})
        return self._states[layer]

    @cached_property
    def index(self) -> Tensor:
        """Positions that are read `[sample, read]`."""
        if self.speaks:
            return scored_index(self.inputs)
        return read_index(self.inputs["attention_mask"], self.reads)[:, None]

    def head_reads(self) -> Outcome:
        """Return whether the logits move with the last block's output where the head is said to read, and only there."""
        here = torch.zeros_like(self.attended).scatter_(1, self.index, True)
        moved = [self._difference(self._with_last(where)) for where in (here, ~here)]
        if moved[0] > self.noise and moved[1] <= self.noise:
            return True, f"moves the logits by {moved[0]:.2g} there and by {moved[1]:.2g} elsewhere"
        other = "reads another position" if moved[1] > self.noise else "reads none"
        return False, f"the head {other} of some of these texts, so an edit there would not be seen"

    def _with_last(self, where: Tensor) -> Tensor:
        """Return the logits with the last block's output changed at some positions."""

        def change(hidden: Tensor, mask: Tensor | None) -> Tensor:
            return torch.where(where[None, ..., None], hidden + _step(hidden), hidden)

        with edited(self.model, {Site(self.last): change}, attended=self.attended):
            return self.logits(self.inputs)

    def identity(self, layer: int) -> Outcome:
        """Return whether a forward that starts at a block's stored output gives the plain one's logits, to the last bit."""
        return tried(lambda: self._same(self._replayed(layer, self.states(layer))))

    def reaches(self, site: Site) -> Outcome:
        """Return whether an edit at the positions that are edited moves the logits of every sample."""
        moved = float((self._hooked(site) - self.plain).abs().flatten(1).amax(1).min())
        if moved <= self.noise:
            return False, f"an edit at position '{self.positions}' cannot reach the head, which reads '{self.reads}'"
        return True, f"moves each sample's log-probabilities by {moved:.2g} at least, at '{self.positions}'"

    def edit_replayed(self, site: Site) -> Outcome:
        """Return whether an edit gives the same in a replay as in a forward with a hook, to the last bit."""
        return tried(lambda: self._same(self._edited_replay(site), self._hooked(site)))

    def _edited_replay(self, site: Site) -> Tensor:
        start = starts_at(site)
        states = self.states(start)
        if start == site.layer:
            return self._replayed(start, self._change(states, edit_mask(self.attended, self.prompt, self.positions)))
        with edited(self.model, {site: self._change}, **self._places()):
            return self._replayed(start, states)

    def shrunk(self) -> Outcome:
        """Return whether the last block's output at the positions that are read is all that the head needs."""
        if self.reads == "mean" and not self.speaks:
            return False, "the head reads all positions"
        return tried(lambda: self._close(self._read_alone().view_as(self.plain)))

    @torch.no_grad()
    def _read_alone(self) -> Tensor:
        inputs = {name: tensor.gather(1, self.index) for name, tensor in self.inputs.items()}
        states = self.states(self.last)
        with starting_from(self.model, self.last, _gathered(states, self.index)):
            return forward(self.model, inputs).float().log_softmax(-1)

    def alone(self) -> Outcome:
        """Return whether each sample by itself, without pads, gives what it gives in the batch."""
        rows = [
            {name: t[row : row + 1, real] for name, t in self.inputs.items()} for row, real in enumerate(self.attended)
        ]
        return tried(lambda: self._close(torch.cat([self.logits(row) for row in rows])))

    def other_side(self) -> Outcome:
        """Return whether samples that are padded on the other side give the same."""
        pads_last = bool((self.attended[:, 0]).all())
        order = torch.argsort(self.attended.to(torch.int8), dim=1, stable=True, descending=not pads_last)
        inputs = {name: tensor.gather(1, order) for name, tensor in self.inputs.items()}
        return tried(lambda: self._close(self.logits(inputs)))

    def packed(self) -> Outcome:
        """Return whether label continuations that share a prompt are read as if each stood after it alone."""
        segments, worst, at = self.inputs["segment"], 0.0, 1
        for number in range(1, int(segments.max()) + 1):
            kept = (segments == 0) | (segments == number)
            alone = {name: tensor[kept].view(len(kept), -1) for name, tensor in self.inputs.items()}
            places = (alone.pop("segment") == number).nonzero()[:, 1].view(len(kept), -1)
            with torch.no_grad(), reading(bare(self.model), places):
                found = forward(self.model, alone).float().log_softmax(-1)
            worst = max(worst, self._difference(found, self.plain[:, at : at + places.shape[1]]))
            at += places.shape[1]
        return worst <= self.allowed, _apart(worst)

    def branched(self, layer: int) -> Outcome:
        """Return whether cells that branch off the prompt's keys, one of them edited, give what whole rows give."""
        return tried(lambda: self._close(*self._branches_and_rows(layer)))

    @torch.no_grad()
    def _branches_and_rows(self, layer: int) -> tuple[Tensor, Tensor]:
        states = self.states(layer)
        prompt = read_prompt(bare(self.model), layer, self.inputs, states)
        cells, rows = [_gathered(states, prompt.index)] * 2, [self.plain] * 2
        if layer >= 0:
            record = torch.zeros_like(self.attended).scatter_(1, self.index[:, :1], True)
            changed = self._change(states, record)
            cells[1], rows[1] = _gathered(changed, prompt.index), self._replayed(layer, changed)
        found = run_branches(bare(self.model), prompt, torch.stack(cells)).float().log_softmax(-1)
        return found.transpose(0, 1), torch.stack(rows)

    def cached(self, site: Site) -> Outcome:
        """Return whether a text that is written under an edit is the same with a KV cache and without one."""
        own: Any = bare(self.model)
        order = torch.argsort(self.prompt.to(torch.int8), dim=1, stable=True)[:, -int(self.prompt.sum(1).max()) :]
        prompts = {
            "input_ids": self.inputs["input_ids"].gather(1, order),
            "attention_mask": self.prompt.long().gather(1, order),
        }
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": NEW_TOKENS}
        options |= {"output_logits": True, "return_dict_in_generate": True, "min_new_tokens": NEW_TOKENS}
        options |= {"pad_token_id": getattr(own.config.get_text_config(), "pad_token_id", None) or 0}
        where = "all" if self.positions == "cls" else self.positions

        def written(use_cache: bool) -> Tensor:
            found = own.generate(**prompts, **options, use_cache=use_cache)
            return torch.stack(found.logits).float().log_softmax(-1)

        with edited(self.model, {site: self._change}, positions=where):
            return tried(lambda: self._close(written(True), written(False)))

    def _change(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        changed = hidden + _step(hidden)
        return changed if mask is None else torch.where(mask[..., None], changed, hidden)

    def _places(self) -> dict[str, Any]:
        return {"positions": self.positions, "attended": self.attended, "prompt": self.prompt}

    def _hooked(self, site: Site) -> Tensor:
        with edited(self.model, {site: self._change}, **self._places()):
            return self.logits(self.inputs)

    def _replayed(self, layer: int, states: Tensor) -> Tensor:
        with replaying(self.model, layer, self.inputs, states[None]) as rows:
            return self.logits(rows)

    def _difference(self, found: Tensor, expected: Tensor | None = None) -> float:
        return float((found - (self.plain if expected is None else expected)).abs().max())

    def _same(self, found: Tensor, expected: Tensor | None = None) -> Outcome:
        difference = self._difference(found, expected)
        return difference <= self.noise, _apart(difference)

    def _close(self, found: Tensor, expected: Tensor | None = None) -> Outcome:
        difference = self._difference(found, expected)
        return difference <= self.allowed, _apart(difference)


def prompts_alone(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch without its label continuations."""
    kept = inputs["segment"] == 0
    return {name: tensor[kept].view(len(kept), -1) for name, tensor in inputs.items() if name != "segment"}


def longest_alone(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the longest sample of a batch, without pads."""
    attended = inputs["attention_mask"] != 0
    row = int(attended.sum(1).argmax())
    return {name: tensor[row : row + 1, attended[row]] for name, tensor in inputs.items()}


def tried(run: Callable[[], Outcome]) -> Outcome:
    """Return a check's outcome; one that cannot be made has failed, and its fast path is not taken."""
    try:
        return run()
    except Exception as error:
        return False, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _gathered(states: Tensor, index: Tensor) -> Tensor:
    return states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))


def _step(hidden: Tensor) -> Tensor:
    """Return what is added to hidden states: large, the same at every position, and different in every neuron."""
    width = hidden.shape[-1]
    return torch.linspace(-1, 1, width, device=hidden.device).to(hidden.dtype) * (1 + hidden.abs().amax())


def _apart(difference: float) -> str:
    return f"{difference:.2g} nats apart at most"
