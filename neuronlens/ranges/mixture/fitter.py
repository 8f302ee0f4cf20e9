"""Fits one Gaussian mixture per (concept, neuron), its components counted by BIC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from neuronlens.ranges.mixture.cuts import Sorted, sort_samples
from neuronlens.ranges.mixture.em import fit_em, mean_log_density
from neuronlens.ranges.mixture.laws import MixtureLaws
from neuronlens.ranges.mixture.one_by_one import fit_one_by_one
from neuronlens.ranges.mixture.problems import Mixture, Problems
from neuronlens.ranges.mixture.settings import MixtureSettings
from neuronlens.ranges.mixture.starts import quantile_start, race
from neuronlens.records import FloatArray, IntArray

# Samples fitted at a time, float64: bounds the memory whatever the width of the layer, and gives each thread its share.
BLOCK_ELEMENTS = {"cpu": 600_000, "cuda": 30_000_000}


@dataclass(frozen=True, kw_only=True)
class MixtureFitter(MixtureSettings):
    """Fits mixtures of 1 to `max_components` Gaussians and keeps the one with the lowest BIC.

    BIC = -2 n (mean log-likelihood) + (3 K - 1) ln n, scikit-learn's; a tie goes to fewer components.
    """

    @classmethod
    def of(cls, settings: MixtureSettings) -> MixtureFitter:
        """Return the fitter with these settings."""
        return cls(**asdict(settings))

    def fit(self, values: FloatArray, labels: IntArray, concepts: int) -> MixtureLaws:
        """Return one law per (concept, neuron); concepts with fewer than `min_samples` samples are left out.

        Each neuron is fitted in units of its own deviation, so that `variance_floor` is a share of its variance: data times
        any number give the same mixture, times that number.

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
        scale = scale_of(values[np.concatenate(rows)] if rows else values)

        def fit_block(neurons: IntArray) -> None:
            self._fit_block(_gather(values, rows, neurons, scale, self.device), np.ix_(fitted, neurons), laws)

        if len(fitted):
            width = max(BLOCK_ELEMENTS[self.device_type] // sum(len(row) for row in rows), 1)
            everything = np.arange(values.shape[1])
            blocks = [everything[begin : begin + width] for begin in range(0, len(everything), width)]
            threads = torch.get_num_threads() if (self.backend, self.device_type) == ("batched", "cpu") else 1
            _in_threads(fit_block, blocks, threads)
        return laws.on_scale(scale, np.bincount(labels, minlength=concepts))

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
            options = {"tol": self.tol, "max_iter": self.max_iter, "reg_covar": self.variance_floor}
            return fit_one_by_one(problems, start, n_jobs=self.n_jobs, **options)
        fit = fit_em(problems, start, tol=self.tol, max_iter=self.max_iter, variance_floor=self.variance_floor)
        return fit.mixture, fit.log_likelihood


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


def scale_of(values: FloatArray) -> FloatArray:
    """Return each neuron's standard deviation (ddof 0) over some samples `[neuron]`, float64; 1 for a constant one."""
    constant = values.min(axis=0) == values.max(axis=0)
    return np.where(constant, 1.0, values.std(axis=0, dtype=np.float64))


def _gather(
    values: FloatArray, rows: Sequence[IntArray], neurons: IntArray, scale: FloatArray, device: str
) -> Problems:
    """Return the problems of some neurons in (concept, neuron) order, padded to the largest concept.

    Args:
        rows: the samples of each concept.
        scale: what each neuron's values are divided by `[neuron]`.
    """
    samples = np.zeros((len(rows), len(neurons), max(len(row) for row in rows)))
    for place, row in enumerate(rows):
        samples[place, :, : len(row)] = (values[np.ix_(row, neurons)] / scale[neurons]).T
    counts = np.repeat([len(row) for row in rows], len(neurons))
    return Problems(
        torch.as_tensor(samples.reshape(len(counts), -1), device=device), torch.as_tensor(counts, device=device)
    )
