"""report.html: what it holds is what the run's files say, nothing in it can act, and it stays small."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scipy.stats import norm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from neuronlens.config.compose import compose
from neuronlens.edits.fitting import fit_site
from neuronlens.measures.columns import EFFECTS, SETTINGS
from neuronlens.measures.intervals import Bootstrap
from neuronlens.pipeline import run
from neuronlens.records import ActivationSet, ResultTable, Site
from neuronlens.report.figures.draw import draw
from neuronlens.report.page import cells as page_cells
from neuronlens.report.page import explorer
from neuronlens.report.page.cells import table_data
from neuronlens.report.page.explorer import explorer_data
from neuronlens.report.page.write import embedded_json, write_page
from neuronlens.report.redraw import redraw
from neuronlens.results.fitted import example_ids
from neuronlens.results.folder import RunFolder
from tests.report.conftest import LABELS, Page, floats, read_page


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return read_page(finished)


def bootstrap_of(folder: Path) -> Bootstrap:
    return Bootstrap.of(RunFolder(folder).read_manifest().known_config)


def knob_text(value: Any) -> str:
    return "-" if value is None or pd.isna(value) else (value if isinstance(value, str) else f"{float(value):g}")


def cell_keys(page: Page) -> list[tuple[str, ...]]:
    knobs = page.data["cells"]["knobs"]
    return [
        tuple(knob_text(knobs[name][cell]) for name in SETTINGS) for cell in range(len(page.data["cells"]["method"]))
    ]


def by_cell(finished: Path) -> pd.DataFrame:
    rows = pd.read_parquet(finished / "results.parquet")
    rows = rows[rows["edit"] != "none"]
    return rows.assign(key=[tuple(knob_text(row[name]) for name in SETTINGS) for row in rows.to_dict("records")])


def test_cells_hold_the_means_over_concepts_and_their_intervals(page: Page, finished: Path) -> None:
    keys, rows = cell_keys(page), by_cell(finished)
    assert sorted(keys) == sorted(set(rows["key"]))
    assert len(keys) == 2 * 2 * 3 * 2 * (2 * 2 + 1)
    for cell, key in enumerate(keys):
        own = rows[rows["key"] == key]
        assert page.data["cells"]["n_neurons"][cell] == own["n_neurons"].mean()
        for name in EFFECTS:
            shown = [page.data["cells"]["means"][name][end][cell] for end in ("mean", "low", "high")]
            expected = bootstrap_of(finished).of_mean(own[name].to_numpy())
            np.testing.assert_allclose(shown, expected, rtol=6e-5, atol=1e-12)
            assert shown[0] == pytest.approx(own[name].sum() / 4, rel=6e-5, abs=1e-12)


def test_rows_of_single_concepts_are_those_of_the_results(page: Page, finished: Path) -> None:
    keys, concepts, rows = cell_keys(page), page.data["concepts"], page.data["rows"]
    expected = {(row["key"], row["concept"]): row for row in by_cell(finished).to_dict("records")}
    assert len(rows["cell"]) == len(expected)
    for place, (cell, concept) in enumerate(zip(rows["cell"], rows["concept"], strict=True)):
        own = expected[keys[cell], concepts[concept]]
        for name in EFFECTS:
            for end, column in (("mean", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
                assert rows[name][end][place] == pytest.approx(float(own[column]), rel=6e-5, abs=1e-12)


def test_matched_erasure_is_the_runs_own(page: Page, finished: Path) -> None:
    methods, matched = page.data["methods"], pd.read_parquet(finished / "matched.parquet")
    shown = page.data["matched"]
    assert len(shown["method"]) == len(matched)
    for place, row in enumerate(matched.to_dict("records")):
        method = methods[shown["method"][place]]
        assert [method[name] for name in ("layers", "edit", "gate")] == [row["layers"], row["edit"], row["gate"]]
        assert row["saliency"] in method["name"]
        if pd.notna(row["tau"]):
            assert f"{row['tau']:g})" in method["name"]
        assert page.data["concepts"][shown["concept"][place]] == row["concept"]
        assert shown["level"][place] == row["level"]
        for name in ("complement_accuracy_drop", "complement_confidence_drop", "kl"):
            value = shown[name][place]
            assert (value is None and np.isnan(row[name])) or value == pytest.approx(row[name], rel=6e-5, abs=1e-12)
    ranked, best = page.data["ranked"], pd.read_parquet(finished / "methods.parquet")
    assert ranked["reached"] == best["reached_range"].tolist()
    cost = best["complement_confidence_drop"].tolist()
    for value, expected in zip(ranked["complement_confidence_drop"]["mean"], cost, strict=True):
        assert (value is None and np.isnan(expected)) or value == pytest.approx(expected, rel=6e-5, abs=1e-12)


def test_every_method_has_a_name_of_its_own_within_a_layer(page: Page) -> None:
    named = [(method["layers"], method["name"]) for method in page.data["methods"]]
    assert len(set(named)) == len(named)
    assert sum(method["plain_mask"] for method in page.data["methods"]) == 2 * 2


def test_overlap_and_held_out_figures_are_those_of_the_files(page: Page, finished: Path) -> None:
    overlap = pd.read_parquet(finished / "overlap.parquet").set_index(["site", "saliency", "concept", "other"])[
        "jaccard"
    ]
    concepts = page.data["concepts"]
    assert len(page.data["overlap"]) == 4
    for panel in page.data["overlap"]:
        for i, j in np.ndindex(4, 4):
            expected = overlap[panel["site"], panel["saliency"], concepts[i], concepts[j]]
            assert panel["square"][i][j] == pytest.approx(expected, abs=1e-4)
    diagnostics = pd.read_parquet(finished / "diagnostics.parquet")
    assert len(page.data["held_out"]) == 2 * 2 * 4 * 4
    for row in page.data["held_out"]:
        own = diagnostics
        for name in ("site", "saliency", "range", "tau", "concept"):
            own = own[own[name] == row[name]]
        assert row["neurons"] == len(own) == 4  # a quarter of sixteen: intervention.top_fraction is 0.3
        assert row["coverage"] == pytest.approx(own["firing_concept"].sum() / len(own), rel=1e-3)
        assert row["ks"] == pytest.approx(np.median(own["ks_statistic"]), rel=1e-3)
        assert row["normal"] == pytest.approx(sum(own["ks_p"] >= 0.05) / len(own), rel=1e-3)


def activations_of(folder: Path, texts: list[str], layer: int) -> np.ndarray:
    """Return CLS activations of texts, one at a time, by a plain hooked forward."""
    manifest = json.loads((folder / "manifest.json").read_text())
    model = AutoModelForSequenceClassification.from_pretrained(manifest["model_folder"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(manifest["model_folder"])
    seen: list[np.ndarray] = []
    hook = model.bert.encoder.layer[layer].register_forward_hook(
        lambda *call: seen.append(call[2][0, 0].numpy().copy())
    )
    with torch.no_grad():
        for text in texts:
            encoded = tokenizer(text, truncation=True, max_length=manifest["max_length"], return_tensors="pt")
            model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])
    hook.remove()
    return np.stack(seen)


def check_explorer(folder: Path, expected_samples: int) -> None:
    """Hold texts, labels, values, laws and intervals of the explorer against the model and numpy."""
    data, samples = read_page(folder).data, pd.read_parquet(folder / "samples.parquet").set_index("text")
    shown = data["explorer"]["samples"]
    assert len(shown["text"]) == len(set(shown["text"])) == expected_samples
    labels = np.array(shown["label"])
    assert [data["concepts"][label] for label in labels] == samples.loc[shown["text"], "label"].tolist()
    assert set(samples.loc[shown["text"], "split"]) == {"fit"}
    for site in data["explorer"]["sites"]:
        neurons = site["neurons"]
        values = floats(site["values"], len(neurons), expected_samples).T
        plain = activations_of(folder, shown["text"], int(site["name"].split(".")[1]))[:, neurons]
        np.testing.assert_allclose(values, plain, atol=1e-5)
        mean, std = (floats(site[name], 4, len(neurons)) for name in ("mean", "std"))
        for concept in range(4):
            own = values[labels == concept].astype(np.float64)
            if len(own):
                np.testing.assert_allclose(mean[concept], own.mean(axis=0), rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(std[concept], own.std(axis=0), rtol=1e-5, atol=1e-6)
        for fitted in site["ranges"]:
            shape = (4, fitted["intervals"], len(neurons))
            lower, upper = floats(fitted["lower"], *shape), floats(fitted["upper"], *shape)
            if fitted["range"] == "gaussian":
                half = float(fitted["tau"]) * std
                kept = [concept for concept in range(4) if data["concepts"][concept] not in fitted["skipped"]]
                np.testing.assert_allclose(lower[kept, 0], (mean - half)[kept], rtol=1e-5, atol=1e-5)
                np.testing.assert_allclose(upper[kept, 0], (mean + half)[kept], rtol=1e-5, atol=1e-5)
                assert np.isinf(np.delete(lower, kept, axis=0)).all()


def test_the_explorer_shows_each_texts_own_activations(finished: Path) -> None:
    check_explorer(finished, expected_samples=60)


def test_texts_are_matched_by_id_where_rows_were_dropped_and_skipped_cells_tell_why(
    nasty_overrides: list[str], tmp_path: Path
) -> None:
    untrained = [entry for entry in nasty_overrides if not entry.startswith("model.finetune")]
    kept = [entry for entry in untrained if not entry.startswith("model.path")]
    model = next(entry for entry in untrained if entry.startswith("model.path")).partition("=")[2]
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    config |= {"id2label": dict(enumerate(LABELS)), "label2id": {label: place for place, label in enumerate(LABELS)}}
    (copy / "config.json").write_text(json.dumps(config))
    run(compose([*kept, f"model.path={copy}", "evaluation.fit_on=correct"]), tmp_path / "run")
    used = len(load_file(tmp_path / "run" / "neurons.safetensors")["resid_post.2/labels"])
    assert 0 < used < 60, "a random head is right on some and wrong on others"
    check_explorer(tmp_path / "run", expected_samples=used)
    rows = pd.read_parquet(tmp_path / "run" / "results.parquet")
    reasons = set(rows["skipped"].dropna())
    assert reasons
    text = "".join(read_page(tmp_path / "run").elements.text)
    assert "Skipped cells" in text
    assert all(reason in text for reason in reasons)


def test_a_folder_without_ids_shows_no_text_and_says_so(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "old")
    path = tmp_path / "old" / "neurons.safetensors"
    save_file({name: array for name, array in load_file(path).items() if not name.endswith("/ids")}, path)
    (tmp_path / "old" / "checksums.json").unlink()  # a folder of an older version has none
    redraw(tmp_path / "old")
    page = read_page(tmp_path / "old")
    assert set(page.data["explorer"]["samples"]["text"]) == {None}
    assert "kept no example ids" in "".join(page.elements.text)


def test_ids_of_any_length_and_letters_come_back(make_activations: Any, tmp_path: Path) -> None:
    found: ActivationSet = make_activations(np.arange(12.0).reshape(4, 3), np.array([0, 1, 0, 1]), 2)
    found = replace(found, ids=("a", "longer id", "é∂", "0"))
    RunFolder(tmp_path).write_fitted({Site(1): fit_site(compose([]), found)})
    shown = RunFolder(tmp_path).read_fitted()[2]
    assert example_ids(shown["resid_post.1/ids"]) == list(found.ids)


def test_mixture_components_are_those_that_the_intervals_come_from(page: Page, finished: Path) -> None:
    several = 0
    for site in page.data["explorer"]["sites"]:
        width, labels = len(site["neurons"]), np.array(page.data["explorer"]["samples"]["label"])
        values = floats(site["values"], width, len(labels)).T.astype(np.float64)
        for fitted in (entry for entry in site["ranges"] if entry["range"] == "mixture"):
            weights, means, stds = (
                floats(fitted[name], 4, fitted["components"], width) for name in ("weights", "means", "stds")
            )
            np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
            bounds = [floats(fitted[end], 4, fitted["intervals"], width) for end in ("lower", "upper")]
            for concept, neuron in np.ndindex(4, width):
                own, law = (
                    values[labels == concept, neuron],
                    [part[concept, :, neuron] for part in (weights, means, stds)],
                )
                # EM's M-step keeps the samples' mean, whatever the components.
                assert (law[0] * law[1]).sum() == pytest.approx(own.mean(), abs=2e-4 * max(1, abs(own).max()))
                density = (law[0] * norm.pdf(own[:, None], law[1], np.maximum(law[2], 1e-9))).sum(axis=1)
                assert np.log(density).mean() >= norm.logpdf(own, own.mean(), own.std()).mean() - 1e-3
                grid = np.linspace(own.min() - 1, own.max() + 1, 400)
                heavy = law[0] >= 0.05
                near = np.abs(grid[:, None] - law[1]) - fitted["tau"] * law[2]
                inside = (
                    (grid[:, None] >= bounds[0][concept, :, neuron]) & (grid[:, None] <= bounds[1][concept, :, neuron])
                ).any(axis=1)
                clear = (np.abs(near[:, heavy]) > 1e-4).all(axis=1)
                assert ((near[:, heavy] < 0).any(axis=1) == inside)[clear].all()
                several += int((law[0] > 0).sum() > 1)
    assert several, "some law has more than one component"


def test_nothing_of_the_dataset_can_act_in_the_page(page: Page) -> None:
    tags = [tag for tag, _ in page.elements.tags]
    assert tags.count("script") == len(page.elements.raw["script"]) == 3
    assert not {"img", "iframe", "object", "embed", "b"} & set(tags)
    assert not [name for _, attributes in page.elements.tags for name in attributes if name.startswith("on")]
    raw = page.elements.raw["script"][0]
    assert not set("<>&\u2028\u2029") & set(raw)
    assert sorted(page.data["concepts"]) == sorted(LABELS)
    assert any("onerror=alert(2)" in text for text in page.data["explorer"]["samples"]["text"])


def test_the_page_asks_the_network_for_nothing(page: Page) -> None:
    policy = next(attributes["content"] for tag, attributes in page.elements.tags if attributes.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    for tag, attributes in page.elements.tags:
        for name in ("src", "srcset", "data", "poster", "action"):
            assert name not in attributes, (tag, attributes)
        assert (attributes.get("href") or "#").startswith(("#", "data:,")), attributes
    for style in page.elements.raw["style"]:
        assert not re.search(r"url\(|@import", style)


def test_the_head_answers_first_and_says_how_it_was_made(page: Page, finished: Path) -> None:
    text = " ".join(page.elements.text)
    manifest, summary = (json.loads((finished / f"{name}.json").read_text()) for name in ("manifest", "summary"))
    assert summary["message"] in text
    assert f"{summary['base']['accuracy']:.3f}" in text
    for value in (*manifest["fingerprints"].values(), *manifest["versions"].values()):
        assert value in text
    assert text.index(summary["message"]) < text.index("The trade-off")
    assert '"samples_per_concept"' in text


def test_a_finished_runs_folder_gives_the_same_page_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / finished.name)
    (tmp_path / finished.name / "report.html").unlink()
    redraw(tmp_path / finished.name)
    assert read_page(tmp_path / finished.name).html == read_page(finished).html


def test_general_ability_is_shown_where_it_was_measured(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    table, manifest = folder.read_results(), folder.read_manifest()
    assert "General ability" not in read_page(finished).html
    edited = table.rows[table.rows["edit"] != "none"]
    one_cell = next(iter(edited.groupby(SETTINGS, dropna=False, sort=False)))[1].iloc[:2]  # under two concepts
    general = one_cell[SETTINGS].assign(measure="perplexity", subject=None, base=20.0, edited=[30.0, 40.0])
    write_page(
        folder, replace(table, general=general.assign(difference=[10.0, 20.0])), manifest, bootstrap_of(finished)
    )
    text = " ".join(read_page(tmp_path / "run").elements.text)
    assert "General ability" in text
    assert "perplexity" in text
    difference = bootstrap_of(finished).of_mean(np.log([30 / 20, 40 / 20]))
    ends = "{:+.4g} [{:+.4g}, {:+.4g}]".format(*difference)
    assert re.search(rf"\b20\s+34\.64\s+{re.escape(ends)}", text.replace("\u2212", "-")), (
        "over both concepts, by logarithm"
    )


def test_every_figure_is_a_png_and_an_svg_that_come_out_the_same(finished: Path, tmp_path: Path) -> None:
    drawn = {path.name for path in (finished / "figures").iterdir()}
    stems = {name.removesuffix(".png") for name in drawn if name.endswith(".png")}
    assert {"tradeoff", "neurons", "qq", "firing", "overlap", "methods", "layers_by_tau"} == stems
    assert drawn == {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    for stem in stems:
        assert (
            ElementTree.parse(finished / "figures" / f"{stem}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
        )
    shutil.copytree(finished, tmp_path / "again")
    folder = RunFolder(tmp_path / "again")
    tau = folder.read_manifest().known_config.headline_tau
    paths = draw(folder, folder.read_results(), bootstrap_of(folder.path), tau)
    assert {path.name for path in paths} == {f"{stem}.png" for stem in stems}
    for name in ("tradeoff.svg", "overlap.svg"):
        assert (folder.figures / name).read_bytes() == (finished / "figures" / name).read_bytes()


def large_folder(make_activations: Any, path: Path, concepts: int, samples: int, neurons: int) -> RunFolder:
    """Write a run folder's fitted arrays and texts, as large as those of a large run."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(concepts), samples)
    values = generator.normal(size=(len(labels), neurons))
    found = replace(make_activations(values, labels, concepts), ids=tuple(f"{row:016x}" for row in range(len(labels))))
    folder, config = RunFolder(path), compose(["sweep.saliency=[max,dprime]", "sweep.tau=[2.5]"])
    folder.write_fitted({Site(layer): fit_site(config, replace(found, site=Site(layer))) for layer in range(3)})
    frame = pd.DataFrame({"id": found.ids, "split": "fit", "label": "c0", "text": "<&> words " * 60})
    frame.to_parquet(path / "samples.parquet")
    return folder


