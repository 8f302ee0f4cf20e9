"""report.html in a real browser, by file: it clicks, types and looks; Debian's chromium, headless."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.stats import gaussian_kde, norm

from neuronlens.config.compose import compose
from neuronlens.pipeline import run
from neuronlens.results.fitted import example_ids
from tests.report.conftest import LABELS, SCRIPT

CHROMIUM = next(
    (found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine; `make browser` installs Debian's"
)
SITE = "resid_post.2"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page with all that it says on the console, asks for, and pops up."""

    def __init__(self, browser: Any, path: Path, *, width: int = 1280, height: int = 900) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.console: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", self._dismiss)
        self.page.goto(path.resolve().as_uri(), timeout=0)
        if path.name == "report.html":
            charts = self.page.eval_on_selector_all(
                ".chart", "all => all.filter(one => one.offsetParent).map(one => one.id)"
            )
            assert charts
            self.drawn(*charts)

    def _dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def drawn(self, *charts: str) -> None:
        """Wait until charts were drawn for the first time."""
        for chart in charts:
            self.page.wait_for_selector(f"#{chart}[data-drawn]")

    def redrawn(self, chart: str, act: Callable[[], Any]) -> None:
        """Act, and wait until a chart has taken it in."""
        before = self.page.get_attribute(f"#{chart}", "data-drawn")
        act()
        # By a selector: the page's policy lets no text be run as a function, not a test's either.
        self.page.wait_for_selector(f"#{chart}:not([data-drawn='{before}'])")

    def choose(self, select: str, label: str, chart: str = "explorer-chart") -> None:
        """Choose an option by its text."""
        self.redrawn(chart, lambda: self.page.select_option(f"#{select}", label=label))

    def rows_of(self, chart: str, dataset: str) -> list[dict[str, Any]]:
        """Return the rows that a chart draws."""
        found: str = self.page.evaluate(f"JSON.stringify(document.getElementById('{chart}').view.data('{dataset}'))")
        return json.loads(found)

    def paths(self, chart: str) -> list[str]:
        """Return the shapes that a chart has drawn."""
        found: list[str] = self.page.eval_on_selector_all(
            f"#{chart} svg path", "all => all.map(one => one.getAttribute('d'))"
        )
        return [shape for shape in found if shape]

    def table(self, host: str) -> list[list[str]]:
        """Return the cells of every row of a table, also those past the first."""
        while self.page.is_visible(f"#{host} > button"):
            self.page.click(f"#{host} > button")
        found: list[list[str]] = self.page.eval_on_selector_all(
            f"#{host} tbody tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return found

    def column(self, host: str, heading: str) -> list[str]:
        """Return one column of a table."""
        heads = self.page.eval_on_selector_all(f"#{host} th", "heads => heads.map(head => head.textContent)")
        place = heads.index(heading)
        return [row[place] for row in self.table(host)]


@pytest.fixture
def watched(browser: Any, finished: Path) -> Iterator[Watched]:
    found = Watched(browser, finished / "report.html")
    yield found
    found.page.close()


def numbers(texts: list[str]) -> list[float]:
    """Return numbers as the page writes them, its minus sign and infinity included."""
    return [float(text.replace("−", "-").replace("∞", "inf").replace("–", "nan")) for text in texts]


class Files:
    """What the run folder says of one site, read without the package's page code."""

    def __init__(self, folder: Path) -> None:
        self.concepts: list[str] = json.loads((folder / "ranges.json").read_text())["concepts"]
        self.ranges, self.ranking = load_file(folder / "ranges.safetensors"), load_file(folder / "ranking.safetensors")
        shown = load_file(folder / "neurons.safetensors")
        self.labels, self.neurons = shown[f"{SITE}/labels"], shown[f"{SITE}/neurons"]
        self.values = shown[f"{SITE}/values"]
        samples = pd.read_parquet(folder / "samples.parquet").set_index("id")
        self.texts = samples.loc[example_ids(shown[f"{SITE}/ids"]), "text"].tolist()

    def of(self, neuron: int) -> np.ndarray:
        """Return a neuron's values `[sample]`."""
        return self.values[:, np.flatnonzero(self.neurons == neuron)[0]]

    def inside(self, neuron: int, concept: int, name: str) -> np.ndarray:
        """Return which samples lie in a range's intervals."""
        low, high = (np.float32(self.ranges[f"{SITE}/{name}/{end}"][concept, :, neuron]) for end in ("lower", "upper"))
        return ((self.of(neuron)[:, None] >= low) & (self.of(neuron)[:, None] <= high)).any(axis=1)


@pytest.fixture(scope="module")
def files(finished: Path) -> Files:
    return Files(finished)


def test_it_opens_without_a_word_on_the_console_and_without_the_network(watched: Watched, finished: Path) -> None:
    assert watched.requests == [(finished / "report.html").resolve().as_uri()]
    assert watched.console == []
    assert watched.page.title().startswith("tiny_bert on made_up")


def test_the_watching_would_notice_a_script_a_request_and_an_error(browser: Any, tmp_path: Path) -> None:
    noisy = f"{SCRIPT}<img src='file:///nowhere.png'><script>console.error('no'); missing()</script>"
    (tmp_path / "noisy.html").write_text(noisy)
    found = Watched(browser, tmp_path / "noisy.html")
    found.page.wait_for_timeout(200)
    assert found.dialogs == ["1"]
    assert len(found.requests) == 2
    assert len(found.console) >= 2
    found.page.close()


def test_text_that_would_act_is_shown_as_it_stands_and_does_nothing(watched: Watched, files: Files) -> None:
    watched.page.select_option("#samples-where", value="")
    texts = watched.column("samples-table", "text")
    assert sorted(texts) == sorted(files.texts)
    assert any(SCRIPT in text for text in texts)
    assert set(watched.column("samples-table", "true label")) == set(LABELS)
    options = watched.page.eval_on_selector_all("#explorer-concept option", "all => all.map(one => one.textContent)")
    assert options == files.concepts
    written = watched.page.eval_on_selector_all("#salient-chart svg text", "all => all.map(one => one.textContent)")
    assert SCRIPT in written
    square = watched.page.query_selector("#salient-chart .mark-rect path")
    square.scroll_into_view_if_needed()
    place = square.bounding_box()
    watched.page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    watched.page.wait_for_selector("#vg-tooltip-element.visible")
    assert any(
        label in watched.page.inner_text("#vg-tooltip-element")
        for label in (SCRIPT, LABELS[1], "__proto__", "<!-- cloud")
    )
    for concept in files.concepts[1:]:
        watched.choose("explorer-concept", concept)
    assert watched.dialogs == []
    assert watched.page.eval_on_selector_all("main script, main img, main b", "all => all.length") == 0
    assert watched.console == []


def test_choosing_a_concept_or_a_neuron_changes_the_plot_and_the_samples(watched: Watched, files: Files) -> None:
    order = np.argsort(-files.ranking[f"{SITE}/max"], axis=1, kind="stable")
    seen: list[tuple[list[str], list[list[str]]]] = []
    for concept, place in ((0, 0), (0, 1), (2, 0), (3, 7)):
        if watched.page.input_value("#explorer-concept") != str(concept):
            watched.choose("explorer-concept", files.concepts[concept])
        neuron = int(order[concept, place])
        if watched.page.input_value("#explorer-neuron") != str(neuron):
            watched.redrawn(
                "explorer-chart",
                lambda neuron=neuron: watched.page.select_option("#explorer-neuron", value=str(neuron)),
            )
        for name, label in (("gaussian/tau=1.0", "gaussian, tau 1"), ("mixture/tau=2.5", "mixture, tau 2.5")):
            watched.choose("explorer-range", label)
            inside = files.inside(neuron, concept, name)
            for where, expected in (("inside", inside), ("outside", ~inside)):
                watched.page.select_option("#samples-where", value=where)
                rows = watched.table("samples-table")
                own = np.flatnonzero(expected)
                assert sorted((row[2], row[3]) for row in rows) == sorted(
                    (files.concepts[files.labels[i]], files.texts[i]) for i in own
                )
                by_text = {files.texts[i]: files.of(neuron)[i] for i in own}
                for row in rows:
                    assert numbers([row[0]])[0] == pytest.approx(float(by_text[row[3]]), abs=6e-5)
                    assert row[1] == where
            is_own = files.labels == concept
            told = watched.page.inner_text("#explorer-readout")
            assert f"holds {(inside & is_own).sum()} of {is_own.sum()} samples" in told
            assert f"{(inside & ~is_own).sum()} of {(~is_own).sum()} of the rest" in told
        seen.append((watched.paths("explorer-chart"), watched.table("samples-table")))
    for place, (shapes, rows) in enumerate(seen):
        for other_shapes, other_rows in seen[:place]:
            assert shapes != other_shapes
            assert rows != other_rows


def test_densities_laws_and_intervals_are_scipys_and_the_runs_own(watched: Watched, files: Files) -> None:
    concept = 1
    watched.choose("explorer-concept", files.concepts[concept])
    neuron, values = int(watched.page.input_value("#explorer-neuron")), None
    values = files.of(neuron).astype(np.float64)
    watched.choose("explorer-range", "gaussian, tau 2.5")
    watched.redrawn("explorer-chart", lambda: watched.page.check("#explorer-every"))
    curves = pd.DataFrame(watched.rows_of("explorer-chart", "curves"))
    groups = {"the rest": files.labels != concept} | {
        name: files.labels == place for place, name in enumerate(files.concepts)
    }
    assert set(curves["name"]) == set(groups)
    for name, curve in curves.groupby("name"):
        expected = gaussian_kde(values[groups[str(name)]])(curve["x"])
        np.testing.assert_allclose(curve["y"], expected, rtol=1e-4, atol=1e-9)
    own = values[files.labels == concept]
    law = pd.DataFrame(watched.rows_of("explorer-chart", "laws"))
    np.testing.assert_allclose(law["y"], norm.pdf(law["x"], own.mean(), own.std()), rtol=1e-3, atol=1e-7)
    edges = sorted(row["x"] for row in watched.rows_of("explorer-chart", "edges"))
    bounds = [own.mean() - 2.5 * own.std(), own.mean() + 2.5 * own.std()]
    np.testing.assert_allclose(
        edges, [bound for bound in bounds if law["x"].min() <= bound <= law["x"].max()], rtol=1e-4
    )
    watched.choose("explorer-range", "mixture, tau 2.5")
    parts = [files.ranges[f"{SITE}/mixture/{name}"][concept, :, neuron] for name in ("weights", "means", "stds")]
    mixed = pd.DataFrame(watched.rows_of("explorer-chart", "laws"))
    total = mixed[mixed["name"] == "mixture"]
    density = sum(w * norm.pdf(total["x"], m, s) for w, m, s in zip(*parts, strict=True) if w > 0)
    np.testing.assert_allclose(total["y"], density, rtol=1e-3, atol=1e-6)
    rug = watched.rows_of("explorer-chart", "rug")
    np.testing.assert_allclose(sorted(row["x"] for row in rug), np.sort(values), rtol=1e-6)


def test_headings_sort_by_click_and_by_key(watched: Watched) -> None:
    heading = "#cells-table th:has-text('concept accuracy drop')"
    before = watched.column("cells-table", "concept accuracy drop")
    watched.page.click(f"{heading} button")
    assert watched.page.get_attribute(heading, "aria-sort") == "descending"
    shown = numbers(watched.column("cells-table", "concept accuracy drop"))
    assert shown == sorted(numbers(before), reverse=True) != numbers(before)
    watched.page.focus(f"{heading} button")
    watched.page.keyboard.press("Enter")
    assert watched.page.get_attribute(heading, "aria-sort") == "ascending"
    assert numbers(watched.column("cells-table", "concept accuracy drop")) == shown[::-1]
    sorted_by = watched.page.eval_on_selector_all(
        "#cells-table th", "all => all.map(one => one.getAttribute('aria-sort'))"
    )
    assert sorted_by.count("none") == len(sorted_by) - 1
    watched.page.click("#cells-table th:has-text('tau') button")
    taus = watched.column("cells-table", "tau")
    assert taus[-1] == "–"
    kept = [float(tau) for tau in taus if tau != "–"]
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == 2


def test_the_filter_and_the_concept_choose_rows(watched: Watched, finished: Path) -> None:
    rows = pd.read_parquet(finished / "results.parquet")
    rows = rows[rows["edit"] != "none"]
    watched.page.fill("#cells-filter", "gate=neuron ZERO dprime")
    chosen = rows[(rows["gate"] == "neuron") & (rows["edit"] == "zero") & (rows["saliency"] == "dprime")]
    assert len(watched.table("cells-table")) == len(chosen) / 4
    assert set(watched.column("cells-table", "gate")) == {"neuron"}
    watched.page.select_option("#cells-concept", label="every concept")
    assert len(watched.table("cells-table")) == len(chosen)
    watched.page.select_option("#cells-concept", label=SCRIPT)
    own = chosen[chosen["concept"] == SCRIPT]
    assert len(own)
    drops = numbers(watched.column("cells-table", "concept accuracy drop"))
    np.testing.assert_allclose(sorted(drops), sorted(own["concept_accuracy_drop"]), atol=5.1e-4)
    watched.page.fill("#cells-filter", "no such cell")
    assert "Nothing to show" in watched.page.inner_text("#cells-table [role=status]")
    watched.page.fill("#cells-filter", "")
    assert len(watched.table("cells-table")) == len(rows) / 4


def test_samples_are_searched(watched: Watched, files: Files) -> None:
    watched.page.select_option("#samples-where", value="")
    watched.page.fill("#samples-search", "onerror=alert")
    expected = [text for text in files.texts if "onerror=alert" in text]
    assert sorted(watched.column("samples-table", "text")) == sorted(expected) != []


def test_the_trade_off_follows_its_choices_and_its_legend(watched: Watched, finished: Path) -> None:
    rows = pd.read_parquet(finished / "results.parquet")
    own = rows[(rows["edit"] == "zero") & (rows["layers"] == "2")]
    points = watched.rows_of("tradeoff-chart", "points")
    assert len(points) == len(own) / 4
    for select, choice in (
        ("tradeoff-edit", {"label": "complement mean"}),
        ("tradeoff-cost", {"value": "kl"}),
        ("tradeoff-concept", {"label": "__proto__"}),
    ):
        act = partial(watched.page.select_option, f"#{select}", **choice)
        watched.redrawn("tradeoff-chart", act)
    own = rows[(rows["edit"] == "complement_mean") & (rows["layers"] == "2") & (rows["concept"] == "__proto__")]
    points = watched.rows_of("tradeoff-chart", "points")
    shown = sorted((point["x"], point["y"]) for point in points)
    share = own["concept_accuracy_drop"] / own["base_concept_accuracy"]
    np.testing.assert_allclose(shown, sorted(zip(share, own["kl"], strict=True)), rtol=1e-4, atol=1e-9)
    lows = sorted(point["x_low"] for point in points)
    np.testing.assert_allclose(
        lows, sorted(own["concept_accuracy_drop_low"] / own["base_concept_accuracy"]), rtol=1e-4, atol=1e-9
    )
    boxes = watched.page.query_selector_all("#tradeoff-legend input")
    drawn = len(watched.paths("tradeoff-chart"))
    watched.redrawn("tradeoff-chart", boxes[0].uncheck)
    hidden = watched.page.inner_text("#tradeoff-legend label:first-of-type").strip()
    assert len(watched.paths("tradeoff-chart")) < drawn
    assert hidden not in {point["method"] for point in watched.rows_of("tradeoff-chart", "points")}
    assert len({point["method"] for point in points}) - 1 == len(
        {p["method"] for p in watched.rows_of("tradeoff-chart", "points")}
    )


def test_bars_and_heat_maps_show_matched_erasure(watched: Watched, finished: Path) -> None:
    best = pd.read_parquet(finished / "methods.parquet")
    watched.redrawn("matched-chart", lambda: watched.page.select_option("#matched-level", value="0.4"))
    own = best[(best["layers"] == "2") & (best["level"] == 0.4) & (best["reached_range"] > 0)]
    bars = watched.rows_of("matched-chart", "bars")
    assert 1 < len(bars) == len(own)
    for name, column in (("mean", ""), ("low", "_own_low"), ("high", "_own_high")):
        drop = own["complement_confidence_drop"]  # where there is no interval, the line has no length
        expected = own[f"complement_confidence_drop{column}"].fillna(drop).tolist()
        np.testing.assert_allclose([bar[name] for bar in bars], expected, rtol=1e-4, atol=1e-9)
    matched = pd.read_parquet(finished / "matched.parquet")
    watched.redrawn("maps-concepts", lambda: watched.page.select_option("#maps-level", value="0.4"))
    squares = watched.rows_of("maps-concepts", "squares")
    own = matched[(matched["layers"] == "2") & (matched["level"] == 0.4)]
    for concept in LABELS:
        expected = own.loc[own["concept"] == concept, "complement_confidence_drop"].dropna()
        shown = [
            row["number"] for row in squares if row["column"].strip("\u200b") == concept and row["number"] is not None
        ]
        np.testing.assert_allclose(sorted(shown), sorted(expected), rtol=1e-4, atol=1e-9)


def test_the_keyboard_reaches_every_control_and_each_has_a_name(watched: Watched) -> None:
    watched.page.keyboard.press("Tab")
    assert watched.page.evaluate("document.activeElement.className") == "skip"
    assert watched.page.query_selector(".skip").bounding_box()["x"] >= 0
    reached = set()
    for _ in range(400):
        watched.page.keyboard.press("Tab")
        found = watched.page.evaluate(
            "document.activeElement === document.body ? null : document.activeElement.id || document.activeElement.textContent"
        )
        if found is None:
            break
        reached.add(found)
    wanted = watched.page.eval_on_selector_all(
        "select, input", "all => all.filter(one => one.offsetParent !== null && one.id).map(one => one.id)"
    )
    assert (
        {"explorer-concept", "explorer-neuron", "cells-filter", "tradeoff-edit", "matched-level"}
        <= set(wanted)
        <= reached
    )
    assert "concept accuracy drop" in reached
    nameless = "all => all.filter(one => one.labels.length === 0 || !one.labels[0].textContent.trim()).length"
    assert watched.page.eval_on_selector_all("select, input", nameless) == 0
    named = watched.page.eval_on_selector_all(
        ".chart [role=graphics-document]", "all => all.map(one => one.getAttribute('aria-label'))"
    )
    assert len(named) == 7
    assert all(len(name) > 20 for name in named)


def test_the_keyboard_changes_the_explorer(watched: Watched) -> None:
    before = watched.paths("explorer-chart")
    watched.page.focus("#explorer-concept")
    watched.redrawn("explorer-chart", lambda: watched.page.keyboard.press("ArrowDown"))
    assert watched.paths("explorer-chart") != before


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_runs_off_the_side(browser: Any, finished: Path, width: int) -> None:
    found = Watched(browser, finished / "report.html", width=width)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    outside = found.page.evaluate(
        """() => [...document.querySelectorAll("main *, header *, nav *")]
        .filter((one) => !one.closest(".scroll, svg, details, .skip"))
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.id || one.className || one.tagName)"""
    )
    assert outside == []
    for chart in ("tradeoff-chart", "matched-chart", "explorer-chart"):
        box = found.page.query_selector(f"#{chart} svg").bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= width
        assert box["width"] > 0.75 * min(width, 1100)
    assert found.page.get_attribute("meta[name=viewport]", "content") == "width=device-width, initial-scale=1"
    found.page.close()


def test_labels_of_charts_lie_inside_their_drawing(watched: Watched) -> None:
    for chart in ("tradeoff-chart", "matched-chart", "maps-concepts", "explorer-chart", "salient-chart"):
        box = watched.page.query_selector(f"#{chart} svg").bounding_box()
        clipped = watched.page.eval_on_selector_all(
            f"#{chart} svg text",
            """(all, box) => all.map((one) => [one.textContent, one.getBoundingClientRect()])
            .filter(([, place]) => place.width > 0)
            .filter(([, { left, right, top, bottom }]) => left < box.x - 1 || right > box.x + box.width + 1
                || top < box.y - 1 || bottom > box.y + box.height + 1)
            .map(([text]) => text)""",
            box,
        )
        assert clipped == [], chart


def test_svg_ids_and_element_ids_stand_once(watched: Watched) -> None:
    ids = watched.page.eval_on_selector_all("body [id]", "all => all.map(one => one.id)")
    assert len(set(ids)) == len(ids)
    assert not [name for name in ids if re.search(r"[<>\"'& ]", name)]


@pytest.mark.parametrize(
    "more",
    [
        ["layers.mode=together", "sweep.layers=[0,last]", "sweep.tau=[2.5,inf]", "evaluation.diagnostics=false"],
        ["sweep.gate=[neuron]", "sweep.edit=[leace]", "sweep.strength=[0.5,1.0]", "evaluation.bootstrap=0"],
        [
            "range=posterior",
            "range.density=mixture",
            "sweep.tau=null",
            "sweep.gate=[range,outside,joint,neuron]",
            "range.theta=0.9",
        ],
    ],
    ids=["together", "one edit without a range", "posterior"],
)
def test_runs_of_other_shapes_open_too(
    browser: Any, tiny_overrides: list[str], tmp_path: Path, more: list[str]
) -> None:
    swept = {entry.partition("=")[0] for entry in more}
    overrides = [entry for entry in tiny_overrides if entry.partition("=")[0] not in swept]
    run(compose([*overrides, *more]), tmp_path / "run")
    found = Watched(browser, tmp_path / "run" / "report.html")
    assert found.console == []
    assert not found.page.query_selector_all("main .note")
    cells = pd.read_parquet(tmp_path / "run" / "results.parquet").query("edit != 'none'")
    assert len(found.table("cells-table")) == len(cells) / 4
    for link in found.page.query_selector_all("nav a"):
        assert found.page.is_visible(str(link.get_attribute("href")))
    found.page.close()
