"""The claims page: each claim of the paper held against finished runs, by rules that stand here and on the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from neuronlens.report.claims.evidence_edits import MARGIN, keeps_erasure, spares_general_ability, spares_the_rest
from neuronlens.report.claims.evidence_neurons import (
    ALPHA,
    EXCESS_KURTOSIS,
    FIRING,
    NOT_REJECTED,
    OVERLAP,
    SKEWNESS,
    limited_overlap,
    near_gaussian,
    polysemantic,
)
from neuronlens.report.claims.verdicts import FAILS, HOLDS, OPEN, Evidence
from neuronlens.report.compare.paired import Estimate
from neuronlens.report.compare.runs import Run, read_runs
from neuronlens.report.table import PaperColumn, PaperTable, pages, to_csv, to_latex, to_markdown
from neuronlens.results.folder import RunFolder
from neuronlens.storage.files import write_atomically


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, what its evidence is, and the rule of its verdict.

    Attributes:
        needs: what a run must have measured, with the setting that switches it on.
    """

    says: str
    rule: str
    evidence: Callable[[Run], Iterator[Evidence]]
    needs: str


CLAIMS = {
    1: Claim(
        "Salient neurons are polysemantic",
        "The mean Jaccard overlap of two concepts' salient sets against that of two independent random sets of the same "
        "size (hypergeometric). Holds where the interval lies above it, does not hold where it lies below. A ranking by "
        "magnitude (max) favours neurons that are large for every concept, so sharing under it alone says little.",
        polysemantic,
        "diagnostics of salient sets (evaluation.diagnostics=true)",
    ),
    2: Claim(
        "A concept's activations are near Gaussian",
        f"Held-out samples of a concept at each salient neuron against the Gaussian fitted on other samples. Near means "
        f"three things, each with its own verdict: at least {NOT_REJECTED:.0%} of (concept, neuron) pairs are not rejected "
        f"at {ALPHA:.0%}, mean absolute skewness is below {SKEWNESS:g}, mean absolute excess kurtosis below "
        f"{EXCESS_KURTOSIS:g}; holds or does not hold where the whole interval is on that side. The law of the "
        "Kolmogorov-Smirnov statistic is simulated with the error of the fit in it, so that exact Gaussians are rejected "
        f"in {ALPHA:.0%}; the tabled law, which takes the fit as exact, rejects more often. Expected is what exact "
        "Gaussians give with as many samples. Few samples reject little: read the share with the number tested.",
        near_gaussian,
        "diagnostics of laws (evaluation.diagnostics=true)",
    ),
    3: Claim(
        "Concepts' activations overlap little",
        "The mean Bhattacharyya overlap of a concept's Gaussian with the others' at its salient neurons: holds where the "
        f"interval lies below {OVERLAP:.3f}, the overlap of two equal Gaussians two standard deviations apart. And how often "
        f"the concept's range fires on held-out samples of the rest, as a share of how often on its own: holds where the "
        f"interval lies below {FIRING:g}. Does not hold where it lies above.",
        limited_overlap,
        "diagnostics of laws (evaluation.diagnostics=true)",
    ),
    4: Claim(
        "Range editing keeps the erasure",
        "The concept's accuracy drop under the range mask minus that under the neuron mask of the same edit, strength and "
        f"number of neurons, paired by concept. Holds (not inferior) where the interval lies above -{MARGIN:g}, does not "
        f"hold where it lies below. Where the neuron mask itself erases no more than {MARGIN:g} there is nothing to keep, "
        "and the verdict is open.",
        keeps_erasure,
        "range and neuron masks of the same edit (sweep.gate)",
    ),
    5: Claim(
        "Range editing spares the other concepts",
        "The others' accuracy and confidence drop under the range mask minus that under the neuron mask of the same edit, "
        "where each has erased the same share of the concept's base accuracy, paired over the concepts that both bring so "
        "far. Holds where the interval lies below 0, does not hold where it lies above.",
        spares_the_rest,
        "range and neuron masks of the same edit (sweep.gate) that both reach an erasure level",
    ),
    6: Claim(
        "Range editing spares general ability",
        "Perplexity (its logarithm) and MMLU under the range mask minus that under the neuron mask of the same edit, "
        "strength and number of neurons, paired by concept. Holds where the interval shows a lower perplexity or a higher "
        "score, does not hold where it shows the reverse.",
        spares_general_ability,
        "general ability (evaluation.general.perplexity, evaluation.general.mmlu)",
    ),
}
COLUMNS = (
    PaperColumn("run", "Run"),
    PaperColumn("place", "Layer"),
    PaperColumn("setting", "Setting", wrap_cm=5),
    PaperColumn("statistic", "Statistic", wrap_cm=4),
    PaperColumn("value", "Value", format=".3f", interval=True),
    PaperColumn("bound", "Bound", format=".3f"),
    PaperColumn("expected", "Expected", format=".3f"),
    PaperColumn("concepts", "Concepts", format="d"),
    PaperColumn("verdict", "Verdict"),
    PaperColumn("detail", "Detail", wrap_cm=4),
    PaperColumn("against", "Against it", wrap_cm=4.5),
)
READING = (
    "Every verdict follows from its rule, which was set before any run was looked at, and the interval beside it: a bootstrap "
    "over concepts at the level, number of resamples and seed of the run's config."
)


