"""How often intervals hold the truth: simulated, by number of values and kind of data.

python -m benchmarks.coverage            # writes docs/reference/coverage.md, about five minutes on one core
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from neuronlens import (
    Bootstrap,
    Estimate,
    of_difference,
    of_mean,
    of_paired_shares,
    of_pairs,
    of_share,
    shown_side,
    two_way,
)

Array = NDArray[np.float64]
LEVEL = 0.95
DRAWS = 20_000
CONCEPTS = (2, 4, 6, 8, 14, 20, 52)
SAMPLES = (4, 10, 50)
PAGE = Path("docs/reference/coverage.md")
LEAST, MOST, MOST_FALSE = 0.93, 0.97, 0.03


@dataclass(frozen=True)
class Law:
    """A distribution and its mean."""

    name: str
    draw: Callable[[Generator, tuple[int, ...]], Array]
    mean: float


LAWS = (
    Law("normal", lambda g, shape: g.normal(size=shape), 0.0),
    Law("heavy tails (t, 3 degrees of freedom)", lambda g, shape: g.standard_t(3, size=shape), 0.0),
    Law("skewed (gamma, shape 2)", lambda g, shape: g.gamma(2.0, size=shape), 2.0),
    Law("very skewed (exponential)", lambda g, shape: g.exponential(size=shape), 1.0),
    Law("discrete (0 to 3 of 50)", lambda g, shape: g.integers(0, 4, size=shape) / 50, 0.03),
)
CONFIDENCES = (
    Law("confidences (beta 2, 5)", lambda g, shape: g.beta(2.0, 5.0, size=shape), 2 / 7),
    Law("confidences near 0 (beta 0.5, 2)", lambda g, shape: g.beta(0.5, 2.0, size=shape), 0.2),
    Law(
        "confidence drops (beta 2, 2 less beta 2, 5)",
        lambda g, shape: g.beta(2.0, 2.0, size=shape) - g.beta(2.0, 5.0, size=shape),
        0.5 - 2 / 7,
    ),
    Law("KL (gamma, shape 0.5)", lambda g, shape: g.gamma(0.5, size=shape), 0.5),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: the share of intervals that hold the truth, and of those that lie wholly on a side of it."""

    interval: str
    data: str
    n: int
    covered: float
    below: float
    above: float
    percentile: float | None = None
    """Coverage of the percentile bootstrap, which stood in its place before."""


def _row(interval: str, data: str, n: int, found: Estimate, truth: float, percentile: float | None = None) -> Row:
    slack = 1e-12
    below, above = found.high < truth - slack, found.low > truth + slack
    outside = np.isnan(found.low) | below | above
    shares = (1 - float(np.mean(outside)), float(np.mean(below)), float(np.mean(above)))
    return Row(interval, data, n, *shares, percentile)


def percentile_coverage(values: Array, truth: float, generator: Generator, resamples: int = 1000) -> float:
    """Return how often a percentile bootstrap of the mean holds the truth, over the first 2,000 rows of `values`."""
    some = values[:2000]
    weights = generator.multinomial(some.shape[1], np.full(some.shape[1], 1 / some.shape[1]), size=resamples)
    means = some @ weights.T / some.shape[1]
    low, high = np.percentile(means, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=1)
    return float(np.mean((low <= truth + 1e-12) & (truth - 1e-12 <= high)))


def means(generator: Generator) -> Iterator[Row]:
    """Yield the mean over concepts, and the mean over samples of confidences and KL."""
    for kind, laws, sizes in (("mean over concepts", LAWS, CONCEPTS), ("mean over samples", CONFIDENCES, SAMPLES)):
        for law in laws:
            for n in sizes:
                values = law.draw(generator, (DRAWS, n))
                old = percentile_coverage(values, law.mean, generator)
                yield _row(kind, law.name, n, of_mean(values, LEVEL), law.mean, old)


