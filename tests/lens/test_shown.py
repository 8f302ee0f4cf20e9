"""What a lens shows: tables held against the activations, texts read token by token, figures held against the run's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.config.compose import compose
from neuronlens.errors import ActivationError, ConfigError, DataError, ModelError, SiteError
from neuronlens.hooks.contexts import capture
from neuronlens.lens.lens import Lens
from neuronlens.pipeline import run
from neuronlens.records import Site
from neuronlens.results.folder import RunFolder
from tests.conftest import CONCEPTS, tiny_causal, tiny_model, tiny_tokenizer
from tests.lens.test_fit import LABELS, TEXTS, fit


@pytest.fixture(scope="module")
def lens() -> Lens:
    """A lens at two layers of a tiny classifier whose labels are the concepts."""
    model = tiny_model("bert")
    model.config.id2label = dict(enumerate(CONCEPTS))
    return fit(model, layers=[1, 2], top_fraction=0.25)


def test_ranges_are_those_of_the_definition(lens: Lens) -> None:
    table = lens.ranges("cloud")
    assert list(table.columns) == [
        *("site", "layer", "neuron", "interval", "low", "high", "n", "mean", "std", "score", "place"),
    ]
    assert len(table) == 2 * 16
    own = np.array(LABELS) == "cloud"
    for site in lens.sites:
        values = lens.cells.fitted[site].activations.values[own].astype(np.float64)
        rows = table[table["site"] == str(site)]
        np.testing.assert_allclose(rows["mean"], values.mean(0), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(rows["std"], values.std(0), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(rows["high"], values.mean(0) + 2.5 * values.std(0), rtol=1e-5)
        np.testing.assert_allclose(rows["score"], np.abs(values).mean(0), rtol=1e-6)
        assert rows.sort_values("place")["score"].is_monotonic_decreasing
        assert set(rows["n"]) == {12}
    narrow = lens.ranges("cloud", tau=1.0, layer=2)
    np.testing.assert_allclose(narrow["high"] - narrow["low"], 2 * narrow["std"], rtol=1e-5)
    assert set(lens.ranges("cloud", range="mixture")["interval"]) >= {0}
    assert (lens.ranges("cloud", gate="range", saliency="dprime")["score"] >= 0).all()


def test_the_most_salient_neurons_come_first(lens: Lens) -> None:
    best = lens.neurons("drum", top=3)
    assert best["place"].tolist() == [0, 1, 2, 0, 1, 2]
    whole = lens.ranges("drum")
    for site, rows in best.groupby("site"):
        assert rows["score"].tolist() == sorted(whole[whole["site"] == site]["score"], reverse=True)[:3]
    with pytest.raises(ConfigError, match="top is 0, expected a whole number above 0"):
        lens.neurons("drum", top=0)
    with pytest.raises(ConfigError, match=r"Unknown concept 'drun'. Did you mean 'drum'"):
        lens.neurons("drun")
    with pytest.raises(ConfigError, match="Gate 'neuron' reads no range"):
        lens.ranges("drum", gate="neuron")


def test_overlap_counts_the_neurons_of_all_sites(lens: Lens) -> None:
    table = lens.overlap(top_count=4)
    assert list(table.index) == list(table.columns) == list(CONCEPTS)
    sets = {
        name: {(row.site, row.neuron) for row in lens.neurons(name, top=4).itertuples()} for name in ("apple", "drum")
    }
    shared = len(sets["apple"] & sets["drum"]) / len(sets["apple"] | sets["drum"])
    assert table.loc["apple", "drum"] == pytest.approx(shared)
    assert np.diag(table).tolist() == [1.0] * 4
    assert lens.overlap(top_count=16).to_numpy().min() == 1.0


def test_a_text_is_explained_token_by_token(lens: Lens) -> None:
    text = "w3 w17 w4"
    found = lens.explain(text, tau=1.0)
    assert found.tokens == ("w3", "w17", "w4")
    model = lens.loaded.model
    batch = tiny_tokenizer()(text, return_tensors="pt")
    with torch.no_grad(), capture(model, lens.sites) as seen:
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    wanted, hits = set(), np.zeros((3, 4))
    for number, concept in enumerate(CONCEPTS):
        salient = lens.neurons(concept, top=4, tau=1.0)
        for row in salient.itertuples():
            for token in range(3):
                value = float(seen[Site(row.layer)][0, token, row.neuron])
                if np.float32(row.low) <= value <= np.float32(row.high):
                    wanted.add((token, concept, row.layer, row.neuron))
                    hits[token, number] += 1
    table = found.table()
    assert {(r.position, r.concept, r.layer, r.neuron) for r in table.itertuples()} == wanted != set()
    np.testing.assert_allclose(found.shares, hits / 8)
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert found.summary().columns.tolist() == ["token", *CONCEPTS]
    assert str(found).splitlines()[1].startswith("w17")
    one = lens.explain(text, concepts=["drum"], tau=1.0)
    np.testing.assert_allclose(one.shares[:, 0], found.shares[:, 3])
    with pytest.raises(DataError, match=r"lens.explain got no text"):
        lens.explain("  ")


def test_the_strip_is_escaped() -> None:
    model = tiny_model("bert")
    lens = fit(model, labels=[label.replace("apple", "<b>apple</b>") for label in LABELS])
    strip = lens.explain("w1 & <script>")._repr_html_()
    assert "<script" not in strip
    assert "<b>" not in strip
    assert "&lt;b&gt;apple&lt;/b&gt;" in strip
    assert set(re.findall(r"<(\w+)", strip)) == {"div", "span"}
    assert strip.count("<span title=") == len(lens.explain("w1 & <script>").tokens)


def test_figures_are_the_runs_own(tiny_overrides: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuronlens.report.figures.draw.draw", lambda *arguments, **named: [])
        run(compose([*tiny_overrides, "sweep=single"]), tmp_path / "run")
    lens, folder = Lens.from_run(tmp_path / "run"), RunFolder(tmp_path / "run")
    samples = folder.read_samples("test")
    table = lens.evaluate(samples["text"], samples["label"], tau=2.5, top_fraction=0.25)
    rows = folder.read_results().rows
    rows = rows[(rows["gate"] == "range") & (rows["tau"] == 2.5) & (rows["top_fraction"] == 0.25)]
    for row in table.to_dict("records"):
        wanted = rows[rows["concept"] == row["concept"]].iloc[0]
        for name in ("concept_accuracy_drop", "concept_confidence_drop", "selectivity", "kl", "flip_rate"):
            for end in ("", "_low", "_high"):
                assert row[name + end] == pytest.approx(wanted[name + end], abs=1e-5), (name, end)
    assert [row["concept"] for row in lens.figures] == list(CONCEPTS)
    assert Lens.load(lens.save(tmp_path / "measured.lens")).figures == lens.figures


def test_a_model_that_does_not_answer_with_the_concepts_has_no_figures() -> None:
    lens = fit(tiny_causal("llama"))
    with pytest.raises(ModelError, match="answers with no label, expected apple, bridge, cloud, drum"):
        lens.evaluate(TEXTS, LABELS)


def test_a_lens_without_a_model_says_how_to_give_it_one(tmp_path: Path) -> None:
    model = tiny_model("bert")
    lens = Lens.load(fit(model, name="tiny").save(tmp_path / "a.lens"))
    with pytest.raises(ModelError, match=r"a model in hand, 'tiny'.*Next: lens.bind\(model, tokenizer\)"):
        lens.explain("w1")
    assert lens.bind(model, tiny_tokenizer()).explain("w1 w2").tokens == ("w1", "w2")


def test_the_chart_shows_the_values_and_the_range(lens: Lens) -> None:
    chart: dict[str, Any] = lens.plot("cloud", 3, layer=2).to_dict()
    assert chart["title"] == "cloud: neuron 3 at resid_post.2"
    spans, bars = (pd.DataFrame(rows) for rows in chart["datasets"].values())
    row = lens.ranges("cloud", layer=2).query("neuron == 3").iloc[0]
    values = lens.cells.fitted[Site(2)].activations.values[:, 3]
    assert spans["low"][0] == pytest.approx(max(row["low"], values.min()))
    assert spans["high"][0] == pytest.approx(min(row["high"], values.max()), abs=1e-6)
    np.testing.assert_allclose(bars.groupby("samples")["share"].sum(), 1.0)
    with pytest.raises(SiteError, match=r"The lens has resid_post.1, resid_post.2. Next: lens.plot"):
        lens.plot("cloud", 3)
    with pytest.raises(ConfigError, match="neuron is 16, expected 0 to 15"):
        lens.plot("cloud", 16, layer=2)


def test_a_concept_without_enough_samples_has_no_range() -> None:
    lens = fit(tiny_model("bert"), labels=["apple", *LABELS[12:], *["bridge"] * 11])
    with pytest.raises(ActivationError, match="1 samples to fit"):
        lens.ranges("apple")
