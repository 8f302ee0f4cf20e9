"""Where EM begins: mixtures read off the sorted samples of each problem, and a race that picks the best of several."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neuronlens.errors import ConfigError, unknown
from neuronlens.ranges.mixture.cuts import Sorted, best_cuts, cuts_between, gap_cuts, of_blocks
from neuronlens.ranges.mixture.em import fit_em, mean_log_density
from neuronlens.ranges.mixture.problems import Mixture, MixtureFit, Problems
from neuronlens.ranges.mixture.settings import INITS

LLOYD_STEPS = 12
# The race is run on a digest of each problem: its outermost samples, and between them the means of equal runs.
DIGEST, DIGEST_TAIL = 72, 12
# First heat: every start, a few steps. Second heat: as many as this (or all that are asked for), to where EM slows down.
FIRST_STEPS, SECOND_HEAT, SECOND_STEPS, RACE_TOL = 4, 3, 20, 1e-3
# A start is judged by where it is heading: its likelihood and so many times its latest gain, this much at most.
LOOKAHEAD, MOST_GAIN = 5.0, 0.05
TAIL_SHARE = 12


def race(
    problems: Problems,
    data: Sorted,
    components: int,
    *,
    init: str,
    restarts: int,
    finalists: int | None = 1,
    seed: int,
    variance_floor: float,
    fewer: Mixture | None = None,
) -> list[Mixture]:
    """Return the `finalists` most promising of several starts, one mixture per problem each, float64, best first.

    Every start takes a few EM steps on a digest of at most `DIGEST` points, where a step costs a fraction of one on the
    samples; the best of them take more, and the log-likelihood of all samples decides. Ties go to the start named first.
    All of it in float32, around each problem's mean: a start need not be exact. With `finalists` None, or as many as there
    are starts, nothing is raced and the starts come back as they are.

    Args:
        data: `sort_samples(problems)`.
        init: `quantile` races the starts that are read off the data: k-means from blocks of equal count, from evenly spaced
            centres and from the best cuts; the blocks of largest likelihood; the largest gaps; a core with its tails.
            `kmeans++` races those, `restarts` random ones, and `fewer` with the lowest or the highest sample for its own.
        seed: of the random starts; the draws of a problem depend on it and the problem's place alone.
        fewer: what was reached with one component less; None leaves its two starts out.

    Raises:
        ConfigError: `init` is unknown.
    """
    if init not in INITS:
        raise ConfigError(unknown("range.init", init, INITS))
    begun = list(_read_off(data, components, variance_floor))
    if init == "kmeans++" and components > 1:
        generator = torch.Generator().manual_seed(seed)
        centres = [spread_centres(data, components, generator) for _ in range(restarts)]
        begun += [kmeans_start(data, drawn, variance_floor) for drawn in centres]
        begun += [] if fewer is None else outlier_starts(data, fewer, variance_floor)
    if finalists is None or finalists >= len(begun):
        return begun
    centre = data.centre[:, None]
    digest = _digest(data)
    options = {"tol": RACE_TOL, "variance_floor": variance_floor}
    near = [Mixture(s.weights.float(), (s.means - centre).float(), s.variances.float()) for s in begun]
    first = [fit_em(digest, start, max_iter=FIRST_STEPS, **options) for start in near]
    heat = _best(
        [fit.mixture for fit in first],
        [_heading(fit, fit.log_likelihood) for fit in first],
        max(SECOND_HEAT, finalists),
    )
    rough = problems._replace(samples=(problems.samples - centre).float())
    second = [fit_em(digest, start, max_iter=SECOND_STEPS, **options) for start in heat]
    scores = [_heading(fit, mean_log_density(rough, fit.mixture)) for fit in second]
    chosen = []
    for weights, means, variances in _best([fit.mixture for fit in second], scores, finalists):
        # Weights that round to 1 in float32 do so less well in float64, and scikit-learn asks for it.
        weights = weights.double() / weights.double().sum(dim=1, keepdim=True)
        chosen.append(Mixture(weights, means.double() + centre, variances.double()))
    return chosen


def _heading(fit: MixtureFit, score: Tensor) -> Tensor:
    """Return a score plus the gain that further steps promise `[problem]`: EM slows down by and by, so it is a guess."""
    return score + LOOKAHEAD * (fit.log_likelihood - fit.lower_bound).clamp(0.0, MOST_GAIN)


def _best(mixtures: list[Mixture], scores: list[Tensor], count: int) -> list[Mixture]:
    """Return, per problem, the `count` mixtures of the highest scores, best first."""
    order = torch.stack(scores).argsort(dim=0, descending=True, stable=True)[:count]
    parts = [torch.stack(part) for part in zip(*mixtures, strict=True)]
    rows = torch.arange(order.shape[1], device=order.device)
    return [Mixture(*(part[place, rows] for part in parts)) for place in order]


def quantile_start(data: Sorted, components: int, variance_floor: float) -> Mixture:
    """Return the mixture of `components` consecutive blocks of equal sample count."""
    shares = torch.arange(1, components, device=data.counts.device)
    return of_blocks(data, shares * data.counts[:, None] // components, variance_floor)


def kmeans_start(data: Sorted, centres: Tensor, variance_floor: float) -> Mixture:
    """Return the mixture of the clusters that Lloyd's k-means reaches from `centres [problem, component]`."""
    cuts = cuts_between(data, centres)
    for _ in range(LLOYD_STEPS):
        moved = cuts_between(data, of_blocks(data, cuts, variance_floor).means)
        if torch.equal(moved, cuts):
            break
        cuts = moved
    return of_blocks(data, cuts, variance_floor)


