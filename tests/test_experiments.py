"""Every experiment of the paper, small: a tiny classifier and a tiny language model in the place of a profile's models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neuronlens as nl
from experiments import paper
from experiments.agreement import agreement, compared, keep_expected
from experiments.means import by_concept, mean_columns
from experiments.runner import PROFILES, Experiment, Profile, arguments, load_profile, make, run_parts
from neuronlens.report.claims.evidence_neurons import expected_jaccard
from neuronlens.saliency.overlap import jaccard
from tests.conftest import CONCEPTS, texts_of
from tests.data.test_questions import write as write_questions
from tests.measures.general.language_models import tiny_lm, word_tokenizer

SMALL = [
    "layers.select=last",
    "dataset.samples_per_concept={train:40,fit:15,select:5,test:15}",
    "evaluation.bootstrap=50",
]
BY_NAME = {experiment.name: experiment for experiment in paper.EXPERIMENTS}
LABELS = "++dataset.prompt.labels={apple:w3,bridge:w20,cloud:w30,drum:w40}"


@pytest.fixture(scope="module")
def profile(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A profile of two settings that run in seconds."""
    folder = tmp_path_factory.mktemp("experiments")
    tiny_lm("llama").save_pretrained(folder / "model")
    word_tokenizer().save_pretrained(folder / "model")
    (folder / "prose.txt").write_text("\n\n".join(text for c in range(4) for text in texts_of(c, 3, seed=77)))
    questions = write_questions(folder / "questions")
    swept = ("sweep.", "evaluation.bootstrap", "dataset.samples", "logger", "paths.output_dir")
    classifier = [entry for entry in tiny_overrides if not entry.startswith(swept)]
    causal = [
        entry for entry in classifier if not entry.startswith(("model.path", "model.finetune", "model.max_length"))
    ]
    causal += [f"model.path={folder}/model", "model.head=label_logprob", "model.max_length=48", LABELS]
    documents = "evaluation.general.documents={path:" + str(folder / "prose.txt") + ",limit:null,max_length:16}"
    parts = {part: {"settings": ["classifier"], "overrides": SMALL} for one in paper.EXPERIMENTS for part in one.parts}
    asked = [f"evaluation.general.questions.path={questions}", "evaluation.general.questions.shots=0"]
    asked += ["evaluation.general.questions.max_length=64", documents]
    parts["general_ability"] = {"settings": ["causal"], "overrides": [*SMALL, *asked]}
    parts["ablation_layers"] = {"settings": ["classifier"], "overrides": SMALL[1:]}
    return Profile("tiny", {"classifier": classifier, "causal": causal}, parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny profile's runs, tables and figures go."""
    return tmp_path_factory.mktemp("paper")


@pytest.mark.parametrize("name", BY_NAME)
def test_an_experiment_writes_its_tables_from_its_runs(name: str, profile: Profile, folder: Path) -> None:
    written = make(BY_NAME[name], profile, folder)
    assert {path.suffix for path in written} >= {".md", ".csv", ".tex"}
    for path in written:
        assert path.stat().st_size > 0
        if path.suffix == ".csv":
            table = pd.read_csv(path)
            assert len(table) > 0
            for low in (column for column in table if column.endswith("_low")):
                value, high = table[low.removesuffix("_low")], table[low.removesuffix("_low") + "_high"]
                shown = table[low].notna()
                assert (table[low] <= value + 1e-9)[shown].all(), (path, low)
                assert (value <= high + 1e-9)[shown].all(), (path, low)


def test_the_main_table_is_the_mean_of_the_runs_rows(profile: Profile, folder: Path) -> None:
    experiment = BY_NAME["main_table"]
    make(experiment, profile, folder)
    (run,) = run_parts(experiment, profile, folder).part("main_table").values()
    rows = pd.read_csv(run.path / "results.csv")
    table = pd.read_csv(folder / "tables" / "main_table.csv").set_index("edit")
    for gate in ("neuron", "range"):
        cell = rows[(rows["gate"] == gate) & (rows["edit"] == "zero") & np.isclose(rows["top_fraction"], 0.3)]
        assert len(cell) == len(CONCEPTS)
        for name in ("concept_accuracy", "complement_confidence"):
            assert table.loc["zero", f"{gate}_{name}"] == pytest.approx(cell[name].mean())
    single = pd.read_csv(folder / "tables" / "main_table_concepts.csv")
    assert single["neuron_concept_accuracy"].nunique() > 1, "the edit does something"
    assert set(single["concept"]) == set(CONCEPTS)


def test_a_finished_run_is_found_again_and_shared(profile: Profile, folder: Path) -> None:
    runs = {name: run_parts(BY_NAME[name], profile, folder).part(name) for name in ("polysemanticity", "normality")}
    paths = {name: found["classifier"].path for name, found in runs.items()}
    assert paths["polysemanticity"] == paths["normality"], "the same config is one run"
    before = (paths["normality"] / "manifest.json").stat().st_mtime_ns
    assert run_parts(BY_NAME["normality"], profile, folder).part("normality")["classifier"].path == paths["normality"]
    assert (paths["normality"] / "manifest.json").stat().st_mtime_ns == before
    other = run_parts(BY_NAME["normality"], profile, folder, ["seed=1"]).part("normality")["classifier"].path
    assert other != paths["normality"]


def test_polysemanticity_counts_what_is_shared(profile: Profile, folder: Path) -> None:
    experiment = BY_NAME["polysemanticity"]
    make(experiment, profile, folder)
    (run,) = run_parts(experiment, profile, folder).part("polysemanticity").values()
    ranking = next(iter(next(iter(run.restore_fitted()[0].values())).rankings.values()))
    table = pd.read_csv(folder / "tables" / "polysemanticity.csv")
    row = table[np.isclose(table["neurons"], 0.5)].iloc[0]
    sets = [set(np.argsort(-scores, kind="stable")[:8].tolist()) for scores in ranking.scores]  # 16 neurons
    pairs = [len(a & b) / len(a | b) for i, a in enumerate(sets) for b in sets[i + 1 :]]
    assert row["jaccard"] == pytest.approx(np.mean(pairs))
    served = np.array([sum(neuron in one for one in sets) for neuron in set().union(*sets)])
    assert row["two"] == pytest.approx((served >= 2).mean())
    assert row["all"] == pytest.approx((served == len(sets)).mean())


@pytest.mark.parametrize(("neurons", "count"), [(384, 115), (16, 8), (5, 1), (6, 6), (9, 0)])
def test_the_overlap_by_chance_is_that_of_drawn_sets(neurons: int, count: int) -> None:
    generator = np.random.default_rng(0)
    drawn = np.zeros((2, 4000, neurons), dtype=bool)
    for sets in drawn:
        order = np.argsort(generator.random((len(sets), neurons)), axis=1)
        np.put_along_axis(sets, order[:, :count], True, axis=1)
    overlaps = [jaccard(pair)[0, 1] for pair in drawn.swapaxes(0, 1)]
    expected = expected_jaccard(neurons, count)
    assert np.nan_to_num(np.nanmean(overlaps) if count else 0.0) == pytest.approx(expected, abs=0.01)


def test_two_cells_under_the_same_knobs_are_refused() -> None:
    cells = pd.DataFrame({"concept": ["a", "a"], "gate": ["range", "range"], "tau": [1.0, 2.0]})
    assert len(by_concept(cells, gate="range", tau=1.0)) == 1
    with pytest.raises(ValueError, match="several cells"):
        by_concept(cells, gate="range")


def test_means_leave_out_what_is_no_number() -> None:
    values = [0.2, 0.3, 0.7]
    found = mean_columns("drop", [*values[:2], np.nan, values[2]], nl.Bootstrap(0.95, 1000, 0))
    assert found["drop"] == pytest.approx(0.4)
    own = nl.of_mean(values, 0.95)
    assert [found["drop_low"], found["drop_high"]] == pytest.approx([own.low, own.high])


def test_figures_outside_their_expected_intervals_are_told(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": ["m", "m"], "tau": [1.0, np.inf], "drop": [0.3, 0.5]})
    frame["drop_low"], frame["drop_high"] = frame["drop"] - 0.05, frame["drop"] + 0.05
    (tmp_path / "now").mkdir()
    frame.to_csv(tmp_path / "now" / "table.csv", index=False)
    keep_expected(tmp_path / "now", tmp_path / "expected")
    told, outside = agreement(tmp_path / "now", tmp_path / "expected")
    assert outside == 0
    assert told.startswith("2 of 2")
    moved = frame.assign(drop=[0.3, 0.56])
    moved.to_csv(tmp_path / "now" / "table.csv", index=False)
    told, outside = agreement(tmp_path / "now", tmp_path / "expected")
    assert outside == 1
    assert "inf" in told
    assert "0.56" in told
    assert compared(frame.iloc[:1], frame) == (1, ["no row ('m', 'inf')"])


def test_no_expected_figures_is_said(tmp_path: Path) -> None:
    told, outside = agreement(tmp_path, tmp_path / "expected")
    assert "keep=true" in told
    assert outside == 0


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_every_run_of_a_profile_composes(name: str) -> None:
    profile = load_profile(name)
    assert set(profile.parts) == {part for one in paper.EXPERIMENTS for part in one.parts}
    for part, asked in profile.parts.items():
        for setting in asked.get("settings") or profile.settings:
            config = nl.compose([f"experiment={part}", *profile.settings[setting], *asked.get("overrides", ())])
            assert config.run_name.startswith(part)


def test_the_command_line_names_profile_and_folder() -> None:
    profile, folder, more = arguments(["profile=paper", "seed=3"])
    assert (profile.name, folder, more) == ("paper", Path("outputs/paper/paper"), ["seed=3"])
    with pytest.raises(nl.NeuronLensError, match="embedded, paper"):
        arguments(["profile=papier"])


def test_the_whole_paper_in_small(
    profile: Profile, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.paper.arguments", lambda given: (profile, folder, list(given)))
    monkeypatch.setattr("experiments.paper.EXPECTED", tmp_path)
    assert paper.main(["keep=true"]) == 0
    assert paper.main([]) == 0, "the same tables lie within their own intervals"
    assert "polysemantic" in (folder / "claims.md").read_text()
    kept = tmp_path / "paper-tiny" / "main_table_drops.csv"
    table = pd.read_csv(kept)
    moved = ["range_concept_accuracy_drop", "range_concept_accuracy_drop_low", "range_concept_accuracy_drop_high"]
    table[moved] += 1.0
    table.to_csv(kept, index=False)
    assert paper.main([]) == 1, "and figures that moved are noticed"


def test_an_experiment_needs_its_part_in_the_profile(profile: Profile, folder: Path) -> None:
    unknown = Experiment("unknown", ("nowhere",), lambda runs: [])
    with pytest.raises(nl.NeuronLensError, match="nowhere"):
        make(unknown, profile, folder)
