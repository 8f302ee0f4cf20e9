"""What a lens says of itself, put together from what it holds."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from neuronlens.config.groups import phrase
from neuronlens.config.nodes import option_of
from neuronlens.config.recipe import recipe_of
from neuronlens.config.schema import Config
from neuronlens.lens.cells import Cells
from neuronlens.lens.file import Card
from neuronlens.lens.own_model import OwnModel
from neuronlens.models.identity import identity_of

LIBRARIES = ("neuronlens", "torch", "transformers", "numpy", "safetensors")


def card_of(
    own: OwnModel,
    cells: Cells,
    figures: Sequence[Mapping[str, Any]],
    versions: Mapping[str, str] | None,
    fitting: Mapping[str, Any],
) -> Card:
    """Return a lens's card.

    Args:
        versions: of the libraries that it was made with; None for those of this process.
        fitting: on which positions it was fitted.
    """
    config = cells.config
    first = cells.fitted[cells.sites[0]].activations
    chosen = next(iter(cells.select.values()), None)
    counts = first.statistics.count.tolist()
    model = config.model
    folder = own.folder
    if folder is not None and Path(folder).is_dir():
        folder = str(Path(folder).resolve())  # found from wherever the file is read
    source = model.hub or model.wheel or folder or model.path
    return Card(
        model={
            "name": model.name,
            "type": own.model_type,
            "class": own.kind,
            "layers": own.layer_count,
            "source": source or "a model in hand",
            "folder": folder,
            "max_length": model.max_length,
            "fingerprint": identity_of(own.weights) if own.weights is not None else None,
        },
        fitted_on={
            "sites": [str(site) for site in cells.sites],
            "dataset": config.dataset.name,
            "samples": dict(zip(first.concepts, counts, strict=True)),
            "select": 0 if chosen is None else len(chosen.labels),
            "fitting": dict(fitting),
            "position": model.record_position or "the position that the model's head reads",
        },
        definitions=_definitions(config),
        recipe=recipe_of(config),
        figures=tuple(figures),
        versions=_versions() if versions is None else versions,
        examples=own.examples,
    )


def _definitions(config: Config) -> dict[str, str]:
    """Return a sentence on each part of the lens's own cell, as its option says it."""
    names = {group: option_of(config, group) for group in ("saliency", "range")}
    names |= {"gate": config.intervention.gate, "edit": config.intervention.edit}
    return {f"{group} {name}": _sentence(config, group, name) for group, name in names.items()}


def _sentence(config: Config, group: str, name: str) -> str:
    try:
        return phrase(group, name)
    except OSError:  # an option of one's own lies in no folder of ours
        return str(config.parts.get(group, {}).get(name, {}).get("_target_", name))


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}
