"""The report page: one HTML file with everything in it, that opens from disk and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from neuronlens.records import ResultTable
from neuronlens.report.general import COLUMNS, general_cells, general_means
from neuronlens.report.page.data import held_out_data, overlap_data, rounded, skipped_data, table_data
from neuronlens.report.page.explorer import explorer_data
from neuronlens.report.page.library import drawing_library
from neuronlens.report.tables import HEADINGS, comparison_cells, headline, verdict
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
    ("maps", "By concept and layer"),
    ("explorer", "Neuron explorer"),
    ("cells", "Every cell"),
    ("salient", "Shared neurons"),
    ("held-out", "Held-out ranges"),
    ("general", "General ability"),
    ("skipped", "Skipped"),
    ("made", "How it was made"),
)


def write_page(folder: RunFolder, table: ResultTable, manifest: Manifest) -> Path:
    """Write `report.html` of a finished run and return its path.

    Args:
        folder: with its arrays, samples and diagnostics written.
        manifest: of the run, with its timings or without.
    """
    config = manifest.known_config
    tau = config.headline_tau
    data = page_data(folder, table, tau, level=config.evaluation.level, seed=config.seed)
    rows = headline(table, tau)
    general = None
    if table.general is not None and len(table.general):
        general = general_cells(general_means(table.general, level=0.95, resamples=1000, seed=0))
    shown: dict[str, Any] = {
        "head": _head(table, manifest, verdict(table, tau)),
        "comparison": comparison_cells(rows, with_tau=True),
        "general": general,
        "skipped": skipped_data(table.rows),
        "left_out": data["left_out"],
    }
    html = render(data, shown, Path(config.paths.cache_dir))
    folder.write_text(NAME, html)
    return folder.path / NAME


def page_data(folder: RunFolder, table: ResultTable, tau: float | None, *, level: float, seed: int) -> dict[str, Any]:
    """Return everything that the page's scripts draw, as JSON types; `left_out` says what did not fit.

    Args:
        tau: the configured one, which the page shows first.
        level: of the intervals over concepts.
    """
    data = table_data(table, level=level, seed=seed)
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
        shown: what the template writes itself: `head`, `comparison`, `general`, `skipped`, `left_out`.
        cache: the run's cache folder.
    """
    from markupsafe import Markup

    library, script = drawing_library(cache), own_script()
    absent = {name for name in ("general", "skipped") if not shown[name]} | (
        {"answer"} if not shown["comparison"] else set()
    )
    return str(
        _template().render(
            **shown,
            policy=_policy([library.script, script]),
            sections=[section for section in SECTIONS if section[0] not in absent],
            comparison_headings=HEADINGS,
            general_headings=COLUMNS,
            style=Markup(_asset("page.css")),
            data=Markup(embedded_json({**data, "charts": library.charts})),
            library=Markup(library.script),
            script=Markup(script),
        )
    )


def embedded_json(data: Any) -> str:
    """Return JSON that may stand inside a script element: no tag or comment can begin or end in it.

    >>> embedded_json({"text": "</script>"})
    '{"text":"\\\\u003c/script\\\\u003e"}'
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


def _head(table: ResultTable, manifest: Manifest, answer: str) -> dict[str, Any]:
    base, config = table.base, manifest.known_config
    cells = table.rows.loc[table.rows["edit"] != "none", "cell_id"].nunique() // max(int(base["concepts"]), 1)
    figures = [
        ("accuracy, unedited", f"{base['accuracy']:.3f}"),
        ("chance", f"{1 / base['concepts']:.3f}"),
        ("gold confidence, unedited", f"{base['confidence']:.3f}"),
        ("test samples", f"{base['n']:.0f}"),
        ("concepts", f"{base['concepts']:.0f}"),
        ("cells per concept", f"{cells}"),
    ]
    model, dataset = config.model.name, config.dataset.name
    versions = sorted(manifest.versions.items())
    versions += [("git revision", manifest.git_revision or "not in a repository")]
    versions += [("machine", manifest.machine), ("seed", str(config.seed))]
    return {
        "title": f"{model} on {dataset}",
        "model": model,
        "dataset": dataset,
        "run_id": manifest.run_id,
        "verdict": answer,
        "figures": figures,
        "level": f"{config.evaluation.level:.0%}",
        "command": shlex.join(manifest.command),
        "versions": versions,
        "fingerprints": sorted(manifest.fingerprints.items()),
        "config": json.dumps(manifest.settings, indent=2, sort_keys=True, ensure_ascii=False),
    }
