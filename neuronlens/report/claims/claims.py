"""The claims page: each claim of the paper held against finished runs, by rules that stand on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from neuronlens.measures.estimates import NOTHING
from neuronlens.measures.verdict import FEWEST_CONCEPTS
from neuronlens.report.claims.rules import CLAIMS
from neuronlens.report.claims.verdicts import VERDICTS, Evidence
from neuronlens.report.compare.runs import Run, read_runs
from neuronlens.report.render.csv import to_csv
from neuronlens.report.render.files import write_texts
from neuronlens.report.render.latex import pages, to_latex
from neuronlens.report.render.markdown import to_markdown
from neuronlens.report.table import Column, Table
from neuronlens.results.folder import RunFolder

COLUMNS = (
    Column("run", "Run"),
    Column("place", "Layer"),
    Column("setting", "Setting", wrap_cm=5),
    Column("statistic", "Statistic", wrap_cm=4),
    Column("value", "Value", format=".3f", interval=True),
    Column("bound", "Bound", format=".3f"),
    Column("expected", "Expected", format=".3f"),
    Column("concepts", "Concepts", format="d"),
    Column("verdict", "Verdict"),
    Column("detail", "Detail", wrap_cm=4),
    Column("against", "Against it", wrap_cm=4.5),
)
READING = (
    "Every verdict follows from its rule, which was set before any run was looked at, and the interval over concepts beside it, "
    f"at the level of the run's config; over fewer than {FEWEST_CONCEPTS} concepts there is none."
)


def claims(runs: Sequence[RunFolder]) -> Table:
    """Return every claim's evidence in every run as one table, a row per (claim, run, layer, setting, statistic).

    Raises:
        NeuronLensError: a folder given twice.
        OutputError: not the folder of a finished run.
    """
    return _table(read_runs([folder.path for folder in runs]))


def _table(runs: Sequence[Run]) -> Table:
    rows = []
    for number, claim in CLAIMS.items():
        for run in runs:
            where = {"claim": number, "says": claim.says, "run": run.name, "model": run.model, "dataset": run.dataset}
            rows += [where | evidence.row() for evidence in claim.evidence(run)]
    columns = [
        *("claim", "says", "run", "model", "dataset"),
        *Evidence(0, "", "", "", NOTHING, None, None, 0, None).row(),
    ]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))
    numbers = dict.fromkeys(("value", "value_low", "value_high", "bound", "expected"), float)
    return Table(
        "claims",
        "The paper's claims, measured",
        READING,
        frame.astype(numbers),
        (Column("claim", "Claim", format="d"), *COLUMNS),
        row_groups=("claim", "run"),
    )


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
    listed = [f"- {run.name}: {run.model}, {run.dataset}, {run.folder.path}" for run in read]
    lines = ["# The paper's claims, measured", READING, "\n".join(listed), to_markdown(summary)]
    lines += [to_markdown(section) for section in sections]
    measured = [section for section in sections if len(section.frame)]
    printed = [*pages(summary), *(page for section in measured for page in pages(_narrow(section), rows=10))]
    latex = [to_latex(page) for page in printed if len(page.frame)]
    found = {"md": "\n\n".join(lines), "csv": to_csv(table), "tex": "\n".join(latex)}
    return write_texts(found, folder, "claims")


def summarise(table: Table) -> Table:
    """Return how many of a claim's verdicts in each run and layer hold, do not hold and are not shown."""
    ruled = table.frame[table.frame["verdict"].notna()]
    keys = ["claim", "says", "run", "model", "dataset", "place"]
    counts = ruled.groupby([*keys, "verdict"], sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=list(VERDICTS), fill_value=0).reset_index().rename_axis(columns=None)
    return Table(
        "claims-summary",
        "Verdicts",
        "How many of a claim's statistics bear it out, by run and layer; the rules stand with each claim.",
        counts,
        (
            Column("says", "Claim", wrap_cm=5.5),
            Column("run", "Run"),
            Column("model", "Model"),
            Column("dataset", "Dataset"),
            Column("place", "Layer"),
            *(Column(verdict, verdict.capitalize(), format="d") for verdict in VERDICTS),
        ),
        row_groups=("says", "run"),
        notes=(
            f"{int(counts[list(VERDICTS)].to_numpy().sum())} verdicts are drawn here, each on its own; among so many "
            "some are to be expected by chance.",
        ),
    )


def _section(table: Table, number: int, runs: Sequence[Run]) -> Table:
    claim = CLAIMS[number]
    own = table.frame[table.frame["claim"] == number]
    without = [run.name for run in runs if run.name not in set(own["run"])]
    notes = (f"Not measured in {', '.join(without)}: it takes {claim.needs}.",) if without else ()
    return Table(
        *(f"claims-{number}", f"{number}. {claim.says}", f"Rule: {claim.rule}", own.reset_index(drop=True), COLUMNS),
        row_groups=("run", "place"),
        notes=notes,
    )


def _narrow(table: Table) -> Table:
    """Return a table without the columns that a printed page has no room for; the CSV and the page hold them."""
    return replace(
        table, columns=tuple(one for one in table.columns if one.name not in ("detail", "expected", "concepts"))
    )
