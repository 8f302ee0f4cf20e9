"""The report page: one HTML file with everything in it, that opens from disk and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import COST
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.report.cells import texts
from neuronlens.report.message import message
from neuronlens.report.page.cells import table_data
from neuronlens.report.page.dumbbell import dumbbell
from neuronlens.report.page.explorer import explorer_data
from neuronlens.report.page.held_out import held_out_data, overlap_data, skipped_data
from neuronlens.report.page.library import drawing_library
from neuronlens.report.page.values import Json, rounded
from neuronlens.report.table import Table
from neuronlens.report.tables.budget import budget_table
from neuronlens.report.tables.comparison import at_tau, comparison_table, headline
from neuronlens.report.tables.general import general_table
from neuronlens.report.tables.unedited import accuracy_text
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest

NAME = "report.html"
SCRIPTS = (
    *("data", "dom", "table", "charts", "tradeoff", "matched", "cells", "density", "explorer", "samples", "main"),
)
SECTIONS = (
    ("answer", "Range against neuron"),
    ("tradeoff", "Trade-off"),
    ("matched", "Matched erasure"),
    ("budget", "Damage budget"),
    ("maps", "By concept and layer"),
    ("explorer", "Neuron explorer"),
    ("held-out", "Purity and firing"),
    ("cells", "Every cell"),
    ("salient", "Shared neurons"),
    ("general", "General ability"),
    ("skipped", "Skipped"),
    ("made", "How it was made"),
)


def write_page(folder: RunFolder, table: ResultTable, manifest: Manifest, bootstrap: Bootstrap) -> Path:
    """Write `report.html` of a finished run and return its path.

    Args:
        folder: with its arrays, samples and diagnostics written.
        manifest: of the run, with its timings or without.
        bootstrap: of the intervals over concepts.
    """
    config = manifest.known_config
    tau = config.headline_tau
    data = page_data(folder, table, tau, bootstrap)
    rows = headline(table, tau)
    able = table.general is not None and len(table.general) > 0
    shown: dict[str, Any] = {
        "head": _head(table, manifest, message(table, config), bootstrap),
        "dumbbell": dumbbell(table, config),
        "comparison": _by_measure(comparison_table(rows, bootstrap)) if rows else None,
        "general": _as_text(general_table(table.general, bootstrap)) if able else None,
        "budget": _budget(table, tau, bootstrap),
        "skipped": skipped_data(table.rows),
        "left_out": data["left_out"],
    }
    html = render(data, shown, Path(config.paths.cache_dir))
    folder.write_text(NAME, html)
    return folder.path / NAME


def _budget(table: ResultTable, tau: float | None, bootstrap: Bootstrap) -> Json | None:
    """Return erasure at damage budgets at the configured tau; None where it was not compared."""
    rows = at_tau(table.budget_comparison, tau)
    return _as_text(budget_table(pd.DataFrame(rows), bootstrap)) if rows else None


def _by_measure(table: Table) -> Json:
    """Return a comparison as a table per measure, confidence first: where one moves and the other does not, both show it.

    p values stay those of the whole comparison.
    """
    columns = tuple(column for column in table.columns if column.name != "measure")
    parts = {
        str(name): _as_text(replace(table, frame=own, columns=columns)) for name, own in table.frame.groupby("measure")
    }
    order = sorted(parts, key=lambda name: name != naming.measure(COST, short=True))
    return {"caption": next(iter(parts.values()))["caption"], "tables": [(name, parts[name]) for name in order]}


def _as_text(table: Table) -> Json:
    """Return a table as the template writes it: headings, rows of text, and which columns are set to the right."""
    about = " ".join((table.caption, *table.notes))
    headings, rows = texts(table)
    return {"headings": headings, "rows": rows, "right": table.right_aligned, "caption": about}


def page_data(folder: RunFolder, table: ResultTable, tau: float | None, bootstrap: Bootstrap) -> Json:
    """Return everything that the page's scripts draw, as JSON types; `left_out` says what did not fit.

    Args:
        tau: the configured one, which the page shows first.
        bootstrap: of the intervals over concepts.
    """
    data = table_data(table, bootstrap, tau)
    data["tau"] = rounded([tau])[0]
    diagnostics, overlap = folder.read_diagnostics()
    data["overlap"] = overlap_data(overlap, data["concepts"])
    data["held_out"] = held_out_data(diagnostics)
    data["explorer"] = explorer_data(folder, data["left_out"])
    swept = list(dict.fromkeys(data["cells"]["knobs"]["saliency"]))
    for site in data["explorer"]["sites"]:  # the files hold rankings by the alphabet
        site["rankings"].sort(
            key=lambda ranking: swept.index(ranking["name"]) if ranking["name"] in swept else len(swept)
        )
    return data


def render(data: Mapping[str, Any], shown: Mapping[str, Any], cache: Path) -> str:
    """Return the page.

    Nothing of the data can act in it: text is escaped by the template, JSON holds no `<`, and the policy lets no script
    run but the two of the page, known by their hashes, and nothing be fetched.

    Args:
        data: as `page_data` gives it.
        shown: what the template writes itself: `head`, `dumbbell`, `comparison`, `budget`, `general`, `skipped`, `left_out`.
        cache: the run's cache folder.
    """
    from markupsafe import Markup

    library, script = drawing_library(cache), own_script()
    absent = {name for name in ("budget", "general", "skipped") if not shown[name]}
    absent |= {"answer"} if not shown["comparison"] else set()
    return str(
        _template().render(
            **shown,
            policy=_policy([library.script, script]),
            sections=[section for section in SECTIONS if section[0] not in absent],
            style=Markup(_asset("page.css")),
            data=Markup(embedded_json({**data, "charts": library.charts})),
            library=Markup(library.script),
            script=Markup(script),
        )
    )


def embedded_json(data: Any) -> str:
    r"""Return JSON that may stand inside a script element: no tag or comment can begin or end in it.

    >>> embedded_json({"text": "</script>"})
    '{"text":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def own_script() -> str:
    """Return the page's own scripts as one, in a scope of their own."""
    parts = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


@lru_cache(maxsize=32)
def _asset(name: str) -> str:
    return (resources.files("neuronlens.report.page") / "assets" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({"page": _asset("page.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page")


def _head(table: ResultTable, manifest: Manifest, answer: str, bootstrap: Bootstrap) -> Json:
    base = table.base
    cells = table.rows.loc[table.rows["edit"] != "none", "cell_id"].nunique() // max(int(base["concepts"]), 1)
    figures = [
        ("accuracy, unedited", accuracy_text(base, bootstrap)),
        ("chance", f"{1 / base['concepts']:.3f}"),
        ("gold confidence, unedited", f"{base['confidence']:.3f}"),
        ("test samples", f"{base['n']:.0f}"),
        ("concepts", f"{base['concepts']:.0f}"),
        ("cells per concept", f"{cells}"),
    ]
    config = manifest.known_config
    model, dataset = config.model.name, config.dataset.name
    versions = sorted(manifest.versions.items())
    versions += [("git revision", manifest.git_revision or "not in a repository")]
    versions += [("machine", manifest.machine), ("seed", str(config.seed))]
    return {
        "title": f"{model} on {dataset}",
        "model": model,
        "dataset": dataset,
        "run_id": manifest.run_id,
        "message": answer,
        "figures": figures,
        "level": bootstrap.percent,
        "command": shlex.join(manifest.command),
        "versions": versions,
        "fingerprints": sorted(manifest.fingerprints.items()),
        "config": json.dumps(manifest.settings, indent=2, sort_keys=True, ensure_ascii=False),
    }
