"""The portable form of a lens: one safetensors file, with a readable card in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from neuronlens.config.folding import folded
from neuronlens.config.schema_data import PromptExample
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import OutputError, reason
from neuronlens.models.identity import Sample, identity_of
from neuronlens.records import ActivationSet, Site
from neuronlens.results.fitted import FittedFiles, arrays_of, fits_of
from neuronlens.storage.files import json_types, write_atomically

FORMAT = 1
"""Raised when a key of the card or a tensor changes its name or meaning; older files are still read."""
KIND = "neuronlens lens"
CARD = "neuronlens"
"""The key of the card in the metadata of the file."""
PARTS = ("ranking", "ranges", "activations", "weights")
"""What the names of tensors begin with."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a lens says of itself, as JSON types.

    Attributes:
        model: what it was fitted on: `name`, `type`, `layers`, `source`, `fingerprint`, `max_length`.
        fitted_on: `dataset`, `samples` per concept, `select` (samples a gate chooses its threshold on), `position`.
        definitions: in a sentence each, what its own ranking, range, gate and edit are.
        figures: rows of measures with their intervals, one per concept; none where nothing was measured.
        versions: of the libraries that it was made with.
        recipe: what edits are made from (config/recipe.py).
        examples: shown in a language model's prompt.
    """

    model: Mapping[str, Any]
    fitted_on: Mapping[str, Any]
    definitions: Mapping[str, str]
    recipe: Mapping[str, Any]
    figures: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[PromptExample] = ()


@dataclass(frozen=True)
class Content:
    """What a lens file holds."""

    card: Card
    fitted: Mapping[Site, Fitted]
    select: Mapping[Site, ActivationSet]
    weights: Sample | None


def write_lens(path: Path, content: Content) -> None:
    """Write a lens as one file, whole or not there.

    Raises:
        OutputError: the folder cannot be written.
    """
    files, values = arrays_of(content.fitted, content.select)
    parts = dict(zip(PARTS, (files.ranking, files.ranges, values, content.weights or {}), strict=True))
    tensors: dict[str, NDArray[Any]] = {
        f"{part}/{name}": np.ascontiguousarray(array) for part, own in parts.items() for name, array in own.items()
    }
    card = {"kind": KIND, "format": FORMAT, **json_types(content.card), "about": json_types(files.about)}
    if content.weights is not None:
        card["model"] = {**card["model"], "fingerprint": identity_of(content.weights)}
    metadata = {CARD: json.dumps(card, indent=1, ensure_ascii=False)}
    write_atomically(path, save(tensors, metadata))


def read_lens(path: Path) -> Content:
    """Return what a lens file holds.

    Raises:
        OutputError: not there, no lens, or one of a newer format.
        ConfigError: its card holds what this version does not know.
    """
    card, tensors = _read(path)
    about, kind, number = card.pop("about", None), card.pop("kind", None), card.pop("format", None)
    if kind != KIND or not isinstance(number, int) or not isinstance(about, dict):
        raise OutputError(
            f"'{path}' is a safetensors file and no lens. Next: lens.save(<file>), or neuronlens lens RUN."
        )
    if number > FORMAT:
        raise OutputError(
            f"The lens '{path}' has format {number}, and this version of neuronlens reads up to {FORMAT}. Next: a newer "
            "neuronlens."
        )
    parts: dict[str, dict[str, NDArray[Any]]] = {part: {} for part in PARTS}
    for name, array in tensors.items():
        part, _, own = name.partition("/")
        parts[part][own] = array
    files = FittedFiles(parts["ranking"], parts["ranges"], {}, about)
    fitted, select = fits_of(files, parts["activations"])
    return Content(folded(Card, card), fitted, select, parts["weights"] or None)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    try:
        with safe_open(path, framework="numpy") as file:
            stored = (file.metadata() or {}).get(CARD)
            tensors = {name: file.get_tensor(name) for name in list(file.keys())} if stored is not None else {}
        return json.loads(stored or "{}"), tensors
    except Exception as error:  # safetensors raises its own type for a broken header
        raise OutputError(
            f"Cannot read the lens '{path}': {reason(error)}. Next: a file of lens.save, a run folder, or a hub id."
        ) from error
