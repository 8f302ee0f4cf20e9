"""Files read as they are written: labels that look like numbers or like nothing stay what they are, in every kind of file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from neuronlens.config.schema_data import DatasetConfig, SamplesConfig
from neuronlens.data.concepts import load_concepts
from neuronlens.data.files import read_table, split_files
from neuronlens.errors import DataError
from neuronlens.records import ConceptDataset
from neuronlens.storage.cache import Store

LABELS = ["None", "nan", "null", "NA", "n/a", "007", "7", "01", "1", "1.0", "true", "True", "-", "inf"]
SAMPLES = SamplesConfig(train=2, fit=2, select=2, test=2)


def write(folder: Path, rows: list[tuple[object, object]], kind: str = "csv", name: str = "train") -> Path:
    """Write a file of texts and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    elif kind == "parquet":
        pd.DataFrame(rows, columns=["text", "label"]).to_parquet(path)
    else:
        pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    return path


def rows_of(labels: list[str], each: int = 10) -> list[tuple[object, object]]:
    return [(f"text {number} of number {place}", label) for place, label in enumerate(labels) for number in range(each)]


def read(folder: Path, **options: object) -> ConceptDataset:
    config = DatasetConfig(path=str(folder), samples_per_concept=SAMPLES, min_samples=2, **options)  # type: ignore[arg-type]
    return load_concepts(config, Store(folder.parent / "cache"))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_labels_stay_what_is_written(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "d", rows_of(LABELS), kind)
    data = read(tmp_path / "d")
    assert data.concepts == tuple(sorted(LABELS))
    assert not any("lack" in note for note in data.notes)


def test_json_numbers_and_truth_values_are_read_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    written = ["1", "1.0", "1e3", '"1"', "true", '"True"', "7", '"007"']
    lines = [f'{{"text": "t {a} {b}", "label": {label}}}' for a, label in enumerate(written) for b in range(10)]
    (tmp_path / "d" / "train.jsonl").write_text("\n".join(lines))
    assert read(tmp_path / "d").concepts == ("007", "1", "1.0", "1e3", "7", "True", "true")


def test_texts_that_look_like_nothing_are_texts(tmp_path: Path) -> None:
    rows = [(text, label) for label in "ab" for text in [f"{word} {label}" for word in LABELS]] + [
        ("NA", "a"),
        ("None", "b"),
    ]
    write(tmp_path / "d", rows)
    table = read_table(tmp_path / "d" / "train.csv", {})
    assert {"NA", "None"} <= set(table["text"])


def test_rows_without_text_or_label_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "d", [*rows_of(["a", "b"]), ("", "a"), ("x", ""), ("  ", "b")])
    assert "3 of 23 rows of the train file lack a text or a label." in read(tmp_path / "d").notes


def test_paths_are_literal(tmp_path: Path) -> None:
    write(tmp_path / "set1", rows_of(["wrong", "folder"]))
    for name in ("set[12]", "a*", "b?", "{c,d}", "ü ö", "x.csv"):
        write(tmp_path / name, rows_of(["right", "place"]))
        assert read(tmp_path / name).concepts == ("place", "right"), name


