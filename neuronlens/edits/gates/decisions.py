"""What a gate decides by where a `Score` is not enough: of the whole sample, softly, or by another formula."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from neuronlens.edits.gates.base import Score
from neuronlens.hooks.tokens import Over, Tokens
from neuronlens.records import FloatArray


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A score of features: the gate is open where it is above 0, or, if soft, as far as its logistic function says.

    Tensors float64.

    Attributes:
        over: what the features are averaged over, at the grain `sample`; None where each position decides for itself.
        soft: open by a share in (0, 1) and not all or nothing.
    """

    over: Over | None = None
    soft: bool = False

    def features(self, values: Tensor) -> Tensor:
        """Return what is averaged `[..., feature]`, of values `[..., neuron]`: the values themselves."""
        return values

    def score(self, features: Tensor) -> Tensor:
        """Return the score `[...]` of features `[..., feature]`."""
        raise NotImplementedError

    def scores(self, values: FloatArray) -> FloatArray:
        """Return the scores `[sample]` of record vectors `[sample, neuron]`, float64."""
        return self.score(self.features(torch.from_numpy(np.asarray(values, dtype=np.float64)))).numpy()

    def opened(self, values: Tensor, tokens: Tokens | None, place: int) -> Tensor:
        """Return how far the gate is open `[sample, position]`, float64 in [0, 1].

        Args:
            values: `[sample, position, neuron]`, float64.
            tokens: of the forward, where `over` asks for a mean.
            place: of the gate among the edit's cells.
        """
        features = self.features(values)
        if self.over is not None:
            assert tokens is not None, "a gate that decides per sample is given the tokens"
            features = tokens.mean(features, self.over, place)
        found = self.score(features)
        opened = found.sigmoid() if self.soft else (found > 0).to(torch.float64)
        return opened.expand(values.shape[:2])

    def to(self, device: torch.device | str) -> Self:
        """Return the decision on `device`."""
        moved: dict[str, Any] = {
            entry.name: getattr(self, entry.name).to(device)
            for entry in fields(self)
            if isinstance(getattr(self, entry.name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class Quadratic(Decision):
    """sum_j quadratic_j x_j^2 + linear_j x_j + constant, as of a `Score` without a ceiling."""

    quadratic: Tensor
    linear: Tensor
    constant: float

    @classmethod
    def of(cls, score: Score, *, over: Over | None = None, soft: bool = False) -> Quadratic:
        """Return a position's score as one of the whole sample, or a soft one."""
        quadratic, linear = (torch.from_numpy(np.asarray(part, np.float64)) for part in (score.quadratic, score.linear))
        return cls(quadratic, linear, score.constant, over=over, soft=soft)

    def score(self, features: Tensor) -> Tensor:
        """Return the quadratic."""
        return features.square() @ self.quadratic + features @ self.linear + self.constant


@dataclass(frozen=True)
class LogOdds(Decision):
    """log p(c | x) - log (1 - p(c | x)) - threshold, p the softmax over classes of linear scores.

    Attributes:
        weights, bias: of each class `[class, neuron]`, `[class]`.
        concept: place of c among the classes.
        threshold: in nats.
    """

    weights: Tensor
    bias: Tensor
    concept: int
    threshold: float

    def score(self, features: Tensor) -> Tensor:
        """Return the log-odds above the threshold."""
        every = features @ self.weights.T + self.bias
        own = torch.arange(every.shape[-1], device=every.device) == self.concept
        return every[..., self.concept] - every.masked_fill(own, -torch.inf).logsumexp(-1) - self.threshold


@dataclass(frozen=True)
class Cosine(Decision):
    """cos(h, tanh(P h)) past a threshold, P = c c' / c'c (CAST).

    Attributes:
        direction: c `[neuron]`.
        threshold: the cosine at which it opens.
        above: whether it opens above the threshold, or below.
    """

    direction: Tensor
    threshold: float
    above: bool

    def score(self, features: Tensor) -> Tensor:
        """Return by how much the cosine is on the open side."""
        along = (features @ self.direction) / (self.direction @ self.direction)
        similar = torch.cosine_similarity(features, torch.tanh(along[..., None] * self.direction), dim=-1)
        return similar - self.threshold if self.above else self.threshold - similar