def claims(runs: Sequence[RunFolder]) -> PaperTable:
    """Return every claim's evidence in every run as one table, a row per (claim, run, layer, setting, statistic).

    Raises:
        NeuronLensError: a folder given twice.
        OutputError: not the folder of a finished run.
    """
    return _table(read_runs([folder.path for folder in runs]))


def _table(runs: Sequence[Run]) -> PaperTable:
    rows = []
    for number, claim in CLAIMS.items():
        for run in runs:
            where = {"claim": number, "says": claim.says, "run": run.name, "model": run.model, "dataset": run.dataset}
            rows += [where | evidence.row() for evidence in claim.evidence(run)]
    columns = [
        *("claim", "says", "run", "model", "dataset"),
        *Evidence(0, "", "", "", _NOTHING, None, None, 0, None).row(),
    ]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))
    numbers = dict.fromkeys(("value", "value_low", "value_high", "bound", "expected"), float)
    return PaperTable(
        "claims",
        "The paper's claims, measured",
        READING,
        frame.astype(numbers),
        (PaperColumn("claim", "Claim", format="d"), *COLUMNS),
        row_groups=("claim", "run"),
    )


_NOTHING: Estimate = (float("nan"), float("nan"), float("nan"))


def write_claims(runs: Sequence[RunFolder], folder: Path) -> list[Path]:
    """Write `claims.md` (a summary, then a section per claim), `claims.csv` and `claims.tex`; return their paths.

    Raises:
        NeuronLensError: no folder, or one given twice.
        OutputError: not the folder of a finished run, or `folder` cannot be written.
    """
    read = read_runs([one.path for one in runs])
    table = _table(read)
    sections = [_section(table, number, read) for number in CLAIMS]
    summary = summarise(table)
    told = [f"- {run.name}: {run.model}, {run.dataset}, {run.folder.path}" for run in read]
    lines = ["# The paper's claims, measured", READING, "\n".join(told), to_markdown(summary)]
    lines += [to_markdown(section) for section in sections]
    measured = [section for section in sections if len(section.frame)]
    printed = [*pages(summary), *(page for section in measured for page in pages(_narrow(section), rows=10))]
    latex = [to_latex(page) for page in printed if len(page.frame)]
    written = []
    for ending, text in (("md", "\n\n".join(lines)), ("csv", to_csv(table)), ("tex", "\n".join(latex))):
        written.append(Path(folder) / f"claims.{ending}")
        write_atomically(written[-1], text.encode())
    return written


def summarise(table: PaperTable) -> PaperTable:
    """Return how many of a claim's verdicts in each run and layer hold, do not hold and are not shown."""
    ruled = table.frame[table.frame["verdict"].notna()]
    keys = ["claim", "says", "run", "model", "dataset", "place"]
    counts = ruled.groupby([*keys, "verdict"], sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=[HOLDS, FAILS, OPEN], fill_value=0).reset_index().rename_axis(columns=None)
    return PaperTable(
        "claims-summary",
        "Verdicts",
        "How many of a claim's statistics bear it out, by run and layer; the rules stand with each claim.",
        counts,
        (
            PaperColumn("says", "Claim", wrap_cm=5.5),
            PaperColumn("run", "Run"),
            PaperColumn("model", "Model"),
            PaperColumn("dataset", "Dataset"),
            PaperColumn("place", "Layer"),
            *(PaperColumn(verdict, verdict.capitalize(), format="d") for verdict in (HOLDS, FAILS, OPEN)),
        ),
        row_groups=("says", "run"),
        notes=(
            f"{int(counts[[HOLDS, FAILS, OPEN]].to_numpy().sum())} verdicts are drawn here, each on its own; among so many "
            "some are to be expected by chance.",
        ),
    )


def _section(table: PaperTable, number: int, runs: Sequence[Run]) -> PaperTable:
    claim = CLAIMS[number]
    own = table.frame[table.frame["claim"] == number]
    without = [run.name for run in runs if run.name not in set(own["run"])]
    notes = (f"Not measured in {', '.join(without)}: it takes {claim.needs}.",) if without else ()
    return PaperTable(
        *(f"claims-{number}", f"{number}. {claim.says}", f"Rule: {claim.rule}", own.reset_index(drop=True), COLUMNS),
        row_groups=("run", "place"),
        notes=notes,
    )


def _narrow(table: PaperTable) -> PaperTable:
    """Return a table without the columns that a printed page has no room for; the CSV and the page hold them."""
    return replace(
        table, columns=tuple(one for one in table.columns if one.name not in ("detail", "expected", "concepts"))
    )
