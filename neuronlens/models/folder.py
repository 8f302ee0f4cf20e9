"""What a model folder must hold, checked in its files alone: nothing of torch or transformers is imported."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

from neuronlens.errors import ModelError
from neuronlens.models.adapter import FILE as ADAPTER

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
"""Files that hold a vocabulary; one of them makes a tokenizer."""
LAYERS = ("num_hidden_layers", "n_layer", "n_layers")
"""The entries of config.json that count blocks, by family."""
WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
"""The entries of config.json that count the neurons between blocks, by family."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LFS = b"version https://git-lfs"
_BLOCK = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


def refuse_unusable(folder: Path, option: str = "model.path") -> None:
    """Refuse a folder that is no whole model: config.json, safetensors weights and a tokenizer, each of them readable.

    Of an adapter the files that are its own are read.

    Args:
        option: the config entry that names the folder.

    Raises:
        ModelError: with the file and the next step.
    """
    if not folder.is_dir():
        there = "is a file" if folder.is_file() else "is not there"
        raise ModelError(f"{option} '{folder}' holds no config.json: it {there}. Expected a folder of save_pretrained.")
    if (folder / ADAPTER).is_file():  # a base model elsewhere is looked at when it is found
        _json(folder / ADAPTER)
        for file in sorted(folder.glob("*.safetensors")):
            header(file)
        return
    if not (folder / "config.json").is_file():
        raise ModelError(f"{option} '{folder}' holds no config.json. Expected a folder written by save_pretrained.")
    config = _json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{folder / 'config.json'} names no model_type. Expected the file that save_pretrained wrote.")
    names = {name for file in _weights(folder) for name in header(file) if name != "__metadata__"}
    _refuse_fewer_layers(folder, names)
    _refuse_no_tokenizer(folder)


def shape_in(folder: Path) -> tuple[int | None, int | None]:
    """Return how many blocks a folder's model has and how many neurons between them; None where its config.json hides it.

    Raises:
        ModelError: config.json is no JSON.
    """
    config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
    layers, width = (
        next((config[key] for key in keys if isinstance(config.get(key), int)), None) for keys in (LAYERS, WIDTHS)
    )
    return layers, width


def header(path: Path) -> dict[str, Any]:
    """Return the header of a safetensors file: what it holds, by name.

    Raises:
        ModelError: empty, cut off, a Git LFS pointer, or no safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if LFS.startswith(start) and start:
            raise ModelError(f"{path} is a Git LFS pointer and not the weights. Next: git lfs pull.")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        content = file.read(length) if 0 < length <= size - 8 else b""
    try:
        found = json.loads(content)
        end = max((entry["data_offsets"][1] for name, entry in found.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise ModelError(
            f"{path} is no whole safetensors file: {size:,} bytes and no readable header. Next: copy it again."
        ) from None
    if end != size - 8 - length:
        raise ModelError(
            f"{path} is cut off or was changed: its header lists {end:,} bytes of weights, and {size - 8 - length:,} are "
            "there. Next: copy it again."
        )
    return dict(found)


def _weights(folder: Path) -> list[Path]:
    """Return the safetensors files that make up the weights."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed = _json(index).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise ModelError(f"{index} lists no weights. Next: copy it again.")
        files = [folder / str(name) for name in sorted(set(map(str, listed.values())))]
    else:
        files = [folder / "model.safetensors"] if (folder / "model.safetensors").is_file() else []
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise ModelError(f"{folder} lacks {', '.join(absent[:3])}, which its index lists. Next: copy the folder again.")
    if not files:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        if pickles:
            raise ModelError(
                f"{folder} holds its weights as pickle alone ({', '.join(pickles[:3])}), which can run any code and is not "
                "opened. Next: load them where you trust them, and save_pretrained(...) writes model.safetensors."
            )
        raise ModelError(f"{folder} holds no model.safetensors. Next: save_pretrained(...) writes it.")
    return files


def _refuse_fewer_layers(folder: Path, names: set[str]) -> None:
    wanted, _ = shape_in(folder)
    blocks = {int(found[1]) for name in names for found in _BLOCK.finditer(name)}
    if wanted is not None and blocks and max(blocks) >= wanted:
        raise ModelError(
            f"The weights in {folder} have {max(blocks) + 1} layers, and its config.json counts {wanted}: the others would "
            "be left out. Next: the config.json that belongs to these weights."
        )


def _refuse_no_tokenizer(folder: Path) -> None:
    present = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not present:
        raise ModelError(
            f"{folder} holds no tokenizer, so every word would be unknown. Next: tokenizer.save_pretrained({str(folder)!r})."
        )
    for name in present:
        content = (folder / name).read_bytes()
        if not content or content.startswith(LFS):
            what = "a Git LFS pointer" if content else "empty"
            raise ModelError(f"{folder / name} is {what}. Next: copy it again.")
        if name == "tokenizer.json" and not isinstance(_json(folder / name).get("model"), dict):
            raise ModelError(f"{folder / name} holds no tokenizer: it has no 'model'. Next: copy it again.")


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON file's object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON: {str(error)[:100]}. Next: copy it again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object. Next: copy it again.")
    return found
