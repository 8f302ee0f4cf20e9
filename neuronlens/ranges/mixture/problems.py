"""The data of one-dimensional fits, and what a fit of them is: records of tensors, one row per problem."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Mixture(NamedTuple):
    """One mixture per problem, float64 `[problem, component]`: weights that sum to 1, means, variances above 0."""

    weights: Tensor
    means: Tensor
    variances: Tensor


class MixtureFit(NamedTuple):
    """What EM arrived at.

    Attributes:
        mixture: the parameters after the last M-step.
        log_likelihood: mean log-density per sample under `mixture` `[problem]`, nats.
        lower_bound: the same under the parameters before the last M-step, scikit-learn's `lower_bound_` `[problem]`.
        iterations: EM steps taken `[problem]`, int64.
        converged: whether the last change fell below the tolerance `[problem]`, bool.
    """

    mixture: Mixture
    log_likelihood: Tensor
    lower_bound: Tensor
    iterations: Tensor
    converged: Tensor


class Problems(NamedTuple):
    """The data of one-dimensional fits.

    Attributes:
        samples: `[problem, sample]` float64, finite; columns from a problem's count on are padding. (float32 works, where
            a rough answer will do.)
        counts: values of each problem `[problem]`, int64, at least 1.
        multiplicity: how many samples each value stands for `[problem, sample]`, as `samples`; None where each is one.
    """

    samples: Tensor
    counts: Tensor
    multiplicity: Tensor | None = None

    def rows(self, index: Tensor | slice, width: int | None = None) -> Problems:
        """Return some problems, and their first `width` columns."""
        return Problems(
            self.samples[index, :width],
            self.counts[index],
            None if self.multiplicity is None else self.multiplicity[index, :width],
        )


def similar_counts(counts: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield (problems, largest count) such that padding to it at most doubles any problem's sample count."""
    octave = torch.log2(counts.double()).ceil()
    for level in torch.unique(octave).tolist():
        rows = torch.nonzero(octave == level).flatten()
        yield rows, int(counts[rows].max())
