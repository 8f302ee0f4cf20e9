"""Ranges from a Gaussian mixture per (concept, neuron), its components counted by BIC."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.special import ndtr
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from neuronlens.config.containers import Nullable
from neuronlens.config.rules import SEED, TAU, Holding, OneOf, at_least, between, more_than
from neuronlens.errors import ConfigError, unknown
from neuronlens.ranges.intervals import EMPTY, WHOLE, merge
from neuronlens.ranges.mixture.cuts import Sorted, sort_samples
from neuronlens.ranges.mixture.em import Mixture, Problems, fit_em, mean_log_density
from neuronlens.ranges.mixture.starts import INITS, quantile_start, race
from neuronlens.ranges.normality import describe
from neuronlens.records import ActivationRanges, ActivationSet, FloatArray, IntArray

BACKENDS = ("batched", "sklearn")
JOBS = Holding(lambda count: count == -1 or 1 <= count <= 1024, "1 to 1,024, or -1 for all cores")
# Samples fitted at a time, float64: bounds the memory whatever the width of the layer, and gives each thread its share.
BLOCK_ELEMENTS = {"cpu": 600_000, "cuda": 30_000_000}


@dataclass(frozen=True)
class MixtureLaws:
    """One mixture per (concept, neuron).

    Attributes:
        weights, means, variances: `[concept, component, neuron]` float64; components past a law's own number, and all of
            a concept that was not fitted, have weight 0, mean 0 and variance 1.
        components: how many each law has `[concept, neuron]`; 0 where it was not fitted.
        log_likelihood: mean log-density per sample `[concept, neuron]`, nats; NaN where it was not fitted.
        bic: of every number of components tried `[concept, components - 1, neuron]`, lower is better.
    """

    weights: FloatArray
    means: FloatArray
    variances: FloatArray
    components: IntArray
    log_likelihood: FloatArray
    bic: FloatArray

    @property
    def parts(self) -> dict[str, FloatArray]:
        """Weights, means and standard deviations `[concept, component, neuron]`, as `ActivationRanges` keeps them."""
        return {"weights": self.weights, "means": self.means, "stds": np.sqrt(self.variances)}

    def cdf(self, concept: int, values: FloatArray) -> FloatArray:
        """Return the probability of a value up to each of `values [sample, neuron]` under a concept's laws."""
        std = np.sqrt(self.variances[concept])
        below = ndtr((values[:, None] - self.means[concept]) / std)
        return np.asarray((self.weights[concept] * below).sum(axis=1))


