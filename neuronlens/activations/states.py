"""Keeps a split's activations, moments, predictions and replay states in the store, and reads them back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronlens.activations.moments import read_scatter, scatter_arrays
from neuronlens.activations.tokens import SHUFFLED, Tokens
from neuronlens.models.batches import Batch
from neuronlens.records import MOMENTS, ConceptStatistics, FloatArray, IntArray, Site
from neuronlens.storage.cache import Store
from neuronlens.storage.spill import StateBudget


@dataclass(frozen=True)
class StoredStates:
    """Outputs of one block over a split, from which the rest of the model is replayed.

    Attributes:
        layer: -1 stands for the embeddings, which every replay makes anew from the tokens: nothing is stored for them.
        parts: batches with their states `[sample, position, neuron]` in the model's dtype, never written to: they may
            lie in a file (storage/spill.py).
    """

    layer: int
    parts: list[tuple[Batch, Tensor]]

    @property
    def holds_values(self) -> bool:
        """Whether states were kept, and not the batches alone."""
        return any(state.shape[-1] for _, state in self.parts)

    def of_samples(self, samples: IntArray) -> StoredStates:
        """Return the states of some samples, which are numbered anew in the order given; only cut batches are copied."""
        place = np.full(sum(len(batch.rows) for batch, _ in self.parts), -1)
        place[samples] = np.arange(len(samples))
        parts = []
        for batch, state in self.parts:
            rows = place[batch.rows]
            kept = torch.from_numpy(np.flatnonzero(rows >= 0))
            if len(kept) == len(rows):
                parts.append((Batch(rows, batch.inputs), state))
            elif len(kept):
                inputs = {name: tensor[kept] for name, tensor in batch.inputs.items()}
                parts.append((Batch(rows[kept.numpy()], inputs), state[kept]))
        return StoredStates(self.layer, parts)


def in_few_parts(parts: Sequence[tuple[Batch, Tensor]], most: int) -> Iterator[tuple[Batch, Tensor]]:
    """Give neighbouring parts joined, as long as they hold at most `most` samples together; none of them is padded."""
    yield from map(_joined, _up_to(parts, most))


def _up_to(parts: Sequence[tuple[Batch, Tensor]], most: int) -> Iterator[list[tuple[Batch, Tensor]]]:
    """Give neighbouring parts together, as long as they hold at most `most` samples."""
    some: list[tuple[Batch, Tensor]] = []
    for part in parts:
        if some and sum(len(batch.rows) for batch, _ in (*some, part)) > most:
            yield some
            some = []
        some.append(part)
    if some:
        yield some


def _joined(parts: Sequence[tuple[Batch, Tensor]]) -> tuple[Batch, Tensor]:
    inputs = {name: torch.cat([batch.inputs[name] for batch, _ in parts]) for name in parts[0][0].inputs}
    rows = np.concatenate([batch.rows for batch, _ in parts])
    return Batch(rows, inputs), torch.cat([state for _, state in parts])


@dataclass(frozen=True)
class Recorded:
    """What one pass over a split recorded.

    Attributes:
        values: `[sample, neuron]` float32 per site.
        moments: per site.
        states: per layer that was kept for replay.
        log_probabilities, prediction: of the unedited model `[sample, concept]` and `[sample]`, or None where it was
            not run to its head.
        tokens: per site, where they were taken.
    """

    values: dict[Site, FloatArray]
    moments: dict[Site, ConceptStatistics]
    states: dict[int, StoredStates]
    log_probabilities: FloatArray | None
    prediction: IntArray | None
    tokens: dict[Site, Tokens] = field(default_factory=dict)


STAGE = "activations"
FORMAT = 2  # of one pass; raised when its arrays change
MOST_STATE_BYTES = 1 << 30
"""States past this size are not kept on disk: computing them again costs less than it looks, and they fill it."""


def save(store: Store, key: str, recorded: Recorded, inputs: dict[str, Any], budget: StateBudget) -> None:
    """Keep one pass under its fingerprint; where its states are too large, or past the budget, it is not found again."""
    size = sum(state.numel() * state.element_size() for kept in recorded.states.values() for _, state in kept.parts)
    if size > min(MOST_STATE_BYTES, budget.most_bytes):
        return
    arrays: dict[str, NDArray[Any]] = {f"values/{site}": values for site, values in recorded.values.items()}
    for site, moments in recorded.moments.items():
        arrays |= {f"{name}/{site}": np.asarray(getattr(moments, name)) for name in MOMENTS}
    if recorded.log_probabilities is not None:
        arrays |= {"log_probabilities": recorded.log_probabilities, "prediction": np.asarray(recorded.prediction)}
    layout: dict[str, Any] = {}
    for layer, kept in recorded.states.items():
        dtypes = [str(state.dtype).removeprefix("torch.") for _, state in kept.parts]
        names = list(kept.parts[0][0].inputs) if kept.parts else []
        layout[str(layer)] = {"parts": len(kept.parts), "dtype": dtypes[0] if dtypes else "float32", "inputs": names}
        for number, (batch, state) in enumerate(kept.parts):
            arrays[f"rows/{layer}/{number}"] = batch.rows
            arrays[f"state/{layer}/{number}"] = (
                state.cpu().contiguous().view(torch.uint8).numpy()
            )  # numpy has no bfloat16
            arrays |= {f"{name}/{layer}/{number}": tensor.cpu().numpy() for name, tensor in batch.inputs.items()}
    for site, tokens in recorded.tokens.items():
        arrays |= _of_tokens(tokens, str(site))
    sites = [[site.layer, site.name] for site in recorded.values]
    seen = {str(site): tokens.seen for site, tokens in recorded.tokens.items()}
    store.save(STAGE, key, arrays, {"inputs": inputs, "sites": sites, "states": layout, "tokens": seen})


def load(store: Store, key: str, budget: StateBudget) -> Recorded | None:
    """Return a pass that was kept, or None; its states come within the budget, and past it over the budget's file."""
    found = store.opened(STAGE, key)
    if found is None:
        return None
    arrays, manifest = found
    sites = [Site(layer, name) for layer, name in manifest["sites"]]
    seen = manifest.get("tokens", {})
    states = {int(layer): _states(int(layer), layout, arrays, budget) for layer, layout in manifest["states"].items()}
    return Recorded(
        values={site: arrays[f"values/{site}"] for site in sites},
        moments={site: ConceptStatistics(*(arrays[f"{name}/{site}"] for name in MOMENTS)) for site in sites},
        states=states,
        log_probabilities=arrays.get("log_probabilities"),
        prediction=arrays.get("prediction"),
        tokens={site: _tokens(arrays, str(site), seen[str(site)]) for site in sites if str(site) in seen},
    )


