"""Questions in MMLU's format, from the kinds of file it comes in, and what is said of rows that are not in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.config.schema_evaluation import QuestionsConfig
from neuronlens.data.questions import Question, QuestionSet, load_questions
from neuronlens.errors import DataError
from neuronlens.storage.cache import Store

SUBJECTS = ("anatomy", "world_religions")
CHOICES = ["none", "It's 3, or so", 'a "few"', "[all]"]


def _rows(count: int, offset: int) -> list[dict[str, Any]]:
    return [
        {"question": f"Question {offset + n}?", "subject": subject, "choices": CHOICES, "answer": n % 4}
        for subject in SUBJECTS
        for n in range(count)
    ]


def write(folder: Path, kind: str = "jsonl", **splits: list[dict[str, Any]]) -> Path:
    """Write a folder in MMLU's format: a dev and a test file, or others."""
    folder.mkdir(parents=True)
    for split, rows in ({"dev": _rows(5, 100), "test": _rows(7, 0)} | splits).items():
        table = pd.DataFrame(rows)
        if kind == "parquet":
            table.to_parquet(folder / f"{split}.parquet")
        elif kind == "jsonl":
            table.to_json(folder / f"{split}.jsonl", orient="records", lines=True)
        else:
            written = json.dumps if kind == "json in csv" else repr
            letters = table["answer"].map(lambda number: "ABCD"[number])
            table.assign(choices=table["choices"].map(written), answer=letters).to_csv(
                folder / f"{split}.csv", index=False
            )
    return folder


def _load(folder: Path, tmp_path: Path, **options: Any) -> QuestionSet:
    return load_questions(QuestionsConfig(path=str(folder), **options), Store(tmp_path / "cache"))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json in csv", "python in csv"])
def test_every_kind_of_file_holds_the_same_questions(tmp_path: Path, kind: str) -> None:
    found = _load(write(tmp_path / "mmlu", kind), tmp_path)
    assert len(found.questions) == 14
    assert {question.subject for question in found.questions} == set(SUBJECTS)
    assert Question("Question 6?", "anatomy", tuple(CHOICES), 2) in found.questions
    assert [example.text for example in found.examples["anatomy"]] == [f"Question {n}?" for n in range(100, 105)]
    assert [example.answer for example in found.examples["anatomy"]] == [0, 1, 2, 3, 0]
    assert found.fingerprint == _load(write(tmp_path / "again", "jsonl"), tmp_path).fingerprint


def test_a_hub_set_is_read_like_a_folder(tmp_path: Path) -> None:
    """A folder is to `datasets` what a hub id is; its answers may be class labels, as cais/mmlu's are."""
    import datasets

    repository = tmp_path / "repository"
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "subject": datasets.Value("string"),
            "choices": datasets.List(datasets.Value("string")),
            "answer": datasets.ClassLabel(names=["A", "B", "C", "D"]),
        }
    )
    (repository / "all").mkdir(parents=True)
    for split, rows in (("dev", _rows(5, 100)), ("test", _rows(7, 0))):
        datasets.Dataset.from_list(rows, features=features).to_parquet(repository / "all" / f"{split}-0.parquet")
    listed = "\n".join(f"  - split: {split}\n    path: all/{split}-*" for split in ("dev", "test"))
    (repository / "README.md").write_text(f"---\nconfigs:\n- config_name: all\n  data_files:\n{listed}\n---\n")
    config = QuestionsConfig(hub=str(repository))
    found = load_questions(config, Store(tmp_path / "cache"))
    assert found == _load(write(tmp_path / "mmlu"), tmp_path)


def test_limit_and_subjects_choose_and_the_seed_draws(tmp_path: Path) -> None:
    folder = write(tmp_path / "mmlu")
    some = _load(folder, tmp_path, limit=3, shots=2)
    assert [question.subject for question in some.questions] == [*[SUBJECTS[0]] * 3, *[SUBJECTS[1]] * 3]
    assert {len(few) for few in some.examples.values()} == {2}
    assert some == _load(folder, tmp_path, limit=3, shots=2)
    assert some.questions != _load(folder, tmp_path, limit=3, shots=2, seed=1).questions
    one = _load(folder, tmp_path, subjects=["world_religions"])
    assert {question.subject for question in one.questions} == {"world_religions"}
    assert list(one.examples) == ["world_religions"]
    keys = {_load(folder, tmp_path, **more).fingerprint for more in ({}, {"limit": 3}, {"shots": 2}, {"seed": 1})}
    assert len(keys) == 4