@dataclass(frozen=True, kw_only=True)
class MixtureFitter:
    """Fits mixtures of 1 to `max_components` Gaussians and keeps the one with the lowest BIC.

    BIC = -2 n (mean log-likelihood) + (3 K - 1) ln n, scikit-learn's; a tie goes to fewer components.

    Attributes:
        backend: `batched` runs all problems at once in torch; `sklearn` runs a GaussianMixture each, in `n_jobs`
            processes. Both begin at the same starts.
        init, restarts, seed: which starts race (see `starts.race`): `quantile` needs no seed; `kmeans++` adds `restarts`
            random ones and two for outliers, for more time and a likelier law.
        finalists: how many of the raced starts EM runs to its end, the likeliest kept; None runs all, and no race decides.
        variance_floor: added to every variance, squared units of the activations (scikit-learn's reg_covar).
        tol: nats per sample; EM stops at a smaller change.
        device: of the batched backend, `cpu` or `cuda`.
    """

    max_components: int = 3
    backend: str = "batched"
    init: str = "quantile"
    restarts: int = 2
    finalists: int | None = 1
    variance_floor: float = 1e-6
    tol: float = 1e-4
    max_iter: int = 200
    seed: int = 0
    n_jobs: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what no data could make right.

        Raises:
            ConfigError: an unknown name, or a number out of its range.
        """
        for kind, name, known in (
            ("range.backend", self.backend, BACKENDS),
            ("range.init", self.init, INITS),
            ("range.device", self._device_type, tuple(BLOCK_ELEMENTS)),
        ):
            if name not in known:
                raise ConfigError(unknown(kind, name, known))
        for name, least in (("max_components", 1), ("max_iter", 1), ("restarts", 0), ("finalists", 1)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ConfigError(f"range.{name} is {getattr(self, name)}, expected at least {least}.")
        if not 0 < self.variance_floor < math.inf:
            raise ConfigError(f"range.variance_floor is {self.variance_floor}, expected a number above 0.")
        if not self.tol >= 0:
            raise ConfigError(f"range.tol is {self.tol}, expected a number >= 0.")

    @property
    def min_samples(self) -> int:
        """The fewest samples a concept is fitted on: two per component."""
        return max(2 * self.max_components, 2)

    def skipped(self, counts: IntArray) -> dict[int, str]:
        """Return the concepts, of `counts [concept]` samples, that have too few, each with the reason."""
        return {
            concept: f"{count} samples to fit a mixture on, expected at least {self.min_samples}"
            for concept, count in enumerate(counts.tolist())
            if count < self.min_samples
        }

    def fit(self, values: FloatArray, labels: IntArray, concepts: int) -> MixtureLaws:
        """Return one law per (concept, neuron); concepts with fewer than `min_samples` samples are left out.

        Args:
            values: `[sample, neuron]`, finite; not modified.
            labels: concept index `[sample]`.
        """
        shape = (concepts, self.max_components, values.shape[1])
        laws = MixtureLaws(
            weights=np.zeros(shape),
            means=np.zeros(shape),
            variances=np.ones(shape),
            components=np.zeros(shape[::2], dtype=np.int64),
            log_likelihood=np.full(shape[::2], np.nan),
            bic=np.full(shape, np.nan),
        )
        fitted = np.flatnonzero(np.bincount(labels, minlength=concepts) >= self.min_samples)
        rows = [np.flatnonzero(labels == concept) for concept in fitted]

        def fit_block(neurons: IntArray) -> None:
            self._fit_block(_gather(values, rows, neurons, self.device), np.ix_(fitted, neurons), laws)

        if len(fitted):
            width = max(BLOCK_ELEMENTS[self._device_type] // sum(len(row) for row in rows), 1)
            everything = np.arange(values.shape[1])
            blocks = [everything[begin : begin + width] for begin in range(0, len(everything), width)]
            threads = torch.get_num_threads() if (self.backend, self._device_type) == ("batched", "cpu") else 1
            _in_threads(fit_block, blocks, threads)
        return laws

    @property
    def _device_type(self) -> str:
        return self.device.partition(":")[0]

    def _fit_block(self, problems: Problems, place: tuple[IntArray, ...], laws: MixtureLaws) -> None:
        """Fit every number of components to some problems; write the best into `laws` at (concepts, neurons) `place`."""
        concepts, neurons = place
        shape = np.broadcast_shapes(concepts.shape, neurons.shape)
        counts = problems.counts.cpu().numpy().reshape(shape)
        data = sort_samples(problems)
        lowest = np.full(shape, np.inf)
        mixture = None
        for components in range(1, self.max_components + 1):
            mixture, score = self._fit_components(problems, data, components, mixture)
            log_likelihood = score.cpu().numpy().reshape(shape)
            bic = -2 * counts * log_likelihood + (3 * components - 1) * np.log(counts)
            laws.bic[concepts, components - 1, neurons] = bic
            better = bic < lowest
            lowest = np.where(better, bic, lowest)
            laws.components[place] = np.where(better, components, laws.components[place])
            laws.log_likelihood[place] = np.where(better, log_likelihood, laws.log_likelihood[place])
            for target, part in zip((laws.weights, laws.means, laws.variances), mixture, strict=True):
                for component, column in enumerate(part.cpu().numpy().T):
                    old = target[concepts, component, neurons]
                    target[concepts, component, neurons] = np.where(better, column.reshape(shape), old)

    def _fit_components(
        self, problems: Problems, data: Sorted, components: int, fewer: Mixture | None
    ) -> tuple[Mixture, Tensor]:
        """Return mixtures of that many components `[problem, component]` and their mean log-likelihoods `[problem]`."""
        if components == 1:
            whole = quantile_start(data, 1, self.variance_floor)
            return whole, mean_log_density(problems, whole)
        starts = race(
            problems,
            data,
            components,
            init=self.init,
            restarts=self.restarts,
            finalists=self.finalists,
            seed=self.seed,
            variance_floor=self.variance_floor,
            fewer=fewer,
        )
        best, score = self._fit_from(problems, starts[0])
        for start in starts[1:]:
            mixture, other = self._fit_from(problems, start)
            ahead = other > score
            best = Mixture(*(torch.where(ahead[:, None], new, old) for new, old in zip(mixture, best, strict=True)))
            score = torch.where(ahead, other, score)
        return best, score

    def _fit_from(self, problems: Problems, start: Mixture) -> tuple[Mixture, Tensor]:
        """Return what the backend reaches from one start per problem, and the mean log-likelihoods `[problem]`."""
        if self.backend == "sklearn":
            return self._fit_sklearn(problems, start)
        fit = fit_em(problems, start, tol=self.tol, max_iter=self.max_iter, variance_floor=self.variance_floor)
        return fit.mixture, fit.log_likelihood

    def _fit_sklearn(self, problems: Problems, start: Mixture) -> tuple[Mixture, Tensor]:
        """Return what scikit-learn reaches from `start`, one GaussianMixture per problem."""
        columns = [
            row[:count] for row, count in zip(problems.samples.cpu().numpy(), problems.counts.tolist(), strict=True)
        ]
        starts = [part.cpu().numpy() for part in start]
        options = {"tol": self.tol, "max_iter": self.max_iter, "reg_covar": self.variance_floor}
        fits = Parallel(n_jobs=self.n_jobs)(
            delayed(fit_one)(column, *(part[row] for part in starts), **options) for row, column in enumerate(columns)
        )
        weights, means, variances, scores = (torch.as_tensor(np.stack(part)) for part in zip(*fits, strict=True))
        return Mixture(weights, means, variances), scores


def fit_one(
    samples: FloatArray, weights: FloatArray, means: FloatArray, variances: FloatArray, **options: float
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Return weights, means, variances `[component]` and mean log-likelihood of one scikit-learn fit.

    Args:
        samples: `[sample]`.
        weights, means, variances: where it begins `[component]`.
        options: of GaussianMixture.
    """
    model = GaussianMixture(
        len(means),
        weights_init=weights,
        means_init=means[:, None],
        precisions_init=1 / variances[:, None, None],
        # Never used, for all three inits are given; scikit-learn computes it all the same, and this is its cheapest.
        init_params="random_from_data",
        random_state=0,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(samples[:, None])
    return model.weights_, model.means_[:, 0], model.covariances_[:, 0, 0], float(model.score(samples[:, None]))


def _in_threads(work: Callable[[IntArray], None], blocks: Sequence[IntArray], threads: int) -> None:
    """Call `work` on every block of neurons, in threads of which each computes alone.

    Torch lets go of the interpreter while it computes, so threads do run at once; and sharing out whole blocks spares the
    barrier that torch's own threads would wait at in every operation.
    """
    if threads == 1:
        for block in blocks:
            work(block)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, blocks):
                pass
    finally:
        # The setting is each thread's own, but also what later threads begin with.
        torch.set_num_threads(threads)


