"""The cache: whole files or none, found again by what they were made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlens.config.fingerprint import fingerprint
from neuronlens.errors import OutputError
from neuronlens.storage import cache
from neuronlens.storage.cache import Store

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    arrays = {"values": np.arange(6, dtype=np.float32).reshape(2, 3), "labels": np.array([0, 1])}
    store.save("activations", "abc", arrays, {"layer": 5})
    found = store.load("activations", "abc")
    assert found is not None
    assert found[1]["layer"] == 5
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[0][name], array)
        assert found[0][name].dtype == array.dtype
    assert store.load("activations", "abd") is None


def test_trap_27_a_stage_that_breaks_off_is_not_there(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def half() -> None:
        with store.writing("finetuned", "abc", {}) as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert store.found("finetuned", "abc") is None
    assert list((tmp_path / "finetuned").iterdir()) == []


def test_a_second_writer_of_the_same_stage_loses_quietly(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing("stage", "abc", {"who": "slow"}) as folder:
        store.save("stage", "abc", {"x": np.zeros(1)}, {"who": "fast"})
        (folder / "arrays.safetensors").write_bytes(b"never seen")
    found = store.load("stage", "abc")
    assert found is not None
    assert found[1]["who"] == "fast"


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _flipped,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "no object": lambda path: path.write_bytes(b"[]"),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damaged", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", ["manifest.json", "arrays.safetensors", "checksums.json"])
def test_trap_56_a_damaged_stage_is_named_and_made_again(
    file: str, damaged: Callable[[Path], object], tmp_path: Path
) -> None:
    said: list[str] = []
    store = Store(tmp_path, warn=said.append)

    def made() -> float:
        found = store.load("stage", "abc")
        if found is None:
            store.save("stage", "abc", {"x": np.full(100, 2.0)}, {})
            return made()
        return float(found[0]["x"].sum())

    assert made() == made() == 200.0
    assert said == []
    damaged(tmp_path / "stage" / "abc" / file)
    assert made() == 200.0
    assert len(said) == 1
    assert file in said[0]
    assert made() == 200.0
    assert len(said) == 1, "it is whole again"
    assert [entry.name for entry in (tmp_path / "stage").iterdir()] == ["abc"]


def test_a_damaged_stage_is_named_on_stderr_where_nobody_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(tmp_path).save("stage", "abc", {"x": np.zeros(1)}, {})
    (tmp_path / "stage" / "abc" / "manifest.json").unlink()
    assert Store(tmp_path).found("stage", "abc") is None
    assert capsys.readouterr().err.count("manifest.json is missing") == 1


def test_a_checksum_of_a_file_elsewhere_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path, warn=lambda sentence: None)
    store.save("stage", "abc", {"x": np.zeros(1)}, {})
    (tmp_path / "stage" / "abc" / "checksums.json").write_text('{"/dev/zero": {"bytes": 0, "sha256": ""}}')
    assert store.found("stage", "abc") is None


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "seal", full)
    with pytest.raises(OutputError, match=r"No space left on device.*Next: paths\.cache_dir"):
        Store(tmp_path).save("stage", "abc", {"x": np.zeros(1)}, {})
    assert list((tmp_path / "stage").iterdir()) == []


@given(JSON, JSON)
def test_trap_23_equal_inputs_equal_fingerprint_and_else_not(one: object, other: object) -> None:
    assert fingerprint(one) == fingerprint(one)
    if repr(one) != repr(other) and one != other:
        assert fingerprint(one) != fingerprint(other)


def test_the_order_of_keys_does_not_count() -> None:
    assert fingerprint({"a": 1, "b": [2, 3]}) == fingerprint({"b": [2, 3], "a": 1})
    assert fingerprint([2, 3]) != fingerprint([3, 2])
