"""Own data in any shape: one file, packed files, a folder of any names, columns that can only be meant so."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.config.schema_data import DatasetConfig, SamplesConfig
from neuronlens.data.concepts import load_concepts
from neuronlens.data.local import local_files
from neuronlens.errors import DataError
from neuronlens.records import ConceptDataset
from neuronlens.storage.cache import Store

SPLITS = ("train", "validation", "test")
SAMPLES = SamplesConfig(train=4, fit=4, select=2, test=4)


def rows(text: str = "text", label: str = "label") -> pd.DataFrame:
    """Return 40 texts of two labels."""
    found = [(f"{word} number {place}", word) for word in ("apple", "drum") for place in range(20)]
    return pd.DataFrame(found, columns=[text, label])


def loaded(place: Path, tmp_path: Path, **more: str) -> ConceptDataset:
    config = DatasetConfig(name="local", path=str(place), samples_per_concept=SAMPLES, min_samples=2, **more)
    return load_concepts(config, Store(tmp_path / "cache"))


def write(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as its name says."""
    kind = next(part for part in path.suffixes if part in (".csv", ".tsv", ".jsonl", ".parquet"))
    if kind == ".parquet":
        table.to_parquet(path)
        return path
    if kind == ".jsonl":
        text = "\n".join(json.dumps(row) for row in table.to_dict("records"))
    else:
        text = table.to_csv(index=False, sep="\t" if kind == ".tsv" else ",")
    packed = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix)
    path.write_bytes(packed(text.encode()) if packed else text.encode())
    return path


@pytest.mark.parametrize(
    "name",
    ["own.csv", "own.tsv", "own.jsonl", "own.parquet", "own.csv.gz", "own.tsv.gz", "own.jsonl.gz", "own.csv.bz2"],
)
def test_one_file_of_any_kind_is_a_dataset_with_splits(name: str, tmp_path: Path) -> None:
    data = loaded(write(rows(), tmp_path / name), tmp_path)
    assert data.name == "own"
    assert data.concepts == ("apple", "drum")
    assert [len(data.rows(split)) for split in ("train", "fit", "select", "test")] == [8, 8, 4, 8]
    assert len(set(data.ids)) == len(data.ids), "no text is in two splits"
    assert f"{name} is one file: fit, select and test samples are drawn from it." in data.notes
    plain = loaded(write(rows(), tmp_path / "again.csv"), tmp_path)
    assert plain.ids == data.ids, "the same rows are drawn, however they are packed"


def test_a_folder_of_any_names_is_read_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "reviews"
    folder.mkdir()
    table = rows()
    write(table[:25], folder / "a.csv")
    write(table[25:], folder / "b.csv.gz")
    (folder / "README.txt").write_text("about")
    data = loaded(folder, tmp_path)
    assert data.name == "reviews"
    assert data.concepts == ("apple", "drum")
    assert any("samples are drawn from a.csv and b.csv.gz" in note for note in data.notes)


def test_files_that_are_named_after_splits_stay_what_they_are(tmp_path: Path) -> None:
    table = rows()
    write(table[table.index % 2 == 0], tmp_path / "train.csv")
    write(table[table.index % 2 == 1], tmp_path / "test.csv")
    write(table, tmp_path / "more.csv")
    files, notes = local_files(tmp_path, SPLITS)
    assert {split: [path.name for path in own] for split, own in files.items()} == {
        "train": ["train.csv"],
        "test": ["test.csv"],
    }
    assert notes == ["Not read, for no split has that name: more.csv. Known are train, validation and test."]


@pytest.mark.parametrize(
    ("text", "label", "more"),
    [
        ("Review", "Sentiment", ""),
        ("sentence", "label", "id"),
        ("text", "Class", ""),
        ("x", "y", ""),
        ("words", "label", ""),
    ],
)
def test_columns_are_guessed_where_they_can_only_be_meant_so(text: str, label: str, more: str, tmp_path: Path) -> None:
    table = rows(text, label)
    if more:
        table[more] = range(len(table))
    data = loaded(write(table, tmp_path / "own.csv"), tmp_path)
    assert data.concepts == ("apple", "drum")
    assert data.texts[0].split()[0] in data.concepts
    (note,) = [note for note in data.notes if note.startswith("Columns: ")]
    for name, default in ((text, "text"), (label, "label")):
        assert (f"'{name}' as the" in note) == (name != default)


def test_what_could_be_meant_in_two_ways_or_was_typed_is_not_guessed(tmp_path: Path) -> None:
    two = rows("review", "label").assign(comment="x")
    with pytest.raises(DataError, match=r"no column|Unknown column"):
        loaded(write(two, tmp_path / "two.csv"), tmp_path)
    with pytest.raises(DataError, match="Did you mean 'label'"):
        loaded(write(rows(), tmp_path / "typed.csv"), tmp_path, label_column="lable")
    unlike = pd.DataFrame({"x": [f"a {place}" for place in range(40)], "y": [f"b {place}" for place in range(40)]})
    with pytest.raises(DataError, match="column 'text'"):
        loaded(write(unlike, tmp_path / "unlike.csv"), tmp_path)


def test_what_is_no_table_is_refused_with_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"is no table by its name. Expected \.csv"):
        local_files(tmp_path / "notes.txt", SPLITS)
    with pytest.raises(DataError, match=r"holds no table, but notes\.txt"):
        local_files(tmp_path, SPLITS)
    with pytest.raises(DataError, match="is not there"):
        local_files(tmp_path / "absent", SPLITS)
    (tmp_path / "broken.jsonl.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError, match="Cannot read"):
        loaded(tmp_path / "broken.jsonl.gz", tmp_path)


def test_local_models_and_datasets_go_by_the_name_of_their_folder_or_file() -> None:
    config = compose(["model=local", "model.path=models/tuned", "dataset=local", "dataset.path=data/reviews.csv.gz"])
    assert (config.model.name, config.dataset.name, config.run_name) == ("tuned", "reviews", "tuned-reviews")
    config = compose(["model.path=models/v1.5", "dataset.path=data/own"])
    assert (config.model.name, config.dataset.name, config.run_name) == ("v1.5", "own", "v1.5-own")
    config = compose(["model=local", "model.path=models/tuned", "model.name=mine"])
    assert (config.model.name, config.run_name) == ("mine", "mine-newsgroups20")
