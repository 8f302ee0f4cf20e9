"""Where EM begins: mixtures read off the sorted samples of each problem, and a race that picks the best of several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuronlens.errors import ConfigError, unknown
from neuronlens.ranges.em import Mixture, Problems, fit_em, mean_log_density

INITS = ("quantile", "kmeans++")
LLOYD_STEPS = 12
# The race is run on a digest of each problem: its outermost samples, and between them the means of equal runs.
DIGEST, DIGEST_TAIL = 96, 16
RACE_STEPS, RACE_TOL = 20, 1e-3
TAIL_SHARE = 12


class Sorted(NamedTuple):
    """Samples `[problem, sample]` in ascending order, padded with +inf, and what makes any block's moments cheap.

    `centre [problem]` is each problem's mean; `first, second [problem, sample + 1]` are running sums of x - centre and of
    its square, so that a block's moments are differences of two entries.
    """

    values: Tensor
    counts: Tensor
    centre: Tensor
    first: Tensor
    second: Tensor


def race(
    problems: Problems, data: Sorted, components: int, *, init: str, restarts: int, seed: int, variance_floor: float
) -> Mixture:
    """Return the most likely of several starts after a few EM steps, one mixture per problem, float64.

    Every start runs on a digest of at most `DIGEST` points, where a step costs a fraction of one on the samples; then the
    log-likelihood of all samples decides. Ties go to the start named first. All of it in float32, around each problem's
    mean: a start need not be exact.

    Args:
        data: `sort_samples(problems)`.
        init: `quantile` races the starts that are read off the data: k-means from blocks of equal count, k-means from evenly
            spaced centres, a core with its tails. `kmeans++` races those and `restarts` random ones.
        seed: of the random starts; the draws of a problem depend on it and the problem's place alone.
    Raises:
        ConfigError: `init` is unknown.
    """
    if init not in INITS:
        raise ConfigError(unknown("range.init", init, INITS))
    centre = data.centre[:, None]
    digest = _digest(data)
    rough = problems._replace(samples=(problems.samples - centre).float())
    best, best_score = None, None
    for start in _starts(data, components, init, restarts, seed, variance_floor):
        near = Mixture(start.weights.float(), (start.means - centre).float(), start.variances.float())
        run = fit_em(digest, near, tol=RACE_TOL, max_iter=RACE_STEPS, variance_floor=variance_floor).mixture
        score = mean_log_density(rough, run)
        if best is None or best_score is None:
            best, best_score = run, score
            continue
        ahead = score > best_score
        best = Mixture(*(torch.where(ahead[:, None], new, old) for new, old in zip(run, best, strict=True)))
        best_score = torch.where(ahead, score, best_score)
    assert best is not None
    weights, means, variances = (part.double() for part in best)
    # Weights that round to 1 in float32 do so less well in float64, and scikit-learn asks for it.
    return Mixture(weights / weights.sum(dim=1, keepdim=True), means + centre, variances)


def sort_samples(problems: Problems) -> Sorted:
    """Return the samples sorted, with their running moments."""
    inside = torch.arange(problems.samples.shape[1], device=problems.samples.device) < problems.counts[:, None]
    values = problems.samples.masked_fill(~inside, torch.inf)
    # numpy sorts rows several times faster than torch, which sorts their indices along.
    on_cpu = values.device.type == "cpu"
    values = torch.from_numpy(np.sort(values.numpy(), axis=1)) if on_cpu else values.sort(dim=1).values
    centre = problems.samples.masked_fill(~inside, 0.0).sum(dim=1) / problems.counts
    away = (values - centre[:, None]).masked_fill_(~inside, 0.0)
    zero = torch.zeros_like(centre)[:, None]
    first = torch.cat([zero, away.cumsum(dim=1)], dim=1)
    return Sorted(values, problems.counts, centre, first, torch.cat([zero, away.square_().cumsum(dim=1)], dim=1))


def quantile_start(data: Sorted, components: int, variance_floor: float) -> Mixture:
    """Return the mixture of `components` consecutive blocks of equal sample count."""
    shares = torch.arange(1, components, device=data.counts.device)
    return _of_blocks(data, shares * data.counts[:, None] // components, variance_floor)


def kmeans_start(data: Sorted, centres: Tensor, variance_floor: float) -> Mixture:
    """Return the mixture of the clusters that Lloyd's k-means reaches from `centres [problem, component]`."""
    cuts = _cuts_between(data, centres)
    for _ in range(LLOYD_STEPS):
        moved = _cuts_between(data, _of_blocks(data, cuts, variance_floor).means)
        if torch.equal(moved, cuts):
            break
        cuts = moved
    return _of_blocks(data, cuts, variance_floor)


