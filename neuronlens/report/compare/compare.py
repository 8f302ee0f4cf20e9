"""Runs side by side: what sets them apart, their paired differences by concept, and each one's own headline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from neuronlens.measures.matched import method_name
from neuronlens.report.compare.paired import ENDS, Bootstrap
from neuronlens.report.compare.pairing import KNOBS, MEASURES, paired_methods, plain, shared_knobs
from neuronlens.report.compare.runs import Run, differing, shortened
from neuronlens.report.table import PaperColumn, PaperTable, as_text, pages, to_latex, to_markdown
from neuronlens.report.tables import headline
from neuronlens.storage.files import write_atomically

UNEDITED = {"concept_accuracy": "Accuracy", "concept_confidence": "Confidence"}
SHOWN = dict(list(MEASURES.items())[:2])
ROWS_ON_A_SCREEN = 12


@dataclass(frozen=True)
class Comparison:
    """Runs held against the first of them.

    Attributes:
        settings: what differs between their configs.
        unedited: the models without any edit.
        matched: what every method that a run shares with the reference costs the others at matched erasure; a row per
            (run, method, level). Empty where no two runs share concepts and methods.
        headlines: each run's own range against neuron mask; a row per (method, level, measure, run).
        remarks: what was paired and what could not be, one sentence each.
    """

    settings: PaperTable
    unedited: PaperTable
    matched: PaperTable
    headlines: PaperTable
    remarks: tuple[str, ...]

    @property
    def tables(self) -> list[PaperTable]:
        """The tables that hold a row, in reading order."""
        every = (self.settings, self.unedited, self.matched, self.headlines)
        return [table for table in every if len(table.frame)]


def compare(runs: Sequence[Run]) -> Comparison:
    """Return runs side by side, each paired with the first by concept where both ran on the same dataset.

    Level, resamples and seed of the intervals over concepts are the first run's.
    """
    reference, *others = runs
    bootstrap = reference.bootstrap
    remarks = [f"{run.name}: {run.title}, {run.folder.path}" for run in runs]
    remarks.append(f"Differences are a run's value minus that of the reference, {reference.name}.")
    matched = []
    for other in others:
        common = common_concepts(reference, other)
        remarks.append(_paired_on(reference, other, common))
        if not common:
            continue
        if reference.manifest.fingerprints.get("data") != other.manifest.fingerprints.get("data"):
            remarks.append(f"{other.name} read other examples than the reference (the data's fingerprints differ).")
        ours, theirs = (run.table.matched for run in (reference, other))
        keys, apart, said = shared_knobs(ours, theirs)
        remarks += [f"{other.name}: {sentence}" for sentence in said]
        found = paired_methods(ours, theirs, common, keys=keys, apart=apart, bootstrap=bootstrap)
        matched.append(found.assign(run=other.name))
    return Comparison(
        _settings(runs),
        _unedited(runs, bootstrap),
        _matched(pd.concat(matched, ignore_index=True) if matched else pd.DataFrame(), bootstrap),
        _headlines(runs),
        tuple(remarks),
    )


def common_concepts(reference: Run, other: Run) -> list[str]:
    """Return the concepts that two runs can be paired by: none where the datasets differ, equal names or not."""
    if reference.dataset != other.dataset:
        return []
    return [name for name in reference.unedited.index if name in other.unedited.index]


def _paired_on(reference: Run, other: Run, common: list[str]) -> str:
    if reference.dataset != other.dataset:
        return f"{other.name} ran on {other.dataset}, the reference on {reference.dataset}: side by side, not paired."
    only = {run.name: [name for name in run.unedited.index if name not in common] for run in (reference, other)}
    left = "; ".join(f"only in {name}: {', '.join(concepts)}" for name, concepts in only.items() if concepts)
    if not common:
        return f"{other.name} shares no concept with the reference: side by side, not paired."
    return (
        f"{other.name} is paired with the reference over {len(common)} common concepts{f' ({left})' if left else ''}."
    )


def _settings(runs: Sequence[Run]) -> PaperTable:
    apart = differing([run.manifest.settings for run in runs]).map(shortened)
    apart.columns = pd.Index([run.name for run in runs])
    revisions = [(run.manifest.git_revision or "unknown")[:10] for run in runs]
    if len(set(revisions)) > 1:
        apart.loc["git revision"] = revisions
    columns = [PaperColumn("setting", "Setting"), *(PaperColumn(run.name, run.name, wrap_cm=3.5) for run in runs)]
    return PaperTable(
        "compare-settings",
        "What differs",
        "Settings that are not the same in all runs.",
        apart.rename_axis("setting").reset_index(),
        tuple(columns),
    )


def _unedited(runs: Sequence[Run], bootstrap: Bootstrap) -> PaperTable:
    rows = []
    for run in runs:
        own, first = run.unedited, runs[0].unedited
        common = common_concepts(runs[0], run) if run is not runs[0] else []
        row: dict[str, Any] = {"run": run.name, "model": run.model, "dataset": run.dataset, "concepts": len(own)}
        row["n"] = len(common) if run is not runs[0] else None
        for name in UNEDITED:
            difference = (own.loc[common, name] - first.loc[common, name]).to_numpy(dtype=float)
            row[name] = own[name].mean()
            row |= dict(zip((f"{name}_difference{end}" for end in ENDS), bootstrap.over(difference), strict=True))
            row[f"{name}_wins"] = int((difference > 0).sum()) if common else None
        rows.append(row)
    columns = [
        PaperColumn("run", "Run"),
        PaperColumn("concepts", "Concepts", format=".0f"),
        PaperColumn("n", "Paired", format=".0f"),
    ]
    for name, spoken in UNEDITED.items():
        columns += [
            PaperColumn(name, "Mean", spoken, ".3f"),
            PaperColumn(f"{name}_difference", "Difference", spoken, "+.3f", interval=True),
            PaperColumn(f"{name}_wins", "Wins", spoken, "d"),
        ]
    return PaperTable(
        "compare-unedited",
        "The unedited models",
        f"Accuracy and gold confidence, means over concepts; differences from {runs[0].name} are paired by "
        "concept, a win is a higher value.",
        pd.DataFrame(rows),
        tuple(columns),
        notes=(_about(bootstrap),),
    )


def _about(bootstrap: Bootstrap) -> str:
    return (
        f"Brackets: {bootstrap.level:.0%} bootstrap interval over concepts ({bootstrap.resamples} resamples); none over "
        "fewer than two concepts, and too narrow over a handful."
    )


def _matched(found: pd.DataFrame, bootstrap: Bootstrap) -> PaperTable:
    columns = [PaperColumn("run", "Run"), PaperColumn("method", "Method"), PaperColumn("level", "Erased", format=".0%")]
    columns.append(PaperColumn("n", "Concepts", format="d"))
    for name, spoken in SHOWN.items():
        columns += [
            PaperColumn(f"{name}_reference", "Ref.", spoken.capitalize(), ".3f"),
            PaperColumn(f"{name}_run", "Run", spoken.capitalize(), ".3f"),
            PaperColumn(name, "Difference", spoken.capitalize(), "+.3f", interval=True),
            PaperColumn(f"{name}_wins", "Wins", spoken.capitalize(), "d"),
        ]
    if len(found):
        found = found.assign(method=_method_names(found)).sort_values(
            ["run", "level"], kind="stable", ignore_index=True
        )
        front = ["run", "method"]
        found = found[[*front, *(name for name in found.columns if name not in front)]]
    else:
        found = pd.DataFrame(columns=_needed(columns))
    return PaperTable(
        "compare-matched",
        "Each method's cost to the other concepts at matched erasure",
        "Complement accuracy and confidence drop where the method has erased this share of the concept's base accuracy, "
        "means over the concepts in which both runs get so far; a negative difference: the run costs the others less, which "
        "is a win.",
        found,
        tuple(columns),
        row_groups=("run",),
        notes=(_about(bootstrap),),
    )


def _needed(columns: Sequence[PaperColumn]) -> list[str]:
    return [f"{column.name}{end}" for column in columns for end in (ENDS if column.interval else ("",))]


def _method_names(rows: pd.DataFrame) -> list[str]:
    """Return each row's method as people say it, with the layer and whatever else tells the rows of a table apart."""
    several = [knob for knob in ("saliency", "top_fraction") if rows[knob].nunique() > 1]
    names = []
    for row in rows.to_dict("records"):
        numbers = {knob: None if isinstance(row[knob], str) else row[knob] for knob in ("tau", "strength")}
        parts = [f"layer {row['layers']}"] * (rows["layers"].nunique() > 1) + [method_name({**row, **numbers})]
        names.append(", ".join([*parts, *(plain(row[knob]) for knob in several if pd.notna(row[knob]))]))
    return names


