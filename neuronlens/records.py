"""The frozen records that one stage hands to the next. Arrays are numpy; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronlens.errors import ActivationError, DataError, ShapeError, unknown

if TYPE_CHECKING:
    import pandas as pd


FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]

SPLITS = ("train", "fit", "select", "test")


class Site(NamedTuple):
    """A place in the model: a block, counted from 0, and a point inside it."""

    layer: int
    name: str = "resid_post"

    def __str__(self) -> str:
        """Return the site as it is written in files: `resid_post.5`."""
        return f"{self.name}.{self.layer}"


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What a cell does, its concept apart. A knob that plays no part is None.

    Attributes:
        saliency, range, gate, edit: names of options.
        scope: what neurons are ranked over, their `layer` or the whole `model`.
        parameters: of the edit and the gate, as the results show them: `beta=0.125`.
        made_of: fingerprint of all that the ranking, range, gate and edit are built from.
    """

    saliency: str | None = None
    top_fraction: float | None = None
    top_count: int | None = None
    scope: str | None = None
    range: str | None = None
    tau: float | None = None
    gate: str
    edit: str
    strength: float
    control: str | None = None
    parameters: str | None = None
    made_of: str | None = None


Cell = tuple[Knobs, int]


@dataclass(frozen=True)
class Job:
    """Which job of a multirun a run is.

    Attributes:
        number: its place, from 0.
        overrides: what this job has of its own.
        multirun: the multirun's name, the same for all its jobs.
    """

    number: int
    overrides: tuple[str, ...]
    multirun: str

    def __str__(self) -> str:
        """Return the job as the console shows it: `#0 dataset=imdb`."""
        return " ".join([f"#{self.number}", *self.overrides])


@dataclass(frozen=True)
class ConceptDataset:
    """Labelled texts in disjoint splits.

    Attributes:
        texts: one per example.
        labels: concept index `[example]`.
        concepts: the concepts' names, in label order.
        ids: stable example ids: a hash of the text, so the same in every process and order.
        splits: name of each example's split `[example]`.
        dropped: concepts left out, with the reason.
        near_duplicates: examples left out because the model reads the same of another one.
        fingerprint: of everything above.
        notes: what was left out or merged on the way, a sentence each with its count.
    """

    name: str
    texts: tuple[str, ...]
    labels: IntArray
    concepts: tuple[str, ...]
    ids: tuple[str, ...]
    splits: NDArray[np.str_]
    fingerprint: str
    dropped: Mapping[str, str] = field(default_factory=dict)
    near_duplicates: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Assert that no example id stands twice: fit, select and test are disjoint (TRAPS 14)."""
        if len(set(self.ids)) != len(self.ids):
            raise DataError(f"Dataset '{self.name}' holds an example id twice, so its splits are not disjoint.")

    def rows(self, split: str) -> IntArray:
        """Return the indices of one split's examples, ascending."""
        if split not in SPLITS:
            raise DataError(unknown("split", split, SPLITS))
        return np.flatnonzero(self.splits == split)


@dataclass(frozen=True)
class ConceptStatistics:
    """Per-concept moments of activations, float64.

    Attributes:
        count: samples `[concept]`.
        mean, variance (ddof 0), mean_abs: `[concept, neuron]`; NaN where a concept has no sample.
    """

    count: IntArray
    mean: FloatArray
    variance: FloatArray
    mean_abs: FloatArray

    @cached_property
    def overall_mean(self) -> FloatArray:
        """Mean over all samples `[neuron]`."""
        weights = self.count / max(self.count.sum(), 1)
        return np.nansum(self.mean * weights[:, None], axis=0)

    @cached_property
    def complement_mean(self) -> FloatArray:
        """Mean over the samples of all other concepts `[concept, neuron]`; NaN where there is none."""
        totals = np.nan_to_num(self.mean) * self.count[:, None]
        others = self.count.sum() - self.count
        return np.where(others[:, None] > 0, (totals.sum(0) - totals) / np.maximum(others, 1)[:, None], np.nan)

    @cached_property
    def complement_variance(self) -> FloatArray:
        """Variance (ddof 0) over the samples of all other concepts `[concept, neuron]`; NaN where there is none.

        Within plus between: sum over c' != c of n_c' (var_c' + (mu_c' - mu_notc)^2) / n_notc. Summed anew for each
        concept, because taking one concept out of the total cancels where that concept holds most of the variance.
        """
        variance = np.full_like(self.mean, np.nan)
        for concept, centre in enumerate(self.complement_mean):
            others = np.flatnonzero((self.count > 0) & (np.arange(len(self.count)) != concept))
            if len(others):
                moments = self.variance[others] + (self.mean[others] - centre) ** 2
                variance[concept] = np.average(moments, axis=0, weights=self.count[others])
        return variance

    @cached_property
    def std(self) -> FloatArray:
        """Standard deviation, ddof 0 `[concept, neuron]`."""
        return np.sqrt(self.variance)