def test_a_large_run_is_cut_to_what_a_page_holds_and_says_so(make_activations: Any, tmp_path: Path) -> None:
    folder, left_out = large_folder(make_activations, tmp_path, 14, 400, 200), []
    data = explorer_data(folder, left_out)
    assert len(embedded_json(data)) < explorer.VALUE_BYTES + 2 * explorer.TEXT_CHARACTERS
    kept = np.bincount(data["samples"]["label"])
    assert kept.min() == kept.max() >= explorer.FEWEST_SAMPLES
    assert [site["name"] for site in data["sites"]][-1] == "resid_post.2"
    said = " ".join(left_out)
    assert f"{14 * 400 - kept.sum()} of the {14 * 400} samples" in said
    assert "texts past" in said
    whole = load_file(tmp_path / "neurons.safetensors")
    site = data["sites"][-1]
    values = floats(site["values"], len(site["neurons"]), kept.sum())
    column = np.flatnonzero(whole["resid_post.2/neurons"] == site["neurons"][0])[0]
    of_one = whole["resid_post.2/values"][whole["resid_post.2/labels"] == 3, column]
    assert np.isin(values[0][np.array(data["samples"]["label"]) == 3], of_one).all()


def test_many_cells_are_cut_and_said(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table: ResultTable = RunFolder(finished).read_results()
    whole = table_data(table, bootstrap_of(finished))
    assert whole["left_out"] == []
    monkeypatch.setattr(page_cells, "MOST_WITH_INTERVALS", 10)
    plain = table_data(table, bootstrap_of(finished))
    assert "low" not in plain["rows"]["kl"]
    assert plain["rows"]["kl"]["mean"] == whole["rows"]["kl"]["mean"]
    monkeypatch.setattr(page_cells, "MOST_ROWS", 20)
    monkeypatch.setattr(page_cells, "MOST_CELLS", 7)
    few = table_data(table, bootstrap_of(finished))
    assert few["rows"] is None
    assert len(few["cells"]["method"]) == 7
    assert few["cells"]["means"]["kl"]["mean"] == whole["cells"]["means"]["kl"]["mean"][:7]
    assert len(few["left_out"]) == 2


def test_a_run_as_large_as_the_default_stays_small(finished: Path, make_activations: Any, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    folder = large_folder(make_activations, tmp_path / "run", 20, 60, 384)
    table = folder.read_results()
    repeated = [
        table.rows[table.rows["concept"] == LABELS[0]].assign(concept=f"concept number {place}") for place in range(20)
    ]
    rows = pd.concat(repeated, ignore_index=True)
    write_page(
        folder,
        replace(table, rows=rows, matched=table.matched.iloc[:0]),
        folder.read_manifest(),
        bootstrap_of(folder.path),
    )
    assert len(rows) > 20 * 80
    assert (tmp_path / "run" / "report.html").stat().st_size < 5_000_000
