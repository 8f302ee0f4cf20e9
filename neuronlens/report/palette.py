"""The one place that gives methods their name and colour: page, figures, tables and trackers ask it.

Okabe and Ito's colours, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import METHOD, WHERE

NEURON_COLOUR = "#d55e00"
"""Of a neuron mask, whatever its edit."""
RANGE_COLOUR = "#0072b2"
"""Of the range mask that the config names, whatever its edit."""
OTHER_COLOURS = ("#56b4e9", "#009e73", "#cc79a7", "#e69f00", "#332288", "#882255")
"""Of other methods in their order."""
CONTROL_COLOUR = "#8c8c8c"
CONCEPT_COLOUR, REST_COLOUR, INTERVAL_COLOUR = "#0072b2", "#8c8c8c", "#009e73"
"""Of a concept's own samples, of all others, and of what lies inside an interval."""
LONGEST = 32
"""Letters of a name that a chart has room for."""

Key = tuple[Any, ...]
IDENTITY = [knob for knob in METHOD if knob not in WHERE]
"""What a method is, wherever it is applied."""


@dataclass(frozen=True)
class Style:
    """How a method is shown everywhere."""

    name: str
    colour: str


def key_of(row: Mapping[Any, Any]) -> Key:
    """Return what a method is as a key that is equal in every table, whatever the columns' types."""
    return tuple(None if pd.isna(row.get(knob)) else row[knob] for knob in IDENTITY)


def styles(methods: pd.DataFrame, tau: float | None = None) -> dict[Key, Style]:
    """Return every method's name and colour, by `key_of`; the same at every place.

    A neuron mask is orange and a control grey. The others differ in colour by all that they are but the edit: a range of
    the same tau has one colour under every edit.

    Args:
        methods: of a run, in any table that holds the knobs (`matched.curves`, or `methods` of a run).
        tau: the configured one, whose range mask is blue.
    """
    rows = sorted(methods[METHOD].drop_duplicates(IDENTITY).to_dict("records"), key=_place)
    apart = [knob for knob in naming.setting_apart(methods[METHOD]) if knob not in WHERE]
    found: dict[Key, Style] = {}
    given: dict[Key, str] = {}
    for row in rows:
        found[key_of(row)] = Style(naming.method(row, apart), _colour(row, tau, given))
    return found


def _place(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """Return where a method stands among others, whatever the order of the table that it is read from."""
    return tuple(f"{value:020.6f}" if isinstance(value, (int, float)) else str(value or "") for value in key_of(row))


def _colour(row: Mapping[Any, Any], tau: float | None, given: dict[Key, str]) -> str:
    """Return a method's colour, and note the one that its kind was given."""
    if pd.notna(row["control"]):
        return CONTROL_COLOUR
    if row["gate"] == "neuron" and pd.notna(
        row["saliency"]
    ):  # an edit that mixes neurons has no ranking and is no mask
        return NEURON_COLOUR
    kind = key_of({**row, "edit": None if row["gate"] == "range" else row["edit"]})
    if kind not in given:
        blue = row["gate"] == "range" and (row["tau"] == tau or (tau is None and RANGE_COLOUR not in given.values()))
        free = [colour for colour in OTHER_COLOURS if colour not in given.values()]
        turn = len(given) % len(OTHER_COLOURS)
        given[kind] = RANGE_COLOUR if blue else (free[0] if free else OTHER_COLOURS[turn])
    return given[kind]


def shortened(name: str, longest: int = LONGEST) -> str:
    """Return a name that a chart has room for, its middle left out.

    >>> shortened("comp.sys.ibm.pc.hardware"), shortened("a name of far too many words to stand under a bar", 20)
    ('comp.sys.ibm.pc.hardware', 'a name of … er a bar')
    """
    if len(name) <= longest:
        return name
    front = longest // 2
    return f"{name[:front]}…{name[len(name) - (longest - front - 1) :]}"


def all_shortened(names: Sequence[str], longest: int = LONGEST) -> list[str]:
    """Return names that a chart has room for; two that would look the same get their place behind them."""
    found = [shortened(name, longest) for name in names]
    return [f"{name} ({place + 1})" if found.count(name) > 1 else name for place, name in enumerate(found)]
