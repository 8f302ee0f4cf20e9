"""Mixture ranges: the batched EM against a loop over scikit-learn's GaussianMixture, and whether both choose the same K.

`python -m benchmarks.mixture` prints the entries; `bench()` returns them for a larger table.
"""

from __future__ import annotations

import json
import platform
import time
import warnings
from statistics import median
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from neuronlens import FloatArray, IntArray, MixtureFitter, MixtureLaws

CONCEPTS, SAMPLES, COMPONENTS = 4, 400, (1, 2, 3)
TOLERANCE = 1e-3
SPEED_BOUND, SAME_BOUND = 30.0, 0.99
SEED = 0


def bench(problems: int = 3072 * CONCEPTS, *, repeats: int = 3, subset: int = 120) -> list[dict[str, Any]]:
    """Return speed of the batched EM over scikit-learn's loop, and the share of problems with the same K.

    Args:
        problems: (concept, neuron) pairs, fitted in full by the batched side; a multiple of four.
        repeats: of each side, in turn; medians are compared.
        subset: problems that scikit-learn is timed on, drawn at random, one process and thread; its time is scaled up.
    """
    values, labels = _activations(problems // CONCEPTS)
    columns = _columns(values, labels, np.random.default_rng(SEED).permutation(problems)[:subset])
    ours, theirs = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        _fit(values, labels)
        ours.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        _loop(columns)
        theirs.append((time.perf_counter() - begin) * problems / len(columns))
    ours_s, other_s = median(ours), median(theirs)
    sizes = f"{problems} problems x {SAMPLES} samples, K = 1 to 3 with BIC, tol {TOLERANCE:g}"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    common = {"n": problems, "machine": machine}
    same, compared = _same_components(values, labels, subset)
    return [
        {
            "name": "mixture_em",
            "what": f"batched EM (3 starts raced per fit) against a loop of GaussianMixture.fit at its own start; {sizes}; "
            f"scikit-learn timed on {len(columns)} random problems in one process and scaled",
            "ours_s": ours_s,
            "other_s": other_s,
            "ratio": other_s / ours_s,
            "bound": SPEED_BOUND,
            "holds": other_s / ours_s >= SPEED_BOUND,
            **common,
        },
        {
            "name": "mixture_same_k",
            "what": f"share (as ratio) of problems whose BIC chooses the same K in both backends, from the same starts; "
            f"{compared} random problems of the same data",
            "ours_s": None,
            "other_s": None,
            "ratio": same,
            "bound": SAME_BOUND,
            "holds": same >= SAME_BOUND,
            **common,
        },
    ]


def _activations(neurons: int) -> tuple[FloatArray, IntArray]:
    """Return values `[sample, neuron]` float32 and labels: columns of one to three Gaussians, near and far apart."""
    rng = np.random.default_rng(SEED)
    shape = (CONCEPTS * SAMPLES, neurons)
    owner = rng.integers(0, rng.integers(1, 4, neurons), shape)
    means, std = rng.normal(size=(CONCEPTS, 3, neurons)) * 2, rng.uniform(0.3, 1.5, (CONCEPTS, 3, neurons))
    labels = np.repeat(np.arange(CONCEPTS), SAMPLES)
    place = (labels[:, None], owner, np.arange(neurons))
    return (means[place] + std[place] * rng.normal(size=shape)).astype(np.float32), labels


def _columns(values: FloatArray, labels: IntArray, problems: IntArray) -> list[FloatArray]:
    """Return the samples of some (concept, neuron) pairs, each `[sample, 1]` float64."""
    return [
        values[labels == problem % CONCEPTS][:, [problem // CONCEPTS]].astype(np.float64)
        for problem in problems.tolist()
    ]


def _fit(values: FloatArray, labels: IntArray, backend: str = "batched") -> MixtureLaws:
    fitter = MixtureFitter(max_components=max(COMPONENTS), backend=backend, tol=TOLERANCE)
    return fitter.fit(values, labels, CONCEPTS)


def _loop(columns: list[FloatArray]) -> None:
    """Fit every K to every column and take the lowest BIC, as one would with scikit-learn alone."""
    # One thread: on arrays this small scikit-learn's k-means loses time to its own threads, so this is its fastest.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for column in columns:
            min(
                GaussianMixture(components, tol=TOLERANCE, random_state=SEED).fit(column).bic(column)
                for components in COMPONENTS
            )


def _same_components(values: FloatArray, labels: IntArray, subset: int) -> tuple[float, int]:
    """Return the share of problems in which both backends choose the same K, and how many were compared."""
    neurons = np.random.default_rng(SEED + 1).permutation(values.shape[1])[: max(subset, 1)]
    chosen = [_fit(values[:, neurons], labels, backend).components for backend in ("batched", "sklearn")]
    return float((chosen[0] == chosen[1]).mean()), chosen[0].size


if __name__ == "__main__":
    print(json.dumps(bench(), indent=2))
