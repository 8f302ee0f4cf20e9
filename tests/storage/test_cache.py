"""The cache: whole files or none, found again by what they were made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlens.config.fingerprint import fingerprint
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
    assert not store.has("finetuned", "abc")
    assert list((tmp_path / "finetuned").iterdir()) == []


def test_a_second_writer_of_the_same_stage_loses_quietly(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing("stage", "abc", {"who": "slow"}) as folder:
        store.save("stage", "abc", {"x": np.zeros(1)}, {"who": "fast"})
        (folder / "arrays.safetensors").write_bytes(b"never seen")
    found = store.load("stage", "abc")
    assert found is not None
    assert found[1]["who"] == "fast"


@given(JSON, JSON)
def test_trap_23_equal_inputs_equal_fingerprint_and_else_not(one: object, other: object) -> None:
    assert fingerprint(one) == fingerprint(one)
    if repr(one) != repr(other) and one != other:
        assert fingerprint(one) != fingerprint(other)


def test_the_order_of_keys_does_not_count() -> None:
    assert fingerprint({"a": 1, "b": [2, 3]}) == fingerprint({"b": [2, 3], "a": 1})
    assert fingerprint([2, 3]) != fingerprint([3, 2])


@pytest.mark.parametrize(
    "harm",
    ["flip", "cut", "empty", "gone", "empty manifest", "cut manifest", "manifest of another stage", "manifest gone"],
)
def test_a_harmed_stage_is_not_there_and_can_be_written_again(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.save("stage", "abc", {"x": np.arange(100.0)}, {"who": "first"})
    assert store.has("stage", "abc")
    folder = store.folder("stage", "abc")
    path = folder / ("manifest.json" if "manifest" in harm else "arrays.safetensors")
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-3] ^= 1
    if "cut" in harm:
        content = content[:-5]
    if "empty" in harm:
        content = bytearray()
    if harm == "manifest of another stage":
        content = bytearray(content.replace(b'"abc"', b'"abd"'))
    path.unlink() if "gone" in harm else path.write_bytes(bytes(content))
    assert store.load("stage", "abc") is None
    assert "is broken" in caplog.text
    assert "It is computed again." in caplog.text
    store.save("stage", "abc", {"x": np.arange(3.0)}, {"who": "second"})
    found = store.load("stage", "abc")
    assert found is not None
    assert found[1]["who"] == "second"


def test_a_stage_of_an_older_version_gets_its_checksums(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("stage", "abc", {"x": np.arange(3.0)}, {})
    folder = store.folder("stage", "abc")
    content = json.loads((folder / "manifest.json").read_text())
    del content["checksums"]
    (folder / "manifest.json").write_text(json.dumps(content))
    assert store.has("stage", "abc")
    (folder / "arrays.safetensors").write_bytes(b"other")
    assert not store.has("stage", "abc")