@dataclass(frozen=True)
class SecondMoments:
    """How `count` samples scatter about their mean `[neuron]`, all concepts together, float64.

    The covariance `[neuron, neuron]` has ddof 0; `fourth` is the mean of |x - mean|^4, by which Ledoit and Wolf judge it.
    """

    count: int
    mean: FloatArray
    covariance: FloatArray
    fourth: float

    @classmethod
    def of(cls, values: FloatArray) -> SecondMoments:
        """Return those of `[sample, neuron]`."""
        count, mean = len(values), values.mean(axis=0, dtype=np.float64)
        centred = values - mean
        return cls(count, mean, centred.T @ centred / count, float(np.mean((centred**2).sum(1) ** 2)))

    @cached_property
    def eigen(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues of the covariance, ascending, and their vectors `[neuron, eigenvalue]`."""
        return np.linalg.eigh(self.covariance)


MOMENTS = tuple(moment.name for moment in fields(ConceptStatistics))
SCATTER = tuple(moment.name for moment in fields(SecondMoments))
"""What `ConceptStatistics` and `SecondMoments` hold, by name and in the order of their fields."""


@dataclass(frozen=True)
class ActivationSet:
    """Activations at one site, before any edit, with the unedited model's predictions.

    Attributes:
        values: `[sample, neuron]` float32; where tokens are fitted on, a row per token, and a seeded sample of them.
        labels: concept index `[sample]`.
        ids: example ids, in row order.
        statistics: per-concept moments, of all tokens where `values` are a sample of them.
        base_prediction, base_confidence: `[sample]`, or None where the model was not run to its head.
        gradients: takes a concept per sample and returns the derivatives of their logits with respect to a number added to
            a neuron at every edited position `[sample, neuron]`; None where the model is not at hand.
        select: activations of the select split under the same labelling, for what is chosen there.
        streamed, shuffled: of tokens: moments of all of them together; the same tokens under shuffled labels.
        records: of tokens: the record vectors of the texts behind them, under the same labelling.
    """

    site: Site
    values: FloatArray
    labels: IntArray
    concepts: tuple[str, ...]
    ids: tuple[str, ...]
    statistics: ConceptStatistics
    fingerprint: str
    base_prediction: IntArray | None = None
    base_confidence: FloatArray | None = None
    gradients: Callable[[IntArray], FloatArray] | None = None
    select: ActivationSet | None = None
    streamed: SecondMoments | None = None
    shuffled: ActivationSet | None = None
    records: ActivationSet | None = None

    @cached_property
    def second(self) -> SecondMoments:
        """Moments over all concepts together."""
        return self.streamed or SecondMoments.of(self.values)

    def __post_init__(self) -> None:
        """Refuse values that are not numbers, by sample and neuron (TRAPS 9)."""
        if self.values.shape[0] != len(self.labels):
            raise ShapeError(f"{self.values.shape[0]} rows of activations, {len(self.labels)} labels.")
        bad = np.argwhere(~np.isfinite(self.values))
        if len(bad):
            row, neuron = bad[0]
            raise ActivationError(
                f"Activation {self.values[row, neuron]} at {self.site}, neuron {neuron}, sample '{self.ids[row]}' "
                f"({len(bad)} such values). Expected finite numbers. Next: neuronlens doctor, or model.dtype=float32."
            )


@dataclass(frozen=True)
class ActivationRanges:
    """Intervals of activation that speak for a concept, and the statistics they came from.

    Attributes:
        name: the estimator's.
        tau: its width, or None where it has none.
        lower, upper: `[concept, interval, neuron]`, bounds included; (+inf, -inf) is the empty interval.
        statistics: moments of the samples it was fitted on.
        skipped: concept index -> why no range could be fitted.
        law: how well the estimator's law fits, `[concept, neuron]` float64 each: `skewness`, `excess_kurtosis`,
            `ks_statistic`, `ks_p` (ranges/diagnostics/normality.py). Empty where nothing was fitted.
        components: of a mixture law, `weights`, `means`, `stds` `[concept, component, neuron]` float64, unused ones with
            weight 0. Empty for an estimator without one.
    """

    name: str
    tau: float | None
    lower: FloatArray
    upper: FloatArray
    concepts: tuple[str, ...]
    statistics: ConceptStatistics
    skipped: Mapping[int, str] = field(default_factory=dict)
    law: Mapping[str, FloatArray] = field(default_factory=dict)
    components: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultTable:
    """One row per (cell x concept), with provenance.

    Attributes:
        rows: the columns of SPEC section 8; missing knobs are null.
        matched: collateral at matched erasure, one row per (method x level x concept).
        comparison: range methods against the neuron mask of the same edit, one row per (method x level).
        methods: every method against one baseline, best first, one row per (method x level).
        operating_points: what was chosen on select and its figures on test; empty where nothing was.
        base: accuracy and confidence of the unedited model, over all test samples.
        general: perplexity and MMLU per cell, the unedited model first; None where they are off.
        doses: rows of the finer doses, evaluated where a wanted erasure is first reached; None where there are none.
        budget: erasure at damage budgets, one row per (method x budget x concept); `budget_comparison` and
            `budget_methods` are to it what `comparison` and `methods` are to `matched`. None in runs of an older version.
    """

    rows: pd.DataFrame
    matched: pd.DataFrame
    comparison: pd.DataFrame
    methods: pd.DataFrame
    operating_points: pd.DataFrame
    base: Mapping[str, float]
    general: pd.DataFrame | None = None
    doses: pd.DataFrame | None = None
    budget: pd.DataFrame | None = None
    budget_comparison: pd.DataFrame | None = None
    budget_methods: pd.DataFrame | None = None