def shares(generator: Generator) -> Iterator[Row]:
    """Yield accuracies (Wilson), their drops (Tango), and selectivity (the difference of two drops)."""
    for n in SAMPLES:
        for p in (0.5, 0.72, 0.95):
            found = of_share(generator.binomial(n, p, size=DRAWS), n, LEVEL)
            yield _row("accuracy", f"share {p:g}", n, found, p)
        for lost, gained in ((0.0, 0.0), (0.02, 0.02), (0.3, 0.02), (0.6, 0.0)):
            counts = generator.multinomial(n, [lost, gained, 1 - lost - gained], size=DRAWS)
            drop = of_paired_shares(counts[:, 0], counts[:, 1], n, LEVEL)
            yield _row("accuracy drop", f"{lost:.0%} lost, {gained:.0%} gained", n, drop, lost - gained)
            others = generator.multinomial(19 * n, [0.03, 0.02, 0.95], size=DRAWS)
            rest = of_paired_shares(others[:, 0], others[:, 1], 19 * n, LEVEL)
            found = of_difference(drop, rest)
            yield _row("selectivity", f"{lost:.0%} lost, {gained:.0%} gained", n, found, lost - gained - 0.01)


def perplexities(generator: Generator, draws: int = 2000) -> Iterator[Row]:
    """Yield the ratio of two perplexities over documents of different length, the one interval that is resampled."""
    settings = Bootstrap(LEVEL, 1000, 0)
    for spread in (0.1, 0.4):
        for n in SAMPLES:
            ends = []
            for _ in range(draws):
                tokens = generator.integers(20, 400, size=n).astype(np.float64)
                losses = tokens * generator.normal(0.3, spread, size=n)  # edited less unedited, nats
                drawn = settings.counts(n).astype(np.float64)
                ends.append(settings.bounds(np.exp((drawn @ losses) / (drawn @ tokens))))
            low, high = np.array(ends).T
            found = Estimate(np.zeros(draws), low, high)
            yield _row("perplexity ratio", f"documents, spread {spread:g} nats", n, found, float(np.exp(0.3)))


def two_ways(generator: Generator, draws: int = 1000, samples: int = 50) -> Iterator[Row]:
    """Yield the mean over concepts that share their samples, and its interval over concepts alone in the last column's place."""
    settings = Bootstrap(LEVEL, 400, 0)
    for name, effect in (("samples alike", 0.0), ("samples that differ", 1.0), ("samples that differ much", 3.0)):
        for n in CONCEPTS[1:]:
            rows = generator.normal(size=(draws, n, 1))
            columns = effect * np.sqrt(samples / n) * generator.normal(size=(draws, 1, samples))
            values = rows + columns + generator.normal(size=(draws, n, samples))
            low, high = np.array([two_way(own, settings)[1:] for own in values]).T
            alone = of_mean(values.mean(axis=2), LEVEL)
            held = float(np.mean((alone.low <= 0) & (alone.high >= 0)))
            yield _row("concepts and 50 samples together", name, n, Estimate(np.zeros(draws), low, high), 0.0, held)


def pairs(generator: Generator, draws: int = 2000, neurons: int = 200, salient: int = 60) -> Iterator[Row]:
    """Yield the mean Jaccard overlap over pairs of concepts that share a common ranking to different degrees."""
    common = generator.normal(size=neurons)
    kinds: tuple[tuple[str, Callable[[tuple[int, ...]], Array]], ...] = (
        ("sets by chance", lambda shape: np.zeros(shape)),
        ("sets alike, all equally", lambda shape: np.ones(shape)),
        ("sets alike, to normal degrees", lambda shape: generator.normal(1.0, 0.7, size=shape)),
        ("sets alike, to skewed degrees", lambda shape: generator.exponential(size=shape)),
    )
    for name, degrees in kinds:
        truth = float(np.mean([_overlaps(generator, degrees, common, 60, salient).mean for _ in range(400)]))
        for n in CONCEPTS[1:]:
            count = draws if n < 20 else draws // 4
            squares = [_overlaps(generator, degrees, common, n, salient).square for _ in range(count)]
            found = [of_pairs(square, LEVEL) for square in squares]
            stacked = Estimate(*(np.array([getattr(one, end) for one in found]) for end in Estimate._fields))
            yield _row("mean over pairs of concepts", name, n, stacked, truth, _row_means(squares, truth, generator))