def core_start(data: Sorted, components: int, variance_floor: float) -> Mixture:
    """Return a core and its two tails (of 1/12 of the samples each); for two components the tails are one, and broad."""
    counts = data.counts[:, None]
    tail = counts // TAIL_SHARE
    inner = torch.arange(components - 1, device=counts.device)
    cuts = tail + inner * (counts - 2 * tail) // max(components - 2, 1)
    if components > 2:
        return _of_blocks(data, cuts, variance_floor)
    core = _of_blocks(data, torch.cat([tail, counts - tail], dim=1), variance_floor)
    both = core.weights[:, ::2] / core.weights[:, ::2].sum(dim=1, keepdim=True)
    mean = (both * core.means[:, ::2]).sum(dim=1)
    square = (both * (core.variances + core.means.square())[:, ::2]).sum(dim=1)
    around = (square - mean.square()).clamp(min=variance_floor)
    return Mixture(
        torch.stack([core.weights[:, 1], 1 - core.weights[:, 1]], dim=1),
        torch.stack([core.means[:, 1], mean], dim=1),
        torch.stack([core.variances[:, 1], around], dim=1),
    )


def spread_centres(data: Sorted, components: int, generator: torch.Generator) -> Tensor:
    """Return centres `[problem, component]` drawn among the samples, far ones likelier: k-means++.

    Every centre after the first is drawn with a probability proportional to the squared distance to the nearest one drawn
    so far (Arthur and Vassilvitskii 2007).
    """
    draws = torch.rand(len(data.counts), components, generator=generator, dtype=torch.float64).to(data.centre.device)
    inside = torch.arange(data.values.shape[1], device=data.centre.device) < data.counts[:, None]
    centres = data.values.gather(1, (draws[:, :1] * data.counts[:, None]).long())
    gaps = torch.full_like(data.values, torch.inf)
    for place in range(1, components):
        gaps = torch.minimum(gaps, (data.values - centres[:, -1:]).square_()).masked_fill_(~inside, 0.0)
        chances = gaps.cumsum(dim=1)
        pick = torch.searchsorted(chances, draws[:, place : place + 1] * chances[:, -1:], right=True)
        pick = torch.minimum(pick, data.counts[:, None] - 1)
        centres = torch.cat([centres, data.values.gather(1, pick)], dim=1)
    return centres


def _starts(
    data: Sorted, components: int, init: str, restarts: int, seed: int, variance_floor: float
) -> Iterator[Mixture]:
    """Yield the starts of a race: k-means from equal blocks and from evenly spaced centres, core and tails, k-means++."""
    yield kmeans_start(data, quantile_start(data, components, variance_floor).means, variance_floor)
    last = data.values.gather(1, data.counts[:, None] - 1)
    steps = torch.linspace(0, 1, components, dtype=torch.float64, device=last.device)
    yield kmeans_start(data, data.values[:, :1] + steps * (last - data.values[:, :1]), variance_floor)
    yield core_start(data, components, variance_floor)
    if init == "kmeans++":
        generator = torch.Generator().manual_seed(seed)
        for _ in range(restarts):
            yield kmeans_start(data, spread_centres(data, components, generator), variance_floor)


def _digest(data: Sorted) -> Problems:
    """Return at most `DIGEST` points per problem that stand for its samples: the outermost ones, and means of runs.

    In float32, around the problem's mean.
    """
    counts = data.counts[:, None]
    place = torch.arange(min(DIGEST, data.values.shape[1]) + 1, device=counts.device)
    middle = DIGEST_TAIL + (counts - 2 * DIGEST_TAIL) * (place - DIGEST_TAIL) // (DIGEST - 2 * DIGEST_TAIL)
    ends = torch.where(place >= DIGEST - DIGEST_TAIL, counts - (DIGEST - place), middle)
    ends = torch.where((place <= DIGEST_TAIL) | (counts <= DIGEST), torch.minimum(place, counts), ends)
    mass = ends.diff(dim=1)
    means = data.first.gather(1, ends).diff(dim=1) / mass.clamp(min=1)
    return Problems(means.float(), torch.full_like(data.counts, means.shape[1]), mass.float())


def _cuts_between(data: Sorted, centres: Tensor) -> Tensor:
    """Return how many samples lie below each midpoint of neighbouring centres `[problem, component - 1]`."""
    ordered = centres.sort(dim=1).values
    return torch.searchsorted(data.values, ((ordered[:, 1:] + ordered[:, :-1]) / 2).contiguous())


def _of_blocks(data: Sorted, cuts: Tensor, variance_floor: float) -> Mixture:
    """Return weights, means and variances of the blocks between the cuts `[problem, component - 1]`.

    A block without samples becomes a copy of the whole problem with the weight of one sample, for EM to use.
    """
    ends = torch.cat([torch.zeros_like(data.counts)[:, None], cuts, data.counts[:, None]], dim=1)
    mass = ends.diff(dim=1)
    share = mass.clamp(min=1).double()
    mean = data.first.gather(1, ends).diff(dim=1) / share
    spread = (data.second.gather(1, ends).diff(dim=1) / share - mean.square()).clamp_(min=0)
    spread = torch.where(mass > 0, spread, data.second[:, -1:] / data.counts[:, None])
    return Mixture(share / share.sum(dim=1, keepdim=True), data.centre[:, None] + mean, spread + variance_floor)
