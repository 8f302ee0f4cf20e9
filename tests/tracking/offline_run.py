"""Reads an offline W&B run back from its `.wandb` file: W&B's own records in LevelDB's log format."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 1 << 15
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """Give every record of a file; raise where the file is not whole."""
    content = path.read_bytes()
    assert content[:4] == b":W&B", f"{path} is no log of W&B"
    at, pieces = 7, b""
    while at + 7 <= len(content):
        left = BLOCK - at % BLOCK
        if left < 7:  # the end of a block is filled up where no header fits
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        assert kind in (WHOLE, FIRST, MIDDLE, LAST), f"record kind {kind} at byte {at}"
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield wandb_internal_pb2.Record.FromString(pieces)
            pieces = b""
    assert not pieces, "the last record is cut off"


def _items(items: Any) -> dict[Any, Any]:
    """Return an update's keys (nested ones as tuples) and values."""
    found = {}
    for item in items:
        nested = tuple(item.nested_key)
        key = (nested[0] if len(nested) == 1 else nested) if nested else item.key
        found[key] = json.loads(item.value_json)
    return found


def _finished(path: Path) -> list[Any]:
    """Return the records of a run that was finished: W&B's own process writes the last of them a moment later."""
    for _ in range(200):
        try:
            found = list(records(path))
        except AssertionError:
            found = []
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} has no end")


class OfflineRun:
    """What one offline run holds."""

    def __init__(self, run_folder: Path) -> None:
        """Read the only W&B run below a run folder."""
        (self.folder,) = (run_folder / "wandb").glob("offline-run-*")
        (log,) = self.folder.glob("run-*.wandb")
        self.config: dict[Any, Any] = {}
        self.summary: dict[Any, Any] = {}
        self.history: list[dict[Any, Any]] = []
        self.artifacts: dict[str, Any] = {}
        self.files: list[str] = []
        self.metrics: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.run: Any = None
        for record in _finished(log):
            kind = record.WhichOneof("record_type")
            content = getattr(record, kind)
            if kind == "run":
                self.run = content
                self.config |= _items(content.config.update)
            elif kind == "config":
                self.config |= _items(content.update)
            elif kind == "summary":
                self.summary |= _items(content.update)
            elif kind == "history":
                self.history.append(_items(content.item))
            elif kind == "artifact":
                self.artifacts[content.name] = content
            elif kind == "files":
                self.files += [file.path for file in content.files]
            elif kind == "metric":
                self.metrics[content.glob_name or content.name] = content
            elif kind == "exit":
                self.exit_code = content.exit_code

    def table(self, key: str) -> dict[str, Any]:
        """Return the table that is kept whole in its own artifact, as JSON without any of Python's extensions."""
        artifact = self.artifacts[f"run-{self.run.run_id}-{key}"]
        (entry,) = artifact.manifest.contents
        return json.loads(Path(entry.local_path).read_text(), parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
