"""Runs side by side: paired differences worked out by hand, what cannot be paired, and the command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuronlens.cli import run_command
from neuronlens.errors import NeuronLensError, OutputError
from neuronlens.measures.intervals import Bootstrap
from neuronlens.report.compare.compare import compare
from neuronlens.report.compare.pairing import shared_knobs
from neuronlens.report.compare.runs import differing, read_runs
from neuronlens.report.compare.write import console_tables, write_comparison
from tests.report.made_up import CONCEPTS, METHOD, RANGE, method, read, unedited, write_run

PROBE = {"_target_": "neuronlens.saliency.probe.ProbeSaliency"}
ACCURACY = {"apple": 0.9, "bridge": 0.8, "cloud": 0.7, "drum": 0.6}


def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    """Return two runs that differ in their saliency; the second costs 0.1, 0.0, -0.1 more and never reaches drum."""
    first = method(METHOD, {"apple": 0.1, "bridge": 0.2, "cloud": 0.3, "drum": 0.4})
    second = method(METHOD, {"apple": 0.2, "bridge": 0.2, "cloud": 0.2, "drum": np.nan}, saliency="probe")
    ranges = method(RANGE, dict.fromkeys(CONCEPTS, 0.05))
    only_here = method(RANGE, dict.fromkeys(CONCEPTS, 0.01), edit="mean")
    one = write_run(tmp_path / "one", rows=unedited(ACCURACY), matched=pd.concat([first, ranges, only_here]))
    changed = {**ACCURACY, "apple": 1.0, "bridge": 0.7}
    two = write_run(
        *(tmp_path / "two",),
        rows=unedited(changed),
        matched=pd.concat([second, ranges.assign(saliency="probe")]),
        saliency=PROBE,
    )
    return one, two


def test_differences_are_paired_by_concept(tmp_path: Path) -> None:
    found = compare(read(*two_runs(tmp_path)))
    assert found.matched.frame["method"].tolist() == ["neuron zero", "range (gaussian 2.5) zero"]
    mask = found.matched.frame[found.matched.frame["gate"] == "neuron"].iloc[0]
    assert mask["run"] == "probe"
    assert [mask["n"], mask["common"], mask["reached_reference"], mask["reached_run"]] == [3, 4, 4, 3]
    assert mask["complement_confidence_drop_reference"] == pytest.approx(0.2), "over the three that both reach"
    assert mask["complement_confidence_drop_run"] == pytest.approx(0.2)
    assert mask["complement_confidence_drop"] == pytest.approx(0.0)
    bounds = Bootstrap(0.95, 400, 0).of_mean(np.array([0.1, 0.0, -0.1]))[1:]
    assert (mask["complement_confidence_drop_low"], mask["complement_confidence_drop_high"]) == pytest.approx(bounds)
    assert bounds[0] < 0 < bounds[1]
    assert mask["complement_confidence_drop_wins"] == 1, "cloud"
    equal = found.matched.frame[found.matched.frame["gate"] == "range"].iloc[0]
    assert [equal["complement_accuracy_drop"], equal["complement_accuracy_drop_wins"]] == [0.0, 0]
    assert "mean" not in set(found.matched.frame["edit"]), "a method of one run only has nothing to be paired with"
    assert any("edit mean" in sentence for sentence in found.remarks)


def test_the_unedited_models_are_paired_too(tmp_path: Path) -> None:
    rows = compare(read(*two_runs(tmp_path))).unedited.frame
    assert rows["run"].tolist() == ["max", "probe"]
    assert rows["concept_accuracy"].tolist() == pytest.approx([0.75, 0.75])
    assert np.isnan(rows["concept_accuracy_difference"].iloc[0])
    other = rows.iloc[1]
    assert other["concept_accuracy_difference"] == pytest.approx((0.1 - 0.1 + 0 + 0) / 4)
    assert other["concept_confidence_difference"] == pytest.approx(0.0)
    assert [other["n"], other["concept_accuracy_wins"]] == [4, 1]
    assert other["concept_accuracy_difference_low"] < 0 < other["concept_accuracy_difference_high"]


def test_settings_that_differ_are_told_and_name_the_runs(tmp_path: Path) -> None:
    runs = read(*two_runs(tmp_path))
    assert [run.name for run in runs] == ["max", "probe"]
    told = compare(runs).settings.frame
    assert told.to_dict("list") == {"setting": ["saliency"], "max": ["max"], "probe": ["probe"]}


def test_another_model_is_told_by_its_name_alone() -> None:
    one = {"model": {"name": "a", "batch_size": 8}, "seed": 0, "paths": {"x": 1}}
    two = {"model": {"name": "b", "batch_size": 9}, "seed": 1, "paths": {"x": 2}}
    assert differing([one, two]).index.tolist() == ["model.name", "seed"]
    assert differing([one, {**one, "model": {"name": "a", "batch_size": 9}}]).index.tolist() == ["model.batch_size"]


def test_concepts_of_one_run_only_are_left_out_and_named(tmp_path: Path) -> None:
    fewer = {name: ACCURACY[name] for name in ("apple", "bridge")}
    one = write_run(tmp_path / "one", rows=unedited(ACCURACY), matched=method(METHOD, dict.fromkeys(CONCEPTS, 0.1)))
    two = write_run(
        tmp_path / "two", rows=unedited(fewer), matched=method(METHOD, {"apple": 0.3, "bridge": 0.3}), seed=1
    )
    found = compare(read(one, two))
    assert found.matched.frame["n"].tolist() == [2]
    assert found.matched.frame["complement_confidence_drop"].tolist() == pytest.approx([0.2])
    assert any("2 common concepts (only in seed 0: cloud, drum)" in sentence for sentence in found.remarks)


def test_two_datasets_stand_side_by_side_without_differences(tmp_path: Path) -> None:
    cost = dict.fromkeys(CONCEPTS, 0.1)
    one = write_run(tmp_path / "one", rows=unedited(ACCURACY), matched=method(METHOD, cost))
    rows = unedited(ACCURACY, dataset="veg")
    two = write_run(tmp_path / "two", rows=rows, matched=method(METHOD, cost), dataset__name="veg")
    found = compare(read(one, two))
    assert found.matched.frame.empty, "concepts of one name in two datasets are not the same concepts"
    assert found.unedited.frame["concept_accuracy"].tolist() == pytest.approx([0.75, 0.75])
    assert found.unedited.frame["concept_accuracy_difference"].isna().all()
    assert any("side by side, not paired" in sentence for sentence in found.remarks)
    written = write_comparison(found, tmp_path / "out")
    assert "matched erasure" not in written[0].read_text().split("## Range")[0].split("## The unedited")[1]


def test_each_runs_own_headline_stands_under_the_others(tmp_path: Path) -> None:
    paths = []
    for name, difference, seed in (("one", -0.1, 0), ("two", 0.2, 1)):
        row = {**RANGE, "level": 0.5, "n_concepts": 4, "reached_range": 4, "reached_neuron": 4}
        for measure in ("complement_accuracy_drop", "complement_confidence_drop"):
            row |= {f"{measure}_range": 0.3 + difference, f"{measure}_neuron": 0.3, f"{measure}_difference": difference}
            row |= {f"{measure}_low": difference - 0.05, f"{measure}_high": difference + 0.05, f"{measure}_wins": 3}
        other_tau = pd.DataFrame([{**row, "tau": 1.0}, {**row, "level": 0.9, "n_concepts": 0}])
        comparison = pd.concat([pd.DataFrame([row]), other_tau])
        paths.append(write_run(tmp_path / name, rows=unedited(ACCURACY), comparison=comparison, seed=seed))
    rows = compare(read(*paths)).headlines.frame
    assert rows["run"].tolist() == ["seed 0", "seed 1"] * 2, "at the configured tau, where a level was reached"
    assert rows["measure"].tolist() == ["accuracy"] * 2 + ["confidence"] * 2
    assert rows["difference"].tolist() == pytest.approx([-0.1, 0.2, -0.1, 0.2])
    assert rows["range_mask"].tolist() == pytest.approx([0.2, 0.5, 0.2, 0.5])
    assert rows["difference_low"].tolist() == pytest.approx([-0.15, 0.15, -0.15, 0.15])


def knobs(**columns: list[object]) -> pd.DataFrame:
    size = max(map(len, columns.values()))
    return pd.DataFrame({name: [value] * size for name, value in METHOD.items()} | columns).assign(level=0.5)


@pytest.mark.parametrize(
    ("reference", "other", "apart", "said"),
    [
        (knobs(saliency=["max"]), knobs(saliency=["probe"]), ["saliency"], ""),
        (knobs(saliency=["max", "probe"]), knobs(saliency=["probe"]), [], "left out: saliency max"),
        (knobs(layers=["1", "3"]), knobs(layers=["5"]), [], "layers is 5 against 1, 3"),
        (knobs(tau=[2.0]), knobs(tau=[2.5]), ["tau"], ""),
        (knobs(tau=[2.0, np.nan]), knobs(tau=[np.nan]), [], "left out: tau 2"),
        (knobs(tau=[2.5]), knobs(tau=[2.5]), [], ""),
    ],
    ids=["one each", "one in common", "no way to tell", "numbers", "null in one", "the same"],
)
def test_what_methods_are_matched_by(reference: pd.DataFrame, other: pd.DataFrame, apart: list[str], said: str) -> None:
    agree, found, sentences = shared_knobs(reference, other)
    assert found == apart
    assert not set(agree) & set(found)
    assert (said in " ".join(sentences)) if said else not sentences


def test_a_knob_left_open_is_still_null_in_both_or_in_neither(tmp_path: Path) -> None:
    cost = dict.fromkeys(CONCEPTS, 0.1)
    both = pd.concat([method(METHOD, cost), method(METHOD, dict.fromkeys(CONCEPTS, 0.5), saliency=None, edit="leace")])
    probe = pd.concat([method(METHOD, cost, saliency="probe"), method(METHOD, cost, saliency=None, edit="leace")])
    one = write_run(tmp_path / "one", rows=unedited(ACCURACY), matched=both)
    two = write_run(tmp_path / "two", rows=unedited(ACCURACY), matched=probe, saliency=PROBE)
    rows = compare(read(one, two)).matched.frame.set_index("edit")
    assert rows["complement_confidence_drop"].to_dict() == pytest.approx({"zero": 0.0, "leace": -0.4})


def test_files_hold_every_table_and_one_width(tmp_path: Path) -> None:
    found = compare(read(*two_runs(tmp_path)))
    markdown, csv, tex = write_comparison(found, tmp_path / "out")
    assert [path.name for path in (markdown, csv, tex)] == ["compare.md", "compare.csv", "compare.tex"]
    parts = pd.read_csv(csv).groupby("part").size().to_dict()
    assert parts == {"unedited": 2, "matched": 2}
    for block in re.split(r"\n\n", markdown.read_text()):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1
    assert tex.read_text().count(r"\begin{tabular}") == 3
    assert [table.row_count for table in console_tables(found)] == [1, 2, 2]


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    one, _ = two_runs(tmp_path)
    with pytest.raises(NeuronLensError, match="given twice"):
        read_runs([one, tmp_path / "two" / ".." / "one"])
    (one / "base.json").unlink()
    with pytest.raises(OutputError, match=r"not as the run left it: base\.json is missing"):
        read_runs([one])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "takes two run folders or more"),
        (["{one}"], "got 1"),
        (["{one}", "{one}"], "given twice"),
        (["{one}", "/nowhere/at/all"], "not the folder of a finished run"),
        (["{one}", "{two}", "--out=x"], "Unknown option of compare"),
        (["{one}", "{two}", "output={one}/results.csv"], "Cannot write"),
    ],
)
def test_bad_arguments_give_exit_code_2_and_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = two_runs(tmp_path)
    assert run_command(["compare", *(argument.format(one=one, two=two) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_command_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = two_runs(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_command(["compare", str(one), str(two)]) == 0
    (folder,) = (tmp_path / "outputs" / "compare").iterdir()
    names = [f"{stem}.{ending}" for stem in ("claims", "compare") for ending in ("csv", "md", "tex")]
    assert sorted(path.name for path in folder.iterdir()) == names
    said = capsys.readouterr().out
    assert "Differences are a run's value minus that of the reference, max." in said
    assert str(folder.relative_to(tmp_path) / "compare.md") in said
    assert run_command(["compare", str(one), str(two), "output=elsewhere"]) == 0
    assert (tmp_path / "elsewhere" / "claims.md").is_file()