def _headlines(runs: Sequence[Run]) -> PaperTable:
    """Return each run's range against neuron mask at its own tau, the runs under each other within method and level."""
    frames = [
        pd.DataFrame(headline(run.table, run.tau)).assign(run=run.name, place=place) for place, run in enumerate(runs)
    ]
    found = pd.concat([frame for frame in frames if "level" in frame] or [pd.DataFrame()], ignore_index=True)
    parts = []
    for name, spoken in SHOWN.items() if len(found) else ():
        own = {
            "measure": spoken,
            "range_mask": found[f"{name}_range"],
            "neuron_mask": found[f"{name}_neuron"],
            "difference": found[f"{name}_difference"],
            "difference_low": found[f"{name}_low"].where(found["n_concepts"] > 1),
            "difference_high": found[f"{name}_high"].where(found["n_concepts"] > 1),
            "wins": found[f"{name}_wins"],
        }
        parts.append(found.assign(**own))
    columns = (
        PaperColumn("method", "Edit"),
        PaperColumn("level", "Erased", format=".0%"),
        PaperColumn("measure", "Others'"),
        PaperColumn("run", "Run"),
        PaperColumn("n_concepts", "Concepts", format="d"),
        PaperColumn("range_mask", "Range", "Cost", ".3f"),
        PaperColumn("neuron_mask", "Neuron", "Cost", ".3f"),
        PaperColumn("difference", "Range - neuron", format="+.3f", interval=True),
        PaperColumn("wins", "Wins", format="d"),
    )
    frame = pd.DataFrame(columns=_needed(columns))
    if parts:
        frame = pd.concat(parts, ignore_index=True)
        frame["method"] = _headline_names(frame, runs)
        frame["compared"] = (frame["n_concepts"] > 0).groupby([frame["method"], frame["level"]]).transform("sum")
        order = ["compared", "method", "level", "measure", "place"]
        frame = frame.sort_values(order, ascending=[False, *[True] * 4], kind="stable", ignore_index=True)
        frame = frame.loc[frame["compared"] > 0, [*_needed(columns), *KNOBS, "reached_range", "reached_neuron"]]
    return PaperTable(
        "compare-headline",
        "Range mask against neuron mask, run by run",
        "Complement accuracy and confidence drop at matched erasure at each run's own tau; a negative difference: the "
        "range costs the others less, which is a win. Differences are paired by concept within the run.",
        frame,
        columns,
        row_groups=("method", "level", "measure"),
        notes=(_about(runs[0].bootstrap),),
    )