def test_without_shots_no_dev_file_is_needed(tmp_path: Path) -> None:
    folder = write(tmp_path / "mmlu")
    (folder / "dev.jsonl").unlink()
    assert len(_load(folder, tmp_path, shots=0).questions) == 14
    with pytest.raises(DataError, match=r"holds no dev file.*questions\.shots=0"):
        _load(folder, tmp_path)


def test_a_question_that_is_an_example_too_is_not_asked(tmp_path: Path) -> None:
    dev = _rows(5, 100)
    folder = write(tmp_path / "mmlu", test=[*_rows(7, 0), dev[0], _rows(7, 0)[0]])
    found = _load(folder, tmp_path)
    assert len(found.questions) == 14
    assert found.dropped == {"also an example": 1, "the same question again": 1}


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"choices": ["one", "two", "three"]}, {}, "Row 0 of the test file has the choices"),
        ({"choices": "one two"}, {}, "expected a list of 4"),
        ({"answer": 4}, {}, "answer '4', expected 0 to 3 or A to D"),
        ({"answer": "E"}, {}, "answer 'E'"),
        ({"question": "  "}, {}, "has no question"),
        ({"subject": "anatomy"}, {"subjects": ["anatmy"]}, "Did you mean 'anatomy'"),
        ({}, {"shots": 6}, "has 5 dev examples, and 6 are to be shown"),
        ({}, {"split": "validation"}, "holds no validation file"),
        ({}, {"path": None, "hub": None}, "no source"),
    ],
)
def test_bad_questions_are_told_in_one_sentence(
    tmp_path: Path, change: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    folder = write(tmp_path / "mmlu", test=[_rows(1, 0)[0] | change])
    config = QuestionsConfig(**({"path": str(folder)} | options))
    with pytest.raises(DataError, match=said) as caught:
        load_questions(config, Store(tmp_path / "cache"))
    assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach_is_told_with_the_way_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    said = (
        r"no route to host\. Next: check the network, or evaluation\.general\.questions\.path=<folder> for a local copy"
    )
    with pytest.raises(DataError, match=said):
        load_questions(QuestionsConfig(), Store(tmp_path))


def test_a_missing_column_is_told_with_the_nearest(tmp_path: Path) -> None:
    rows = [{"subjct" if key == "subject" else key: value for key, value in row.items()} for row in _rows(2, 0)]
    with pytest.raises(DataError, match="Did you mean 'subjct'"):
        _load(write(tmp_path / "mmlu", test=rows), tmp_path)


def _wheel_layout(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same questions in the columns that a wheel has them in, with a header repeated between them."""
    told = [
        {"question": row["question"], **dict(zip(LETTER_COLUMNS, row["choices"], strict=True))}
        | {"correct_answer": "ABCD"[row["answer"]], "topic": row["subject"]}
        for row in rows
    ]
    header = {column: column for column in told[0]} | {"correct_answer": "answer", "topic": "anatomy"}
    return [*told[:3], header, *told[3:]]


LETTER_COLUMNS = ("answer_a", "answer_b", "answer_c", "answer_d")


def test_another_layout_is_brought_into_mmlus_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "flat").mkdir()
    pd.DataFrame(_wheel_layout(_rows(7, 0))).to_json(tmp_path / "flat" / "test.jsonl", orient="records", lines=True)
    layout: dict[str, Any] = {"rename": {"topic": "subject", "correct_answer": "answer"}, "shots": 0}
    found = _load(tmp_path / "flat", tmp_path, choice_columns=list(LETTER_COLUMNS), **layout)
    assert found.fingerprint == _load(write(tmp_path / "plain"), tmp_path, shots=0).fingerprint
    assert "1 rows of" in caplog.text
    with pytest.raises(DataError, match="choices"):
        _load(tmp_path / "flat", tmp_path, choice_columns=["answer_a", "answer_e"], **layout)


@pytest.mark.wheels
def test_the_questions_of_the_wheel_are_mmlus_test_set(wheel_cache: Path) -> None:
    config = compose(["evaluation/questions=mmlu_wheel"]).evaluation.general.questions
    found = load_questions(config, Store(wheel_cache))
    assert len({question.subject for question in found.questions}) == 57, "as Hendrycks et al. 2021 count them"
    assert len(found.questions) + sum(found.dropped.values()) == 14042
    assert found.examples == dict.fromkeys(found.examples, ())
    ring = Question("Find the characteristic of the ring Z_3 x 3Z.", "abstract algebra", ("0", "3", "12", "30"), 0)
    assert ring in found.questions, "3Z has no other characteristic"
