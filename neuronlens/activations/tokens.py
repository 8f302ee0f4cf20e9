"""What is taken of every token of a split while it is read: exact moments from one stream, and a seeded sample of tokens.

Nothing is kept per token but the sample, so memory does not grow with the number of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuronlens.activations.moments import ConceptMoments, ScatterMoments
from neuronlens.config.knobs import everywhere, fits_on_tokens, reads_covariance
from neuronlens.config.schema import TOKEN_POSITIONS, Config
from neuronlens.hooks.masks import BUT_FIRST, edit_mask, prompt_mask
from neuronlens.hooks.resolver import recorded_position
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ConceptStatistics, FloatArray, IntArray, SecondMoments, Site

SHUFFLED = "shuffled_labels"
RESERVOIR = 16_384
"""Tokens of a split that are kept for what needs single values: quantiles, AUROC, mixtures, thresholds."""
MOST_VALUES = 1 << 22
"""Values `[token, neuron]` that are kept at a site, 16 MiB, where neurons are many."""
CHUNK = 8192
"""Tokens that are added at a time, in float64."""


@dataclass(frozen=True)
class TokenPlan:
    """How the tokens of a split are taken. It enters the fingerprint of the pass.

    Attributes:
        seed: of the sample of tokens, and of the shuffled labels.
        skips_first: whether each text's first token is left out.
        only_correct: whether only texts that the model answers right count.
        shuffled: whether moments under shuffled labels are taken too.
        scatter: whether the covariance is.
        size: most tokens that are kept.
    """

    seed: int
    skips_first: bool = False
    only_correct: bool = False
    shuffled: bool = False
    scatter: bool = True
    size: int = RESERVOIR


def token_plans(config: Config, loaded: LoadedModel, *, size: int = RESERVOIR) -> dict[str, TokenPlan]:
    """Return how tokens are taken, by split; none where record vectors are fitted on, or a split's tokens serve nothing."""
    if not fits_on_tokens(config):
        return {}
    every = TokenPlan(
        config.seed,
        skips_first=loaded.skips_first,
        shuffled=SHUFFLED in everywhere(config, "control"),
        scatter=reads_covariance(config),
        size=size,
    )
    plans = {"fit": replace(every, only_correct=config.evaluation.fit_on == "correct"), "select": every}
    if config.evaluation.diagnostics:
        plans["test"] = replace(every, shuffled=False, scatter=False)
    return plans


@dataclass(frozen=True)
class Tokens:
    """What a stream gave.

    Attributes:
        values: of the kept tokens `[token, neuron]` float32, in the order of their texts.
        owner: each kept token's text `[token]`.
        labels: their concepts `[token]`, by labelling: `none`, and `shuffled_labels` where that was asked for.
        seen: how many tokens there were.
        statistics: moments of all of them, by labelling.
        scatter: over all concepts together; None where it was not asked for.
    """

    values: FloatArray
    owner: IntArray
    labels: Mapping[str, IntArray]
    seen: int
    statistics: Mapping[str, ConceptStatistics]
    scatter: SecondMoments | None


