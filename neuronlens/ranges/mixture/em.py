"""Batched EM for one-dimensional Gaussian mixtures: every (concept, neuron) is a problem of its own, all run at once.

The arithmetic is that of scikit-learn's GaussianMixture (covariance_type 'full', which in one dimension is 'spherical'):
the same guard against empty components, the same floor added to the variances, the same stopping rule. So one start
gives the same parameters, and only the bookkeeping differs: a limited number of problems is in flight, and each one
that stops hands its slot to the next in the queue, so that no problem pays for another's slow convergence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neuronlens.errors import ConfigError, ShapeError
from neuronlens.ranges.mixture.problems import Mixture, MixtureFit, Problems, similar_counts

# Float64 elements [slot, component, sample] in flight: few enough for a CPU core's cache, many enough to fill a GPU.
IN_FLIGHT = {"cpu": 65_536, "cuda": 30_000_000}
# Problems that have stopped wait for their slot to be cleared until they are this share of those in flight, one in ...
LANDING_SHARE = 8
# What scikit-learn adds to every component's mass, so that an empty one divides by something.
EMPTY_GUARD = 10 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class _Flight:
    """The problems in flight; every field's first dimension is the slot.

    `values [slot, 1, sample]` and `inside` (how many samples a value stands for: 1, 0 for padding; None where all are 1),
    `count [slot]`, `weights, means, variances [slot, component, 1]`, `bound` (of the step before), `steps`, `running` and
    `converged`, all `[slot]`.
    """

    problem: Tensor
    values: Tensor
    inside: Tensor | None
    count: Tensor
    weights: Tensor
    means: Tensor
    variances: Tensor
    bound: Tensor
    steps: Tensor
    running: Tensor
    converged: Tensor

    def keep(self, index: Tensor) -> _Flight:
        """Return the flight with some slots only."""
        parts: dict[str, Any] = {name: None if part is None else part[index] for name, part in vars(self).items()}
        return replace(self, **parts)

    def put(self, slots: Tensor, arrivals: _Flight) -> None:
        """Overwrite some slots with new problems."""
        for name, part in vars(self).items():
            if part is not None:
                part[slots] = getattr(arrivals, name)


def fit_em(
    problems: Problems, start: Mixture, *, tol: float = 1e-3, max_iter: int = 100, variance_floor: float = 1e-6
) -> MixtureFit:
    """Return the mixtures that EM reaches from `start`, on the device of the samples.

    A problem stops once its mean log-likelihood changes by less than `tol` between two steps, or after `max_iter`.
    Problems do not influence each other.

    Args:
        start: where EM begins, `[problem, component]`.
        tol: nats per sample.
        variance_floor: added to every variance at every step (scikit-learn's reg_covar), squared units of the samples.

    Raises:
        ShapeError: the arguments do not describe the same problems.
        ConfigError: `max_iter` below 1.

    Source: Dempster, Laird and Rubin 1977; the stopping rule and the guards are scikit-learn's.
    """
    samples, counts, _ = problems
    if any(part.shape[0] != len(samples) for part in start) or counts.shape != (len(samples),):
        raise ShapeError(f"{len(samples)} problems, {len(counts)} counts, {start.means.shape[0]} starts.")
    if max_iter < 1:
        raise ConfigError(f"max_iter is {max_iter}, expected at least 1.")
    fit = MixtureFit(
        mixture=Mixture(*(torch.empty_like(part) for part in start)),
        log_likelihood=samples.new_empty(len(samples)),
        lower_bound=samples.new_empty(len(samples)),
        iterations=torch.empty_like(counts),
        converged=torch.empty_like(counts, dtype=torch.bool),
    )
    for rows, width in similar_counts(counts):
        _solve(problems, width, start, rows, fit, tol, max_iter, variance_floor)
    return fit


def mean_log_density(problems: Problems, mixture: Mixture) -> Tensor:
    """Return the mean log-density of each problem's samples under its mixture `[problem]`, nats."""
    result = torch.empty_like(problems.samples[:, 0])
    for rows, width in similar_counts(problems.counts):
        for part in rows.split(_room(problems.samples, width, mixture.means.shape[1])):
            result[part] = _mean_log_density(_load(problems, width, mixture, part))
    return result


def _room(samples: Tensor, width: int, components: int) -> int:
    """Return how many problems fit in flight at once."""
    halves = 8 // samples.element_size()  # twice as many float32
    return max(halves * IN_FLIGHT[samples.device.type] // (components * width), 4)


def _solve(
    problems: Problems,
    width: int,
    start: Mixture,
    queue: Tensor,
    fit: MixtureFit,
    tol: float,
    max_iter: int,
    variance_floor: float,
) -> None:
    """Run the problems in `queue`, of at most `width` samples, and write what they reach into their rows of `fit`."""
    flight = _load(problems, width, start, queue[: _room(problems.samples, width, start.means.shape[1])])
    queue = queue[len(flight.problem) :]
    while len(flight.problem):
        flight = _step(flight, tol, max_iter, variance_floor)
        done = torch.nonzero(~flight.running).flatten()
        if len(done) < max(len(flight.problem) // LANDING_SHARE, 1):
            continue
        _record(flight.keep(done), fit)
        arrivals = queue[: len(done)]
        queue = queue[len(done) :]
        stays = flight.running.clone()
        if len(arrivals):
            stays[done[: len(arrivals)]] = True
            flight.put(done[: len(arrivals)], _load(problems, width, start, arrivals))
        if len(arrivals) < len(done):
            flight = flight.keep(stays)


def _load(problems: Problems, width: int, start: Mixture, rows: Tensor) -> _Flight:
    """Return some problems at their start."""
    samples, counts, multiplicity = problems.rows(rows, width)
    inside = multiplicity
    if inside is None and bool((problems.counts < width).any()):
        inside = (torch.arange(width, device=samples.device) < counts[:, None]).to(samples.dtype)
    weights, means, variances = (part[rows, :, None] for part in start)
    return _Flight(
        problem=rows,
        values=samples[:, None],
        inside=None if inside is None else inside[:, None],
        count=counts.to(samples.dtype) if multiplicity is None else multiplicity.sum(dim=1),
        weights=weights,
        means=means,
        variances=variances,
        bound=torch.full_like(counts, -math.inf, dtype=samples.dtype),
        steps=torch.zeros_like(counts),
        running=torch.ones_like(counts, dtype=torch.bool),
        converged=torch.zeros_like(counts, dtype=torch.bool),
    )


def _log_density(flight: _Flight) -> tuple[Tensor, Tensor, Tensor]:
    """Return z = (x - mean)/std and log w + log p, `[slot, component, sample]`, and the latter's largest component."""
    z = flight.values - flight.means
    z *= flight.variances.rsqrt()
    constant = flight.weights.log() - 0.5 * (2 * math.pi * flight.variances).log()
    log_density = torch.addcmul(constant, z, z, value=-0.5)
    return z, log_density, log_density.amax(dim=1, keepdim=True)


def _mean(values: Tensor, flight: _Flight) -> Tensor:
    """Return the mean `[slot]` of `values [slot, 1, sample]` over each problem's own samples; `values` is used up."""
    if flight.inside is not None:
        values *= flight.inside
    return values.sum(dim=(1, 2)) / flight.count


def _mean_log_density(flight: _Flight) -> Tensor:
    """Return the mean log-density of each problem in flight `[slot]`."""
    _, log_density, top = _log_density(flight)
    return _mean(log_density.sub_(top).exp_().sum(dim=1, keepdim=True).log_().add_(top), flight)


def _step(flight: _Flight, tol: float, max_iter: int, variance_floor: float) -> _Flight:
    """Return the flight after one E-step and one M-step; problems that have stopped stay as they are."""
    z, share, top = _log_density(flight)
    share.sub_(top).exp_()
    total = share.sum(dim=1, keepdim=True)
    share /= total
    bound = _mean(total.log_().add_(top), flight)
    if flight.inside is not None:
        share *= flight.inside
    # Moments of z, in units of the old component: nothing cancels, however far from 0 the data lie.
    mass = share.sum(dim=2, keepdim=True)
    share *= z
    first = share.sum(dim=2, keepdim=True)
    share *= z
    second = share.sum(dim=2, keepdim=True)
    guarded = mass + EMPTY_GUARD
    std = flight.variances.sqrt()
    means = (flight.means * mass + std * first) / guarded
    moved = (means - flight.means) / std
    spread = (second - 2 * moved * first + moved.square() * mass).clamp_(min=0) / guarded
    running, wide = flight.running, flight.running[:, None, None]
    close = (bound - flight.bound).abs() < tol
    steps = flight.steps + running
    return replace(
        flight,
        weights=torch.where(wide, guarded / guarded.sum(dim=1, keepdim=True), flight.weights),
        means=torch.where(wide, means, flight.means),
        variances=torch.where(wide, flight.variances * spread + variance_floor, flight.variances),
        bound=torch.where(running, bound, flight.bound),
        steps=steps,
        running=running & ~close & (steps < max_iter),
        converged=torch.where(running, close, flight.converged),
    )


def _record(landed: _Flight, fit: MixtureFit) -> None:
    """Write problems that have stopped into their rows of `fit`."""
    rows = landed.problem
    for target, part in zip(fit.mixture, (landed.weights, landed.means, landed.variances), strict=True):
        target[rows] = part[..., 0]
    fit.log_likelihood[rows] = _mean_log_density(landed)
    fit.lower_bound[rows] = landed.bound
    fit.iterations[rows] = landed.steps
    fit.converged[rows] = landed.converged
