"""Manifests of older formats, brought to today's when they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neuronlens.errors import OutputError

FORMAT = 2
"""Of `manifest.json` and the config in it. Raise it when a key changes its name or meaning, and add a step to `STEPS`."""


def brought_up_to_date(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a manifest's content as `FORMAT` writes it.

    Args:
        content: as it stands in the file; not modified.
        where: the run folder, for the message.

    Raises:
        OutputError: a newer format, or none that there ever was.
    """
    written = content.get("format", 1)  # the first one had no number
    if not isinstance(written, int) or isinstance(written, bool) or written < 1:
        raise OutputError(
            f"The manifest of '{where}' has format {written!r}, expected a whole number from 1 to {FORMAT}."
        )
    if written > FORMAT:
        raise OutputError(
            f"'{where}' was written by a newer neuronlens: its manifest has format {written}, and this version reads 1 to "
            f"{FORMAT}. Next: update neuronlens."
        )
    current = dict(content)
    for number in range(written, FORMAT):
        current = STEPS[number](current)
    return current | {"format": FORMAT}


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had no number; a lens that was saved alone had a prompt of examples only, were there any or not."""
    prompt = content.get("prompt") or {}
    return content | {"prompt": prompt if any(prompt.values()) else None}


STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
"""What makes a manifest of each older format one of the next."""
