"""What `neuronlens gather` does: one table and one page over all jobs of a multirun."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from neuronlens.execution.console import wide_console
from neuronlens.report.compare.compare import compare
from neuronlens.report.compare.headlines import headlines_table
from neuronlens.report.compare.runs import Run, read_runs
from neuronlens.report.gather.jobs import GatheredJob, jobs_of
from neuronlens.report.gather.page import page
from neuronlens.report.render.console import to_console
from neuronlens.report.render.files import floats, write_texts
from neuronlens.report.render.markdown import to_markdown
from neuronlens.report.table import Column, Table
from neuronlens.storage.files import write_atomically

NAME = "gather"
ROWS = "gathered"
ROWS_ON_A_SCREEN = 24


def gather(multirun: Path, output: Path | None = None, *, quiet: bool = False) -> int:
    """Write one table and one page over all jobs of a multirun, print what became of each, and return how many failed.

    `gathered.csv` and `.parquet` hold the results of all jobs under each other, with the job's number and its own values;
    `gather.md`, `.csv`, `.tex` and `.html` what became of each job and how the jobs compare: seeds are joined.

    Args:
        output: the folder that is written to; the multirun's own where it is None.
        quiet: print nothing.

    Raises:
        OutputError: not the folder of a multirun, or `output` cannot be written.
    """
    folder, jobs = output or multirun, jobs_of(multirun)
    done = [job for job in jobs if job.failed is None]
    runs = read_runs([job.folder for job in done]) if done else []
    tables = [_jobs_table(jobs, runs), *_compared(runs)]
    written = []
    if runs:
        rows = _rows(done, runs)
        write_atomically(folder / f"{ROWS}.parquet", rows.to_parquet(index=False))
        write_atomically(folder / f"{ROWS}.csv", rows.to_csv(index=False).encode())
        written.append(folder / f"{ROWS}.csv")
    title = f"{len(jobs)} jobs of {multirun.resolve().name}"
    texts = {
        "md": "\n".join([f"# {title}", "", *map(to_markdown, tables)]),
        "csv": tables[0].frame.to_csv(index=False),
        "tex": floats(tables),
        "html": page(title, tables, [(job, _link(job, folder)) for job in done]),
    }
    written += write_texts(texts, folder, NAME)
    console = wide_console(quiet=quiet)
    console.print(to_console(tables[0], most=ROWS_ON_A_SCREEN, rest=f"{NAME}.md"))
    for path in written:
        console.print(str(path), soft_wrap=True, markup=False)
    return len(jobs) - len(done)


def _jobs_table(jobs: Sequence[GatheredJob], runs: Sequence[Run]) -> Table:
    """Return what became of every job: its own values, the unedited model's accuracy, or the reason why there is none."""
    keys = list(dict.fromkeys(key for job in jobs for key in job.values))
    by_folder = {run.folder.path: run for run in runs}
    rows = []
    for job in jobs:
        run = by_folder.get(job.folder)
        row: dict[str, object] = {"job": job.number, **{key: job.values.get(key) for key in keys}}
        row |= {"outcome": "done" if run is not None else f"failed: {job.failed}"}
        row |= {"accuracy": None if run is None else run.table.base["accuracy"]}
        row |= {"seconds": None if run is None else run.manifest.timings_s.get("total")}
        rows.append(row)
    columns = (
        Column("job", "Job", format="d"),
        *(Column(key, key) for key in keys),
        Column("outcome", "Outcome", wrap_cm=6.0),
        Column("accuracy", "Accuracy, unedited", format=".3f"),
        Column("seconds", "Seconds", format=".0f"),
    )
    frame = pd.DataFrame(rows)
    about = "Every job of the multirun with the values that are its own; a job that failed has its reason."
    return Table("gather-jobs", "What became of each job", about, frame, columns)


def _compared(runs: Sequence[Run]) -> list[Table]:
    if len(runs) > 1:
        return compare(runs).tables
    return [table for table in map(headlines_table, [runs] if runs else []) if len(table.frame)]


def _rows(done: Sequence[GatheredJob], runs: Sequence[Run]) -> pd.DataFrame:
    """Return the results of all jobs under each other, with `job` and `overrides` in front."""
    parts = []
    for job, run in zip(done, runs, strict=True):
        rows = run.table.rows.copy()
        rows.insert(0, "job", job.number)
        rows.insert(1, "overrides", json.dumps(job.values, sort_keys=True))
        parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def _link(job: GatheredJob, folder: Path) -> str | None:
    """Return the address of a job's own page beside the gathered one; None where it has none."""
    found = job.folder / "report.html"
    if not found.is_file():
        return None
    above = folder.resolve()
    inside = found.resolve().is_relative_to(above)
    return found.resolve().relative_to(above).as_posix() if inside else found.resolve().as_uri()
