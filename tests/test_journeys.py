"""What users of five kinds type, and the file or number that they are promised: with tiny models, without a network."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from neuronlens.cli import run_command
from neuronlens.config.compose import compose
from neuronlens.pipeline import run
from tests.conftest import CONCEPTS, texts_of, tiny_model, tiny_tokenizer
from tests.report.conftest import read_page
from tests.tracking.offline_run import OfflineRun

pytestmark = pytest.mark.slow
SENTENCE = re.compile(r"^(Erasing \d+ % of a concept costs the other concepts|(Range|Neuron) masks .*never erase)")
SMALL = [
    *("model.max_length=16", "sweep.top_fraction=[0.25,0.5,1.0]", "sweep.tau=[2.5]", "sweep.edit=[zero]"),
    *("dataset.samples_per_concept={train:40,fit:15,select:5,test:15}",),
]


def own_csv(path: Path) -> Path:
    """Write one CSV of reviews under columns of its own names."""
    rows = [(text, CONCEPTS[concept]) for concept in range(len(CONCEPTS)) for text in texts_of(concept, 90, 0)]
    pd.DataFrame(rows, columns=["Review", "Sentiment"]).to_csv(path, index=False)
    return path


def nameless_checkpoint(folder: Path) -> Path:
    """Save a classifier whose labels are LABEL_0 to LABEL_3."""
    model = tiny_model("bert", spread=2.0)
    model.config.id2label = {number: f"LABEL_{number}" for number in range(len(CONCEPTS))}
    model.config.label2id = {name: number for number, name in model.config.id2label.items()}
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_a_student_with_an_own_csv_and_checkpoint_gets_a_latex_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own_csv(tmp_path / "reviews.csv")
    nameless_checkpoint(tmp_path / "tuned")
    typed = ["run", "model=local", "model.path=tuned", "dataset=local", "dataset.path=reviews.csv", "logger=csv"]
    assert run_command([*typed, *SMALL]) == 2
    hint = capsys.readouterr().err
    labels = re.search(r"model\.labels=\[[^]]*\]", hint)
    assert labels is not None, hint
    assert run_command([*typed, *SMALL, labels[0]]) == 0
    said = capsys.readouterr()
    assert "'Review' as the texts and 'Sentiment' as the labels" in said.err
    (folder,) = (tmp_path / "outputs" / "tuned-reviews").iterdir()
    assert r"\begin{tabular}" in (folder / "table.tex").read_text()
    table = pd.read_csv(folder / "table.csv")
    assert {"tuned"} == set(table["model"])
    assert {"reviews"} == set(table["dataset"])
    assert set(table["concept"]) == {"mean", *CONCEPTS}
    assert (table["n"] > 0).all()
    assert SENTENCE.search(json.loads((folder / "summary.json").read_text())["message"])
    assert list((folder / "figures").glob("*.png"))


def test_an_engineer_in_a_notebook_reads_the_message_and_the_tables(tiny_overrides: list[str], tmp_path: Path) -> None:
    table = run(compose([*tiny_overrides, "quiet=true"]), tmp_path / "run")
    assert len(table.comparison)
    text = (tmp_path / "run" / "table.md").read_text()
    message = json.loads((tmp_path / "run" / "summary.json").read_text())["message"]
    assert SENTENCE.search(message)
    assert message in text.replace("\\", "")


def test_someone_with_a_cluster_compares_a_whole_multirun(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["run", *tiny_overrides, "-m", "saliency=max,dprime", f"paths.output_dir={tmp_path / 'o'}"]) == 0
    (multirun,) = (tmp_path / "o" / "multirun").iterdir()
    ids = [pd.read_parquet(multirun / job / "results.parquet")["run_id"].iloc[0] for job in ("0", "1")]
    assert len(set(ids)) == 2, "a joint table tells them apart"
    capsys.readouterr()
    assert run_command(["compare", str(multirun), f"output={tmp_path / 'compared'}"]) == 0
    assert "| saliency | max | dprime |" in (tmp_path / "compared" / "compare.md").read_text()
    assert run_command(["report", str(multirun)]) == 0


def test_someone_in_wandb_sees_the_message_and_few_numbers(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = [entry for entry in tiny_overrides if entry != "logger=csv"]
    run(compose([*overrides, "logger=wandb", "quiet=true"]), tmp_path / "run")
    read = OfflineRun(tmp_path / "run")
    assert SENTENCE.search(str(read.summary["message"]))
    assert len([key for key in read.summary if isinstance(key, str) and not key.startswith("_")]) <= 60
    assert read.config["saliency"]["name"] == "max"


def test_someone_who_only_gets_the_page_reads_the_answer_first(tiny_overrides: list[str], tmp_path: Path) -> None:
    run(compose([*tiny_overrides, "quiet=true"]), tmp_path / "run")
    page = read_page(tmp_path / "run")
    text = " ".join(" ".join(page.elements.text).split())
    message = json.loads((tmp_path / "run" / "summary.json").read_text())["message"]
    assert text.index(message) < text.index("range mask") < text.index("Trade-off")