def core_start(data: Sorted, components: int, variance_floor: float) -> Mixture:
    """Return a core and its two tails (of 1/12 of the samples each); for two components the tails are one, and broad."""
    counts = data.counts[:, None]
    tail = counts // TAIL_SHARE
    inner = torch.arange(components - 1, device=counts.device)
    cuts = tail + inner * (counts - 2 * tail) // max(components - 2, 1)
    if components > 2:
        return of_blocks(data, cuts, variance_floor)
    core = of_blocks(data, torch.cat([tail, counts - tail], dim=1), variance_floor)
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


def outlier_starts(data: Sorted, fewer: Mixture, variance_floor: float) -> list[Mixture]:
    """Return two mixtures of one component more than `fewer`: the lowest, or the highest, sample has one for its own.

    An outlier alone is infinitely likely but for the floor, and k-means does find it now and then.
    """
    one = 1.0 / data.counts[:, None].double()
    last = data.values.gather(1, data.counts[:, None] - 1)
    weights = torch.cat([fewer.weights * (1 - one), one], dim=1)
    variances = torch.cat([fewer.variances, torch.full_like(one, variance_floor)], dim=1)
    return [
        Mixture(weights, torch.cat([fewer.means, sample], dim=1), variances) for sample in (data.values[:, :1], last)
    ]


def _read_off(data: Sorted, components: int, variance_floor: float) -> Iterator[Mixture]:
    """Yield the starts that are read off the sorted samples."""
    if components == 1:
        yield quantile_start(data, 1, variance_floor)
        return
    yield kmeans_start(data, quantile_start(data, components, variance_floor).means, variance_floor)
    last = data.values.gather(1, data.counts[:, None] - 1)
    steps = torch.linspace(0, 1, components, dtype=torch.float64, device=last.device)
    yield kmeans_start(data, data.values[:, :1] + steps * (last - data.values[:, :1]), variance_floor)
    yield core_start(data, components, variance_floor)
    tightest, likeliest = best_cuts(data, components, variance_floor)
    yield kmeans_start(data, of_blocks(data, tightest, variance_floor).means, variance_floor)
    for cuts in (likeliest, gap_cuts(data, components)):
        yield of_blocks(data, cuts, variance_floor)


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
