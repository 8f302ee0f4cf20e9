"""Mixtures by scikit-learn, a GaussianMixture for each (concept, neuron): the reference for the batched EM."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from neuronlens.ranges.mixture.problems import Mixture, Problems
from neuronlens.records import FloatArray


def fit_one_by_one(problems: Problems, start: Mixture, *, n_jobs: int, **options: float) -> tuple[Mixture, Tensor]:
    """Return the mixtures that scikit-learn reaches from `start`, and their mean log-likelihoods `[problem]`, nats.

    Args:
        n_jobs: processes.
        options: of GaussianMixture.
    """
    columns = [row[:count] for row, count in zip(problems.samples.cpu().numpy(), problems.counts.tolist(), strict=True)]
    starts = [part.cpu().numpy() for part in start]
    fits = Parallel(n_jobs=n_jobs)(
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
