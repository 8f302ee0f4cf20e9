"""Which positions a call of the lens edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from neuronlens.config.schema import TOKEN_POSITIONS, Config
from neuronlens.errors import ConfigError, unknown
from neuronlens.hooks.masks import BUT_FIRST, EDITED
from neuronlens.hooks.reads import position_read


def asked_positions(config: Config, positions: str | None, fitting: Mapping[str, Any]) -> str:
    """Return the word that is asked for, or the lens's own: without first tokens where it was fitted without them.

    Raises:
        ConfigError: neither `record` nor what `nl.edited` takes.
    """
    asked = positions or config.intervention.edit_positions
    if asked not in ("record", *EDITED):
        raise ConfigError(unknown("edit position", asked, ["record", *EDITED]))
    return BUT_FIRST.get(asked, asked) if positions is None and fitting.get("skips_first") else asked


def edited_positions(config: Config, model: nn.Module, asked: str) -> str:
    """Return the word as `nl.edited` takes it: `record` is the position that was recorded.

    Raises:
        ConfigError: what was recorded is a mean or maximum over positions.
        SiteError: the model's head reads other positions than one or all.
    """
    if asked != "record":
        return asked
    record = config.model.record_position or position_read(model)
    if record not in TOKEN_POSITIONS:
        raise ConfigError(f"The lens recorded '{record}', which is not one position. Next: positions='all'.")
    return record