def _of_tokens(tokens: Tokens, site: str) -> dict[str, NDArray[Any]]:
    """Return a site's tokens as arrays by name."""
    arrays: dict[str, NDArray[Any]] = {f"tokens/{site}": tokens.values, f"token_owner/{site}": tokens.owner}
    for labelling, labels in tokens.labels.items():
        arrays[f"token_labels/{site}/{labelling}"] = labels
        own = tokens.statistics[labelling]
        arrays |= {f"token_{name}/{site}/{labelling}": np.asarray(getattr(own, name)) for name in MOMENTS}
    return arrays | scatter_arrays(tokens.scatter, f"scatter/{site}")


def _tokens(arrays: Mapping[str, NDArray[Any]], site: str, seen: int) -> Tokens:
    labels, statistics = {}, {}
    for labelling in ("none", SHUFFLED):
        if f"token_labels/{site}/{labelling}" in arrays:
            labels[labelling] = arrays[f"token_labels/{site}/{labelling}"]
            moments = (arrays[f"token_{name}/{site}/{labelling}"] for name in MOMENTS)
            statistics[labelling] = ConceptStatistics(*moments)
    scatter = read_scatter(arrays, f"scatter/{site}")
    return Tokens(arrays[f"tokens/{site}"], arrays[f"token_owner/{site}"], labels, seen, statistics, scatter)


def _states(
    layer: int, layout: dict[str, Any], arrays: Mapping[str, NDArray[Any]], budget: StateBudget
) -> StoredStates:
    parts = []
    for number in range(layout["parts"]):
        inputs = {name: torch.from_numpy(arrays[f"{name}/{layer}/{number}"]) for name in layout["inputs"]}
        raw = torch.from_numpy(arrays[f"state/{layer}/{number}"])
        state = budget.keep(_as_dtype(raw, layout["dtype"]))
        parts.append((Batch(arrays[f"rows/{layer}/{number}"], inputs), state))
    return StoredStates(layer, parts)


def _as_dtype(raw: Tensor, dtype: str) -> Tensor:
    kind: torch.dtype = getattr(torch, dtype)
    return raw.view(kind) if raw.numel() else raw.to(kind)
