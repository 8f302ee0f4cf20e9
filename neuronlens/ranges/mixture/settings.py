"""How Gaussian mixtures are fitted: every setting with its check, and nothing that needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neuronlens.errors import ConfigError, unknown
from neuronlens.records import IntArray

BACKENDS = ("batched", "sklearn")
INITS = ("quantile", "kmeans++")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """How mixtures are fitted, checked before anything is.

    Attributes:
        max_components: the most Gaussians of a mixture.
        backend: `batched` runs all problems at once in torch; `sklearn` runs a GaussianMixture each, in `n_jobs`
            processes. Both begin at the same starts.
        init, restarts, seed: which starts race (see `starts.race`): `quantile` needs no seed; `kmeans++` adds `restarts`
            random ones and two for outliers, for more time and a likelier law.
        finalists: how many of the raced starts EM runs to its end, the likeliest kept; None runs all, and no race decides.
        variance_floor: added to every variance, as a share of the neuron's variance over all samples (scikit-learn's reg_covar on
            values of unit variance).
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
            ("range.device", self.device_type, DEVICES),
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

    @property
    def device_type(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]
