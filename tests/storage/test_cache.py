"""The cache: whole files or none, found again by what they were made of."""

from __future__ import annotations

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