def _gather(values: FloatArray, rows: Sequence[IntArray], neurons: IntArray, device: str) -> Problems:
    """Return the problems of some neurons in (concept, neuron) order, padded to the largest concept.

    Args:
        rows: the samples of each concept.
    """
    samples = np.zeros((len(rows), len(neurons), max(len(row) for row in rows)))
    for place, row in enumerate(rows):
        samples[place, :, : len(row)] = values[np.ix_(row, neurons)].T
    counts = np.repeat([len(row) for row in rows], len(neurons))
    return Problems(
        torch.as_tensor(samples.reshape(len(counts), -1), device=device), torch.as_tensor(counts, device=device)
    )


class MixtureRange:
    """The union over a mixture's components of [mu_k - tau sigma_k, mu_k + tau sigma_k], overlaps merged.

    Components lighter than `w_min` are left out. The mixture is chosen by BIC among 1 to `max_components` components; see
    `MixtureFitter` for how it is fitted. tau = inf is the whole neuron, and nothing is fitted for it.
    """

    def __init__(
        self,
        *,
        tau: Annotated[float, TAU] = 2.5,
        max_components: Annotated[int, at_least(1, most=100)] = 3,
        w_min: Annotated[float, between(0, 1, "[)", noun="a weight")] = 0.05,
        backend: Annotated[str, OneOf(BACKENDS)] = "batched",
        init: Annotated[str, OneOf(INITS)] = "quantile",
        restarts: Annotated[int, at_least(0, most=1000)] = 2,
        finalists: Annotated[int | None, Nullable(at_least(1, most=1000), "all starts")] = 1,
        variance_floor: Annotated[float, more_than(0, noun="a number")] = 1e-6,
        tol: Annotated[float, at_least(0, noun="a number")] = 1e-4,
        max_iter: Annotated[int, at_least(1, most=1_000_000)] = 200,
        seed: Annotated[int, SEED] = 0,
        n_jobs: Annotated[int, JOBS] = 1,
        device: str = "cpu",
    ) -> None:
        """Fit ranges of half-width `tau` standard deviations around each component of weight `w_min` or more.

        Raises:
            ConfigError: an unknown name, or a number out of its range.
        """
        if not tau >= 0:
            raise ConfigError(f"range.tau is {tau}, expected a number >= 0 (inf is the whole neuron).")
        if not 0 <= w_min < 1:
            raise ConfigError(f"range.w_min is {w_min}, expected a weight in [0, 1).")
        self.tau, self.w_min = float(tau), float(w_min)
        self.fitter = MixtureFitter(
            max_components=max_components,
            backend=backend,
            init=init,
            restarts=restarts,
            finalists=finalists,
            variance_floor=variance_floor,
            tol=tol,
            max_iter=max_iter,
            seed=seed,
            n_jobs=n_jobs,
            device=device,
        )

    def fit(self, activations: ActivationSet) -> ActivationRanges:
        """Return up to `max_components` disjoint intervals per (concept, neuron).

        A concept with fewer than two samples per component is skipped: its ranges are empty.
        """
        return self.fit_widths(activations, [self.tau])[0]

    def fit_widths(self, activations: ActivationSet, taus: Sequence[float]) -> list[ActivationRanges]:
        """Return the ranges of several widths from one fit."""
        statistics, concepts = activations.statistics, len(activations.concepts)
        skipped = self.fitter.skipped(statistics.count)
        laws = None
        if not all(math.isinf(tau) for tau in taus):
            laws = self.fitter.fit(activations.values, activations.labels, concepts)
        law = {} if laws is None else describe(activations, laws.cdf)
        components = {} if laws is None else laws.parts
        fitted = []
        for tau in taus:
            if laws is None or math.isinf(tau):
                lower, upper = (np.full((concepts, 1, activations.values.shape[1]), bound) for bound in WHOLE)
                for concept in skipped:
                    lower[concept], upper[concept] = EMPTY
            else:
                half = tau * np.sqrt(laws.variances)
                heavy = (laws.weights >= self.w_min) & (laws.weights > 0)
                lower, upper = merge(
                    np.where(heavy, laws.means - half, EMPTY[0]), np.where(heavy, laws.means + half, EMPTY[1])
                )
            bounds = lower, upper
            fitted.append(
                ActivationRanges(
                    "mixture", float(tau), *bounds, activations.concepts, statistics, skipped, law, components
                )
            )
        return fitted