def test_a_file_that_changed_with_the_same_size_and_time_is_another_file(tmp_path: Path) -> None:
    path = write(tmp_path / "d", rows_of(["a", "b"]))
    before, times = read(tmp_path / "d"), path.stat()
    path.write_text(path.read_text().replace("text 3", "TEXT 3"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert read(tmp_path / "d").fingerprint != before.fingerprint


def test_usual_names_are_known_and_others_named(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    for name in ("Training", "val", "TESTING", "more", "old_test"):
        write(folder, rows_of([name, "b"], 12), name=name)
    files, ignored = split_files(folder, ("train", "validation", "test"), "dataset.path")
    assert {split: path.name for split, path in files.items()} == {
        "train": "Training.csv",
        "validation": "val.csv",
        "test": "TESTING.csv",
    }
    assert ignored == ["more.csv", "old_test.csv"]


@pytest.mark.parametrize("conflicts", ["first", "drop", "error"])
def test_a_text_under_two_labels_is_counted(tmp_path: Path, conflicts: str) -> None:
    write(tmp_path / "d", [*rows_of(["a", "b"]), ("text 0 of number 0", "b"), ("text 1 of number 0", "b")])
    if conflicts == "error":
        with pytest.raises(DataError, match=r"2 texts .* stand under several labels.*dataset.conflicts=drop"):
            read(tmp_path / "d", conflicts="error")
        return
    data = read(tmp_path / "d", conflicts=conflicts)
    assert any(note.startswith("2 texts of 'd' stand under several labels") for note in data.notes)


@pytest.mark.parametrize(
    "copy",
    [str.upper, lambda text: text.replace(" ", "  \n "), lambda text: text[:90], lambda text: f"{text} and so on"],
)
def test_test_texts_of_train_are_left_out_and_counted(tmp_path: Path, copy: Callable[[str], str]) -> None:
    long = [(f"{number} of {place} " + "word " * 20, label) for place, label in enumerate("ab") for number in range(12)]
    fresh = [
        (f"another {number} of {place} " + "word " * 20, label)
        for place, label in enumerate("ab")
        for number in range(9)
    ]
    write(tmp_path / "d", list(long))
    write(tmp_path / "d", [*fresh, *((copy(text), label) for text, label in long[:3])], name="test")
    data = read(tmp_path / "d")
    assert "3 of 21 test texts of 'd' stand in its other files too and are left out." in data.notes
    assert not {copy(text).strip() for text, _ in long} & {data.texts[row] for row in data.rows("test")}


def test_a_test_file_that_train_contains_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d", rows_of(["a", "b"]))
    write(tmp_path / "d", rows_of(["a", "b"], 5), name="test")
    with pytest.raises(DataError, match="contained in the others: all 10 of its texts"):
        read(tmp_path / "d")


def test_concepts_alike_but_for_case_are_named(tmp_path: Path) -> None:
    write(tmp_path / "d", rows_of(["Sports", "sports", "other"]))
    assert (
        "'Sports' and 'sports' are different concepts. Next: dataset.merge, if they are one."
        in read(tmp_path / "d").notes
    )


CSV = "text,label\n" + "".join(f"text {number} of {label},{label}\n" for label in "ab" for number in range(10))
BROKEN: list[tuple[str, bytes, str]] = [
    ("train.csv", b"", "is empty: it has no byte"),
    ("train.csv", b"\n\n", "is empty: it has no header"),
    ("train.csv", b"text,label\n", "is empty"),
    ("train.csv", CSV.encode("utf-16"), r"is UTF-16, expected UTF-8. Next: \+\+dataset.read_options.encoding=utf-16"),
    ("train.csv", CSV.replace("text 3 of a", "caf\u00e9").encode("latin-1"), "not UTF-8: byte 0xe9 in line 5"),
    ("train.csv", CSV.replace("text 3 of a", "x,y").encode(), "has 3 cells in line 5, expected 2"),
    ("train.csv", CSV.replace("text 3 of a", '"x').encode(), "opens a quote in row 4 that never closes"),
    ("train.csv", CSV.replace(",", ";").encode(), "seems to be separated by ';'"),
    ("train.csv", b"PK\x03\x04 whatever", "an Excel sheet"),
    ("train.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
    ("train.jsonl", b'{"text": "a", "label": "b"}\n{"text": ', "no JSON in line 2"),
    ("train.jsonl", b'["a", "b"]\n', "holds list in line 1, expected an object"),
    ("train.jsonl", b'{"text": ["a"], "label": "b"}\n', "holds a list, expected text"),
    ("train.parquet", b"PAR1 nothing PAR1", "as parquet"),
    ("train.csv.gz", b"\x1f\x8b no gzip", "Cannot read"),
    ("train.xlsx", b"PK\x03\x04", "holds no table, but train.xlsx"),
]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN, ids=lambda value: str(value)[:30])
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / "d")
    assert "\n" not in str(caught.value)


def test_an_empty_test_file_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "d", rows_of(["a", "b"]))
    (tmp_path / "d" / "test.csv").write_text("text,label\n")
    with pytest.raises(DataError, match=r"The test file of .* is empty"):
        read(tmp_path / "d")


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (CSV.replace(",", ";").encode(), {"sep": ";"}),
        (CSV.encode("utf-16"), {"encoding": "utf-16"}),
        (CSV.replace("text 3", "caf\u00e9 3").encode("latin-1"), {"encoding": "latin-1"}),
        (b"a title\n" + CSV.encode(), {"skiprows": 1}),
        (b"\xef\xbb\xbf" + CSV.encode(), {}),
    ],
)
def test_read_options_work_beside_a_path(tmp_path: Path, content: bytes, options: dict[str, object]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_bytes(content)
    assert read(tmp_path / "d", read_options=options).concepts == ("a", "b")


def test_an_option_that_the_reader_does_not_take_is_named(tmp_path: Path) -> None:
    write(tmp_path / "d", rows_of(["a", "b"]))
    with pytest.raises(DataError, match="has delimeter, which pandas' read_csv does not take"):
        read(tmp_path / "d", read_options={"delimeter": ";"})