@dataclass(frozen=True)
class _Overlaps:
    square: Array
    mean: float


def _overlaps(
    generator: Generator, degrees: Callable[[tuple[int, ...]], Array], common: Array, n: int, salient: int
) -> _Overlaps:
    scores = degrees((n, 1)) * common + generator.normal(size=(n, len(common)))
    sets = np.zeros_like(scores, dtype=np.float32)
    np.put_along_axis(sets, np.argpartition(-scores, salient, axis=1)[:, :salient], 1.0, axis=1)
    shared = sets @ sets.T
    square = (shared / (2 * salient - shared)).astype(np.float64)
    return _Overlaps(square, float((square.sum() - np.trace(square)) / (n * (n - 1))))


def _row_means(squares: list[Array], truth: float, generator: Generator) -> float:
    """Return the coverage of what stood there before: row means resampled as if they were independent."""
    rows = np.stack([(square.sum(1) - np.diag(square)) / (len(square) - 1) for square in squares])
    return percentile_coverage(rows, truth, generator)


def false_verdicts(generator: Generator) -> Iterator[tuple[str, int, float]]:
    """Yield how often "holds" comes up where the methods do not differ, by the rule that every verdict is drawn by."""
    for law in LAWS:
        for n in (4, 5, *CONCEPTS[2:]):
            differences = law.draw(generator, (DRAWS, n)) - law.draw(generator, (DRAWS, n))
            found = of_mean(differences, LEVEL)
            sides = [shown_side(low, high, n) for low, high in zip(found.low, found.high, strict=True)]
            yield law.name, n, sides.count("below") / DRAWS


def page(rows: list[Row], verdicts: list[tuple[str, int, float]]) -> str:
    """Return the committed table."""
    held = [row for row in rows if row.n >= 4]
    inside = sum(row.covered >= LEAST for row in held)
    lines = [
        "# How often the intervals hold the truth",
        "",
        f"Written by `python -m benchmarks.coverage`: {DRAWS:,} simulated data sets a line (2,000 or 500 for pairs), level "
        f"{LEVEL:.0%}, seed 0. The goal is {LEAST} to {MOST} wherever there are four values or more: {inside} of {len(held)} "
        f"lines reach {LEAST}. More than {MOST} is wider than need be, which counts of few samples cannot avoid: a share of "
        "four takes five values only.",
        "",
        "These are the intervals that runs and reports print: `nl.of_mean`, `nl.of_share`, `nl.of_paired_shares`, "
        "`nl.of_difference` and `nl.of_pairs`. The last column is the percentile bootstrap that stood in their place before. A "
        "perplexity has no formula: its interval is still a percentile bootstrap over documents, and covers less than its level "
        "over few of them. For concepts and samples together (`nl.two_way`) the last column is the interval over concepts alone, "
        "which holds for these very samples only.",
        "",
        "| interval | data | n | covers | truth above it | truth below it | percentile bootstrap |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        before = "-" if row.percentile is None else f"{row.percentile:.3f}"
        mark = "" if row.covered >= LEAST or row.n < 4 else " (short)"
        cells = (row.interval, row.data, str(row.n), f"{row.covered:.3f}{mark}", f"{row.below:.3f}", f"{row.above:.3f}")
        lines.append("| " + " | ".join((*cells, before)) + " |")
    lines += [
        "",
        "## Verdicts where nothing is there",
        "",
        "Two methods with the same law, paired by concept: how often a verdict names one as the better one (`nl.shown_side`: the "
        f"whole interval on one side, over five concepts or more). The goal is at most {MOST_FALSE:.0%}.",
        "",
        "| data | concepts | says better |",
        "|---|---|---|",
        *(f"| {name} | {n} | {share:.3f} |" for name, n, share in verdicts),
        "",
    ]
    return "\n".join(lines)


def main(target: Path = PAGE) -> None:
    """Simulate every interval and write the page."""
    generator = np.random.default_rng(0)
    rows = [*means(generator), *shares(generator), *pairs(generator), *perplexities(generator), *two_ways(generator)]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(rows, list(false_verdicts(generator))))
    print(target)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
