"""A run folder whose files are cut, changed or gone is refused by name, and one whose page is gone is not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from neuronlens.errors import OutputError
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("results", "matched", "comparison", "methods"):
        pd.DataFrame({"concept": ["a", "b"], "kl": [0.25, 0.5]}).to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "base.json").write_text('{"accuracy": 0.5}')
    RunFolder(tmp_path).write_manifest(Manifest({"seed": 0}, run_id="run"))
    return tmp_path


def test_a_whole_folder_is_read(run: Path) -> None:
    assert len(RunFolder(run).read_results().rows) == 2
    assert set(RunFolder(run).read_manifest().checksums) >= {"results.parquet", "base.json"}


@pytest.mark.parametrize(
    "name", ["results.parquet", "matched.parquet", "comparison.parquet", "methods.parquet", "base.json"]
)
@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "gone", "another"])
def test_a_harmed_file_is_refused_by_name(run: Path, name: str, harm: str) -> None:
    path = run / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"cut": content[:-9], "flip": content, "empty": b"", "another": b"{}"}
    path.unlink() if harm == "gone" else path.write_bytes(bytes(changed[harm]))
    with pytest.raises(OutputError, match=rf"is not as its run left it: {name} is .*Next: copy the folder again"):
        RunFolder(run).read_results()


@pytest.mark.parametrize("name", ["results.parquet", "base.json"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"[1]", b"null"])
def test_a_file_of_a_run_without_checksums_is_refused_too(run: Path, name: str, content: bytes) -> None:
    (run / "manifest.json").unlink()
    (run / name).write_bytes(content)
    if name == "base.json" and content in (b"[1]", b"null"):
        return  # JSON, and read by who needs it
    with pytest.raises(OutputError, match="is not the folder of a finished run"):
        RunFolder(run).read_results()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"config": 3}', '{"config": {}, "prompt": 3}', '{"config": {}, "concepts": 3}']
)
def test_a_manifest_that_is_none_is_refused(run: Path, content: str) -> None:
    (run / "manifest.json").write_text(content)
    with pytest.raises(OutputError):
        RunFolder(run).read_manifest()
