"""The level that was configured stands in every heading, and without resamples no output draws an interval."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from neuronlens.config.compose import compose
from neuronlens.measures.columns import MEASURES, RESULTS, SETTINGS
from neuronlens.measures.intervals import Bootstrap
from neuronlens.pipeline import run
from neuronlens.report.conclusion import conclusion
from neuronlens.report.figures.methods import methods
from neuronlens.report.figures.tradeoff import tradeoff
from neuronlens.report.redraw import redraw
from neuronlens.report.render.markdown import to_markdown
from neuronlens.report.side_by_side import put_side_by_side
from neuronlens.report.tables.general import general_table
from neuronlens.results.folder import RunFolder
from tests.report.conftest import read_page
from tests.tracking.offline_run import OfflineRun

BRACKETS = re.compile(r"\[[-+−]?\d[\d.]*, [-+−]?\d[\d.]*\]")
LEVELS = re.compile(r"\d[\d.]* ?%(?=\]| interval| bootstrap)")


@pytest.fixture(scope="module")
def folders(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two finished runs: at a level of 90 %, and without resamples, both followed by W&B."""
    home, found = tmp_path_factory.mktemp("runs"), {}
    kept = [entry for entry in tiny_overrides if not entry.startswith(("logger", "evaluation.bootstrap"))]
    for name, own in (
        ("ninety", ["evaluation.level=0.9", "evaluation.bootstrap=60"]),
        ("none", ["evaluation.bootstrap=0"]),
    ):
        found[name] = home / name
        run(compose([*kept, *own, "logger=wandb"]), found[name])
    return found


def printed(folder: Path) -> str:
    """Return what the run ends with on the console."""
    table, manifest = RunFolder(folder).read_results(), RunFolder(folder).read_manifest()
    console = Console(width=200, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(*conclusion(table, manifest.known_config))
    return capture.get()


def outputs(folder: Path, home: Path) -> dict[str, str]:
    """Return the texts that show a run, by name."""
    compared = put_side_by_side([folder, copy_of(folder, home / f"{folder.name}-again")], home / "compare")
    texts = {path.name: path.read_text() for path in compared if path.suffix in (".md", ".tex")}
    page = read_page(folder)
    return texts | {
        "table.md": (folder / "table.md").read_text(),
        "page": " ".join(page.elements.text),
        "console": printed(folder),
    }


def copy_of(folder: Path, path: Path) -> Path:
    shutil.copytree(folder, path, ignore=shutil.ignore_patterns("wandb"))
    return path


def test_headings_say_the_configured_level(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, text in outputs(folders["ninety"], tmp_path).items():
        found = {level.replace(" ", "").replace("\\", "") for level in LEVELS.findall(text)}
        assert found == ({"90%"} if name in ("table.md", "page", "console", "compare.md") else set()), name
        assert BRACKETS.search(text), name
    assert "difference [90 %]" in (folders["ninety"] / "table.md").read_text()
    assert "confidence - mask [90 %]" in (folders["ninety"] / "table.md").read_text()


def test_without_resamples_no_text_holds_an_interval(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, text in outputs(folders["none"], tmp_path).items():
        assert not BRACKETS.search(text), (name, BRACKETS.search(text))
        assert "nan" not in re.findall(r"[a-z]+", text.lower()), name
        assert not LEVELS.search(text), (name, LEVELS.findall(text))
    assert "| difference |" in (folders["none"] / "table.md").read_text()
    assert "shows no difference" in (folders["none"] / "table.md").read_text()


def test_without_resamples_no_figure_holds_an_error_bar(folders: dict[str, Path]) -> None:
    for name, drawn in (("none", False), ("ninety", True)):
        folder = RunFolder(folders[name])
        table, bootstrap = folder.read_results(), Bootstrap.of(folder.read_manifest().known_config)
        curves = [bars for axis in tradeoff(table.rows, bootstrap).axes for bars in axis.containers]
        assert curves
        assert {bars.has_xerr or bars.has_yerr for bars in curves} == {drawn}
        bars = [
            found for axis in methods(table.methods).axes for found in axis.containers if hasattr(found, "errorbar")
        ]
        assert bars
        assert {bar.errorbar is not None for bar in bars} == {drawn}


def test_without_resamples_the_pages_data_holds_no_bound(folders: dict[str, Path]) -> None:
    for name, drawn in (("none", False), ("ninety", True)):
        data = read_page(folders[name]).data
        parts = [*data["cells"]["means"].values(), *(data["rows"][key] for key in data["cells"]["means"])]
        parts += [data["ranked"][key] for key in data["costs"]]
        bounds = [value for part in parts for end in ("low", "high") for value in part[end]]
        assert any(value is not None for value in bounds) == drawn


def test_without_resamples_weights_and_biases_gets_no_bound(folders: dict[str, Path]) -> None:
    ends = [end for key in MEASURES for end in RESULTS[key].ends]
    for name, drawn in (("none", False), ("ninety", True)):
        read = OfflineRun(folders[name])
        for table in ("results", "comparison", "methods"):
            logged = pd.DataFrame(read.table(table)["data"], columns=read.table(table)["columns"])
            shown = [key for key in logged if key in ends or key.endswith(("_low", "_high"))]
            assert not shown or logged[shown].notna().any(axis=None) == drawn, table
        bounds = [key for key in read.summary if str(key).endswith(("_low", "_high"))]
        assert bool(bounds) == drawn, bounds  # the headline's; tables have few columns, the artifact has all


def test_a_finished_run_is_drawn_again_with_its_own_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, folder in folders.items():
        again = copy_of(folder, tmp_path / name)
        redraw(again)
        for file in ("table.md", "summary.json", "report.html", "figures/tradeoff.svg"):
            assert (again / file).read_bytes() == (folder / file).read_bytes(), (name, file)


def test_general_ability_has_the_configured_interval_too() -> None:
    general = pd.DataFrame([dict.fromkeys(SETTINGS) for _ in range(4)])
    general = general.assign(layers="5", site="resid_post", gate="neuron", edit="zero", subject=None, strength=1.0)
    general = general.assign(measure="perplexity", base=20.0, edited=[21.0, 22.0, 23.0, 24.0])
    general = general.assign(difference=general["edited"] - general["base"])
    text = to_markdown(general_table(general, Bootstrap(0.99, 100, 0)))
    assert "edited - base [99 %]" in text
    assert BRACKETS.search(text)
    text = to_markdown(general_table(general, Bootstrap(0.99, 0, 0)))
    assert "| edited - base |" in text
    assert f"| {np.log(general['edited'] / 20).mean():+.4g} |" in text, "perplexities by their logarithm"
    assert f"| {np.prod(general['edited']) ** 0.25:.4g} |" in text
    scores = to_markdown(general_table(general.assign(measure="mmlu_accuracy"), Bootstrap(0.99, 0, 0)))
    assert "| +2.5 |" in scores
    assert not BRACKETS.search(text)


def test_the_recorded_settings_are_those_of_the_run(folders: dict[str, Path]) -> None:
    config = RunFolder(folders["ninety"]).read_manifest().known_config
    assert Bootstrap.of(config) == Bootstrap(0.9, 60, config.seed)
    rows = RunFolder(folders["none"]).read_results().rows
    assert np.isnan(rows[[end for key in MEASURES for end in RESULTS[key].ends]].to_numpy(dtype=float)).all()