def _headline_names(rows: pd.DataFrame, runs: Sequence[Run]) -> list[str]:
    """Return the edit and what else is swept within a run; what only sets runs apart is in their names."""
    swept = [
        knob
        for knob in ("layers", "range", "tau", "saliency", "control", "strength")
        if any(rows.loc[rows["run"] == run.name, knob].nunique(dropna=False) > 1 for run in runs)
    ]
    return [
        ", ".join(
            [
                str(row["edit"]),
                *(f"{knob.removesuffix('s')} {plain(row[knob])}" for knob in swept if pd.notna(row[knob])),
            ]
        )
        for row in rows.to_dict("records")
    ]


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `compare.md`, `compare.csv` (all tables, tidy, told apart by `part`) and `compare.tex`; return their paths.

    Raises:
        OutputError: the folder cannot be written.
    """
    told = "\n".join(f"- {sentence}" for sentence in comparison.remarks)
    markdown = "\n".join(["# Runs compared", "", told, "", *map(to_markdown, comparison.tables)])
    frames = [table.frame.assign(part=table.name.removeprefix("compare-")) for table in comparison.tables[1:]]
    whole = pd.concat(frames, ignore_index=True)
    whole = whole[["part", *(name for name in whole.columns if name != "part")]]
    latex = "\n".join(to_latex(page) for table in comparison.tables for page in pages(table))
    written = []
    for ending, text in (("md", markdown), ("csv", whole.to_csv(index=False)), ("tex", latex)):
        written.append(Path(folder) / f"compare.{ending}")
        write_atomically(written[-1], text.encode())
    return written


def console_tables(comparison: Comparison) -> list[Table]:
    """Return the comparison for a terminal: long tables cut, without the means behind each difference."""
    return [_console_table(table) for table in comparison.tables]


def _console_table(table: PaperTable) -> Table:
    kept = tuple(column for column in table.columns if not column.name.endswith(("_reference", "_run")))
    left = len(table.frame) - ROWS_ON_A_SCREEN
    cut = replace(table, columns=kept, frame=table.frame.iloc[:ROWS_ON_A_SCREEN])
    shown = Table(title=table.title, title_justify="left", caption=f"{left} more in compare.md" if left > 0 else None)
    headings, rows = as_text(cut)
    for place, (heading, column) in enumerate(zip(headings, kept, strict=True)):
        longest = max((len(row[place]) for row in rows), default=0)
        shown.add_column(
            Text(heading.replace(": ", "\n")),  # a group's heading above its column's
            justify="right" if column.format else "left",
            no_wrap=bool(column.format),
            min_width=min(longest, 16),
        )
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown
