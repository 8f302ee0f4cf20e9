"""Sorted samples cut into blocks: in one dimension every clustering by nearest centre is a choice of cuts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neuronlens.ranges.mixture.problems import Mixture, Problems

# The cuts that are searched over: the outermost samples singly, then evenly spaced places.
PLACES, OUTERMOST = 24, (1, 2, 3, 5, 8)
LEAST = 2
"""Samples of a block that the likelihood is maximised over: one alone would be infinitely likely."""


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


def of_blocks(data: Sorted, cuts: Tensor, variance_floor: float) -> Mixture:
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


def cuts_between(data: Sorted, centres: Tensor) -> Tensor:
    """Return how many samples lie below each midpoint of neighbouring centres `[problem, component - 1]`."""
    ordered = centres.sort(dim=1).values
    return torch.searchsorted(data.values, ((ordered[:, 1:] + ordered[:, :-1]) / 2).contiguous())


def gap_cuts(data: Sorted, components: int) -> Tensor:
    """Return the cuts at the `components - 1` largest gaps between neighbouring samples `[problem, component - 1]`."""
    gaps = data.values.diff(dim=1)
    inside = torch.arange(1, data.values.shape[1], device=gaps.device) < data.counts[:, None]
    widest = gaps.masked_fill(~inside, -1.0).topk(components - 1, dim=1).indices
    return torch.minimum(widest.sort(dim=1).values + 1, data.counts[:, None])


def best_cuts(data: Sorted, components: int, variance_floor: float) -> tuple[Tensor, Tensor]:
    """Return two choices of cuts `[problem, component - 1]`, each the best of all that use some two dozen places.

    The first has the smallest sum of squares within blocks, the aim of k-means. The second has the largest likelihood
    when every block is a Gaussian of its own, weight included (the classification likelihood, Celeux and Govaert 1992).
    Both by dynamic programming over the places, in float32.
    """
    places = _places(data.counts)
    everywhere = slice(None)
    # [problem, from, to]: a first block from the beginning, a last one to the end, and any between.
    parts = [(slice(0, 1), everywhere), (everywhere, slice(-1, None)), (everywhere, everywhere)][: min(components, 3)]
    costs = [_block_costs(data, places[:, begin], places[:, end], variance_floor) for begin, end in parts]
    tightest, likeliest = (_cheapest([cost[kind] for cost in costs], places, components) for kind in (0, 1))
    return tightest, likeliest


def _block_costs(data: Sorted, begin: Tensor, end: Tensor, variance_floor: float) -> tuple[Tensor, Tensor]:
    """Return the sum of squares of blocks, and their negative log-likelihood but for a constant, `[problem, from, to]`.

    Args:
        begin, end: how many samples lie below a block's two ends, `[problem, from]` and `[problem, to]`.
    """
    mass = end[:, None, :] - begin[:, :, None]
    share = mass.clamp(min=1).float()
    mean, square = (
        (sums.gather(1, end).float()[:, None, :] - sums.gather(1, begin).float()[:, :, None]) / share
        for sums in (data.first, data.second)
    )
    variance = square.sub_(mean.square_()).clamp_(min=0)
    squares = (share * variance).masked_fill_(mass < 1, torch.inf)
    lost = (variance + variance_floor).log_().mul_(0.5).sub_((share / data.counts[:, None, None]).log_()).mul_(share)
    return squares, lost.masked_fill_(mass < LEAST, torch.inf)


def _places(counts: Tensor) -> Tensor:
    """Return numbers of samples `[problem, place]` that a cut may leave below it, from 0 to all, ascending."""
    total = counts[:, None]
    outer = torch.tensor(OUTERMOST, device=counts.device)
    evenly = torch.arange(1, PLACES - 2 * len(outer) - 1, device=counts.device)
    margin = OUTERMOST[-1]
    inner = margin + (total - 2 * margin) * evenly // (len(evenly) + 1)
    ends = outer.expand(len(counts), -1), total - outer.flip(0)
    places = torch.cat([torch.zeros_like(total), ends[0], inner, ends[1], total], dim=1)
    few = total * torch.arange(places.shape[1], device=counts.device) // (places.shape[1] - 1)
    return torch.where(total >= 4 * margin, places, few)


def _cheapest(costs: list[Tensor], places: Tensor, components: int) -> Tensor:
    """Return the cuts `[problem, component - 1]` of the blocks that cost least together, from the first place to the last.

    Args:
        costs: of a first block, a last one and (for three blocks or more) any other, `[problem, from, to]`, infinite where
            there can be none.
    """
    if components == 1:
        return places[:, :0]
    total, came_from = costs[0][:, 0], []
    for _ in range(components - 2):
        total, arrived = (total[:, :, None] + costs[2]).min(dim=1)
        came_from.append(arrived)
    place = (total + costs[1][:, :, 0]).argmin(dim=1, keepdim=True)
    cuts = [places.gather(1, place)]
    for arrived in reversed(came_from):
        place = arrived.gather(1, place)
        cuts.insert(0, places.gather(1, place))
    return torch.cat(cuts, dim=1)
