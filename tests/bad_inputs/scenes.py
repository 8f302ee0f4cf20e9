"""A small dataset and a tiny model, and the ways in which the table's rows spoil them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Spoil = Callable[[Path, Path], object]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def _edit(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Return what changes the content of one file, `data/...` or `model/...`."""

    def spoil(data: Path, model: Path) -> object:
        place = (data if name.startswith("data/") else model) / name.partition("/")[2]
        return place.write_bytes(change(place.read_bytes() if place.is_file() else b""))

    return spoil


def _without(*names: str) -> Spoil:
    """Return what takes files away."""

    def spoil(data: Path, model: Path) -> object:
        for name in names:
            ((data if name.startswith("data/") else model) / name.partition("/")[2]).unlink()
        return None

    return spoil


def _json(name: str, **changes: object) -> Spoil:
    return _edit(name, lambda content: json.dumps({**json.loads(content), **changes}).encode())


def _pickled(data: Path, model: Path) -> object:
    (model / "model.safetensors").unlink()
    return (model / "pytorch_model.bin").write_bytes(b"\x80\x02.")


def _train_as_test(data: Path, model: Path) -> object:
    return shutil.copy(data / "train.csv", data / "test.csv")


def _emptied(data: Path, model: Path) -> object:
    return [path.unlink() for path in data.iterdir()]


def _weights(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Return what changes a model's tensors and leaves the file whole."""

    def spoil(data: Path, model: Path) -> object:
        found = load_file(model / "model.safetensors")
        change(found)
        return save_file(found, model / "model.safetensors", metadata={"format": "pt"})

    return spoil


def _one_more_token(content: bytes) -> bytes:
    core = json.loads(content)
    core["model"]["vocab"]["one more"] = len(core["model"]["vocab"])
    return json.dumps(core).encode()


DENSE = "bert.encoder.layer.0.output.dense.weight"
SCENES: dict[str, Spoil] = {
    "": lambda data, model: None,
    "no data files": _emptied,
    "empty train": _edit("data/train.csv", lambda content: b""),
    "header alone": _edit("data/train.csv", lambda content: b"text,label\n"),
    "empty test": _edit("data/test.csv", lambda content: b"text,label\n"),
    "utf-16": _edit("data/train.csv", lambda content: content.decode().encode("utf-16")),
    "latin-1": _edit("data/train.csv", lambda content: content + "caf\u00e9,apple\n".encode("latin-1")),
    "ragged": _edit("data/train.csv", lambda content: content + b"one,two,three\n"),
    "open quote": _edit("data/train.csv", lambda content: content + b'"w1 w2,apple\n'),
    "semicolons": _edit("data/train.csv", lambda content: content.replace(b",", b";")),
    "excel": _edit("data/train.csv", lambda content: b"PK\x03\x04"),
    "lfs data": _edit("data/train.csv", lambda content: LFS),
    "two train files": _edit("data/train.jsonl", lambda content: b"{}\n"),
    "two kinds": _edit("data/validation.jsonl", lambda content: b'{"text": "a", "label": "apple"}\n'),
    "test of train": _train_as_test,
    "broken jsonl": lambda data, model: [_emptied(data, model), (data / "train.jsonl").write_text('{"text": "a"\n')],
    "broken parquet": lambda data, model: [_emptied(data, model), (data / "train.parquet").write_bytes(b"PAR1PAR1")],
    "lists": lambda data, model: [
        _emptied(data, model),
        (data / "train.jsonl").write_text('{"text": ["a"], "label": "b"}\n'),
    ],
    "one label": _edit("data/train.csv", lambda content: b"text,label\na b,x\nc d,x\n"),
    "no config": _without("model/config.json"),
    "config no json": _edit("model/config.json", lambda content: content[:40]),
    "config a list": _edit("model/config.json", lambda content: b"[]"),
    "no model_type": _edit("model/config.json", lambda content: b'{"hidden_size": 16}'),
    "fewer layers": _json("model/config.json", num_hidden_layers=2),
    "no weights": _without("model/model.safetensors"),
    "pickle": _pickled,
    "empty weights": _edit("model/model.safetensors", lambda content: b""),
    "cut weights": _edit("model/model.safetensors", lambda content: content[:-100]),
    "cut header": _edit("model/model.safetensors", lambda content: content[:50]),
    "lfs weights": _edit("model/model.safetensors", lambda content: LFS),
    "no safetensors": _edit("model/model.safetensors", lambda content: b"hello, these are no weights at all"),
    "no tokenizer": _without("model/tokenizer.json"),
    "empty tokenizer": _edit("model/tokenizer.json", lambda content: b""),
    "cut tokenizer": _edit("model/tokenizer.json", lambda content: content[: len(content) // 2]),
    "lfs tokenizer": _edit("model/tokenizer.json", lambda content: LFS),
    "tokenizer without model": _edit("model/tokenizer.json", lambda content: b"{}"),
    "lost shard": _edit(
        "model/model.safetensors.index.json", lambda content: b'{"weight_map": {"a": "other.safetensors"}}'
    ),
    "nan weight": _weights(lambda found: found[DENSE].__setitem__((0, 0), np.nan)),
    "infinite weight": _weights(lambda found: found[DENSE].__setitem__((0, 0), -np.inf)),
    "weight left over": _weights(lambda found: found.update({"bert.encoder.gain": np.ones(3, dtype=np.float32)})),
    "weight lost": _weights(lambda found: found.pop(DENSE)),
    "weight of another shape": _weights(lambda found: found.update({"classifier.weight": found[DENSE][:4, :8].copy()})),
    "no attention heads": _json("model/config.json", num_attention_heads=0),
    "larger tokenizer": _edit("model/tokenizer.json", _one_more_token),
    "empty index": _edit("model/model.safetensors.index.json", lambda content: b"{}"),
}