class TokenStream:
    """Adds the tokens of one site up, batch by batch."""

    def __init__(
        self, plan: TokenPlan, labels: IntArray, concepts: int, neurons: int, device: torch.device | str
    ) -> None:
        """Start with no token seen.

        Args:
            labels: concept index of every text `[text]`.
        """
        self.labels = {"none": torch.from_numpy(np.asarray(labels, dtype=np.int64))}
        if plan.shuffled:
            order = np.random.default_rng([plan.seed, len(labels)]).permutation(len(labels))
            self.labels[SHUFFLED] = self.labels["none"][torch.from_numpy(order)]
        self.moments = {name: ConceptMoments(concepts, neurons, device) for name in self.labels}
        self.scatter = ScatterMoments(neurons, device) if plan.scatter else None
        self.sample = _Reservoir(plan.seed, min(plan.size, max(1, MOST_VALUES // neurons)), neurons)
        self.seen = 0

    def update(self, hidden: Tensor, mask: Tensor, rows: IntArray) -> None:
        """Add the tokens under a mask.

        Args:
            hidden: `[text, position, neuron]`; not modified.
            mask: which of them count `[text, position]`.
            rows: which texts these are `[text]`.
        """
        vectors, mask = hidden.detach()[mask], mask.cpu()
        owner = torch.from_numpy(np.asarray(rows, dtype=np.int64))[:, None].expand(mask.shape)[mask]
        place = (mask.cumsum(1) - 1)[mask]  # from the first token that counts, so that padding plays no part
        self.seen += len(owner)
        for start in range(0, len(owner), CHUNK):
            chunk = slice(start, start + CHUNK)
            wide = vectors[chunk].to(torch.float64)
            for name, moments in self.moments.items():
                moments.update(wide, self.labels[name][owner[chunk]].to(wide.device))
            if self.scatter is not None:
                self.scatter.update(wide)
        self.sample.update(vectors, owner.numpy(), place.numpy())

    def result(self) -> Tokens:
        """Return what there is so far."""
        values, owner = self.sample.kept()
        labels = {name: own.numpy()[owner] for name, own in self.labels.items()}
        statistics = {name: moments.statistics() for name, moments in self.moments.items()}
        scatter = None if self.scatter is None else self.scatter.moments()
        return Tokens(values, owner, labels, self.seen, statistics, scatter)


def token_mask(model: nn.Module, site: Site, inputs: Mapping[str, Tensor], *, reads: str, skips_first: bool) -> Tensor:
    """Return which positions of a batch are fitted on, bool `[text, position]`: where an edit of all tokens can act.

    Below the last block these are the attended tokens of the prompt, without the first one where that is left out. Above
    the last block no position is mixed with another any more, so there it is the one that the head reads.
    """
    attended, prompt = inputs["attention_mask"] != 0, prompt_mask(inputs)
    position = recorded_position(model, site, "live_mean", reads=reads)
    if position in TOKEN_POSITIONS:
        return edit_mask(attended, prompt, position)
    return edit_mask(attended, prompt, BUT_FIRST["prompt"] if skips_first else "prompt")


class _Reservoir:
    """Keeps the tokens of the smallest keys. A key is a hash of seed, text and place, so batches play no part in the draw."""

    def __init__(self, seed: int, size: int, neurons: int) -> None:
        self.seed, self.size = seed, size
        self.parts: list[tuple[NDArray[np.uint64], IntArray, IntArray, FloatArray]] = []
        self.held, self.highest = 0, np.uint64(2**64 - 1)
        self.parts.append(
            (np.empty(0, np.uint64), *np.empty((2, 0), np.int64), np.empty((0, neurons), dtype=np.float32))
        )

    def update(self, vectors: Tensor, owner: IntArray, place: IntArray) -> None:
        keys = _keys(self.seed, owner, place)
        near = np.flatnonzero(keys < self.highest)
        values = vectors[torch.from_numpy(near).to(vectors.device)].float().cpu().numpy()
        self.parts.append((keys[near], owner[near], place[near], values))
        self.held += len(near)
        if self.held > 2 * self.size:
            self._compact()

    def _compact(self) -> None:
        keys, owner, place, values = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        if len(keys) > self.size:
            kept = np.argpartition(keys, self.size)[: self.size]
            keys, owner, place, values = keys[kept], owner[kept], place[kept], values[kept]
            self.highest = keys.max()
        self.parts, self.held = [(keys, owner, place, values)], len(keys)

    def kept(self) -> tuple[FloatArray, IntArray]:
        self._compact()
        _, owner, place, values = self.parts[0]
        order = np.lexsort((place, owner))
        return values[order], owner[order]


def _keys(seed: int, owner: IntArray, place: IntArray) -> NDArray[np.uint64]:
    """Return a well-mixed number for each token (splitmix64, Steele, Lea & Flood 2014)."""
    mixed = owner.astype(np.uint64) << np.uint64(32) | place.astype(np.uint64)
    for salt in (0, seed):  # mixed first: otherwise another seed would swap the numbers of neighbouring tokens
        mixed = (mixed ^ np.uint64(salt)) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed
