"""Figures, palette and the dumbbell chart: bounded in size, one name and colour per method, numbers of the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuronlens.config.compose import compose
from neuronlens.measures.columns import COST
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import curves, share_erased
from neuronlens.records import ResultTable
from neuronlens.report.figures.draw import draw
from neuronlens.report.figures.grid import LARGEST, SMALLEST, grid
from neuronlens.report.figures.methods import layers_by_tau, methods
from neuronlens.report.figures.tradeoff import tradeoff
from neuronlens.report.page.cells import SHARE, table_data
from neuronlens.report.page.dumbbell import dumbbell
from neuronlens.report.palette import NEURON_COLOUR, RANGE_COLOUR, all_shortened, key_of, shortened, styles
from tests.report.many import OVERRIDES, concept_names, made_up_folder, made_up_results

BOOTSTRAP = Bootstrap(0.95, 100, 0)


@pytest.fixture(scope="module")
def table() -> ResultTable:
    """Three layers, six concepts."""
    return made_up_results(6, 3)


@pytest.mark.parametrize("panels", [1, 3, 4, 5, 96, 240, 5000])
def test_a_grid_stays_within_the_largest_size_and_keeps_the_last_panel(panels: int) -> None:
    found = grid(panels, 5.0, 7.2)
    assert max(found.size) <= LARGEST + 1e-9
    assert found.columns * found.rows >= len(found.kept)
    assert found.kept[-1] == panels - 1
    assert len(found.kept) + found.left_out == panels
    assert bool(found.note("panels", "x")) == (found.left_out > 0)
    assert found.width >= 5.0 * SMALLEST - 1e-9
    assert not found.left_out or panels > 100, "a hundred fit"


def test_no_figure_of_24_layers_and_long_names_is_over_6000_px(tmp_path: Path) -> None:
    found = made_up_results(2, 24, long=True)
    folder = made_up_folder(tmp_path / "run", found, 24)
    drawn = draw(folder, found, BOOTSTRAP, 2.5)
    assert {path.stem for path in drawn} >= {"tradeoff", "methods", "overlap", "firing", "layers_by_tau"}
    for path in drawn:
        with Image.open(path) as image:
            assert max(image.size) <= 6000, path


def test_a_method_has_one_name_and_one_colour_on_page_and_figures(table: ResultTable) -> None:
    known = styles(curves(table.rows), 2.5)
    assert {style.name: style.colour for style in known.values()} == {
        style.name: style.colour for style in styles(table.methods, 2.5).values()
    }
    page = {method["name"]: method["colour"] for method in table_data(table, BOOTSTRAP, 2.5)["methods"]}
    assert page == {style.name: style.colour for style in known.values()}
    legend = {
        text.get_text()
        for axis in tradeoff(table.rows, BOOTSTRAP, 2.5).axes
        if axis.get_legend()
        for text in axis.get_legend().get_texts()
    }
    assert legend == set(page)
    bars = {
        label.get_text().rpartition(" (")[0]
        for axis in methods(table.methods, 2.5).axes
        for label in axis.get_yticklabels()
    }
    assert bars - {""} == set(page)
    assert page["neuron zero"] == page["neuron complement_mean"] == NEURON_COLOUR
    assert page["range (gaussian 2.5) zero"] == RANGE_COLOUR
    assert page["range (gaussian 1) zero"] not in (RANGE_COLOUR, NEURON_COLOUR)


def test_panels_in_which_no_method_gets_there_are_left_out(table: ResultTable) -> None:
    none = table.methods.assign(reached_range=table.methods["reached_range"].where(table.methods["level"] < 0.5, 0))
    shown = [axis.get_title() for axis in methods(none, 2.5).axes if axis.get_visible()]
    assert len(shown) == 3 * 2
    assert all(title.endswith(("20% erased", "40% erased")) for title in shown)


def test_the_square_of_layers_and_taus_holds_the_range_masks_costs(table: ResultTable) -> None:
    figure = layers_by_tau(table.methods)
    assert figure is not None
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    own = table.methods.query("gate == 'range' and edit == 'zero' and level == 0.2")
    expected = own.set_index(["tau", "layers"])[COST].unstack("layers")
    np.testing.assert_allclose(np.asarray(image, dtype=float), expected.to_numpy())
    assert layers_by_tau(table.methods.query("layers == '0'")) is None


def test_the_dumbbell_shows_the_means_of_the_comparison_and_says_what_is_never_reached(table: ResultTable) -> None:
    config = compose(OVERRIDES)
    found = dumbbell(table, config)
    assert found is not None
    assert [group["name"] for group in found["groups"]] == ["zero", "complement mean"]
    own = table.comparison.query("layers == '2' and tau == 2.5 and edit == 'zero'").sort_values("level")
    for line, row in zip(found["groups"][0]["lines"], own.to_dict("records"), strict=True):
        assert line["text"] == f"{row[f'{COST}_range']:.3f} against {row[f'{COST}_neuron']:.3f}"
        ours, theirs = line["marks"]
        assert ours["at"] < theirs["at"]
        assert ours["low"] <= ours["at"] <= ours["low"] + ours["width"] + 0.02
        assert theirs["low"] >= 0
        assert theirs["low"] + theirs["width"] <= 100.1
    never = dumbbell(table, compose(["range.tau=1.0", "logger=csv"]))
    assert never is not None
    texts = [line["never"] for line in never["groups"][0]["lines"]]
    assert texts[0] == ""
    assert texts[-1] == "never by both: by range masks in 0 concepts, by neuron masks in 6"
    assert (
        dumbbell(
            ResultTable(table.rows, table.matched, pd.DataFrame(), table.methods, pd.DataFrame(), table.base), config
        )
        is None
    )


def test_the_share_erased_is_of_what_the_unedited_model_had(table: ResultTable) -> None:
    rows = table.rows.assign(base_concept_accuracy=[0.0] + [0.9] * (len(table.rows) - 1))
    found = share_erased(rows)
    assert np.isnan(found.iloc[0])
    assert found.iloc[1] == pytest.approx(rows["concept_accuracy_drop"].iloc[1] / 0.9)
    means = table_data(table, BOOTSTRAP, 2.5)["cells"]["means"]
    expected = [value / 0.9 for value in means["concept_accuracy_drop"]["mean"]]
    np.testing.assert_allclose(means[SHARE]["mean"], expected, rtol=1e-4)


def test_long_names_are_shortened_in_the_middle_and_stay_apart() -> None:
    names = concept_names(12, long=True)
    found = all_shortened(names)
    assert len(set(found)) == 12
    assert all(len(name) <= 32 for name in found)
    assert found[11].endswith("number 11")
    assert all_shortened(["a" * 50, "a" * 50])[1].endswith("(2)")
    assert shortened("short") == "short"
    assert key_of({"tau": np.nan}) == key_of({})
