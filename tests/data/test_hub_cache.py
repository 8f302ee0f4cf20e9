"""What `datasets` keeps of a hub id in the cache is held against its checksums; a folder stands in for the hub here."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronlens.data.tables import hub_splits
from neuronlens.storage.cache import Store
from tests.storage.test_cache import DAMAGES


@pytest.mark.parametrize("damaged", ["a flipped bit", "cut", "empty", "gone"])
def test_a_damaged_arrow_file_is_named_and_made_again(damaged: str, dataset_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    store = Store(tmp_path / "cache", warn=said.append)

    def texts() -> list[str]:
        return list(hub_splits(str(dataset_folder), None, None, store)["train"].to_pandas()["text"])

    whole = texts()
    assert texts() == whole
    assert said == []
    (arrow,) = (tmp_path / "cache").rglob("*train.arrow")
    DAMAGES[damaged](arrow)
    assert texts() == whole
    assert len(said) == 1
    assert arrow.name in said[0]
    assert texts() == whole
    assert len(said) == 1
