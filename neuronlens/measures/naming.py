"""The one place that names things: a method, a cell, a place, a measure. Names follow from the declared columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from neuronlens.measures.columns import METHOD, RESULTS, SETTINGS, WHERE
from neuronlens.measures.declaration import leading

Row = Mapping[Any, Any]
"""A row of any table that holds the knobs."""
EDIT_KNOBS = [knob for knob in SETTINGS if RESULTS[knob].role in ("method", "dose") and not RESULTS[knob].apart]
"""What a name always holds of the edit itself, where it plays a part."""


def value(entry: Any, *, percent: bool = False) -> str:
    """Return a knob's value as people write it; a dash where the knob plays no part.

    >>> value("max"), value(2.0), value(float("nan")), value(0.3, percent=True)
    ('max', '2', '-', '30%')
    """
    if isinstance(entry, str):
        return entry
    if pd.isna(entry):
        return "-"
    return f"{100 * entry:g}%" if percent else f"{entry:g}"


def words(row: Row, knobs: Iterable[str]) -> list[str]:
    """Return the knobs that play a part in a row, each in its own words; a neutral value goes unnamed.

    >>> words({"edit": "zero", "tau": 2.5, "strength": 1.0, "control": None}, ["edit", "tau", "strength", "control"])
    ['zero', 'tau 2.5']
    """
    return [
        RESULTS[knob].words.format(value(row[knob], percent=RESULTS[knob].percent))
        for knob in knobs
        if _plays_a_part(row, knob)
    ]


def _plays_a_part(row: Row, knob: str) -> bool:
    entry = row.get(knob)
    return bool(pd.notna(entry)) and entry != RESULTS[knob].neutral


def setting_apart(table: pd.DataFrame) -> list[str]:
    """Return the knobs that take several values in a table, null not counted: what the names in it must hold."""
    return [knob for knob in SETTINGS if knob in table and table[knob].nunique() > 1]


def method(row: Row, apart: Collection[str] = ()) -> str:
    """Return a method's name: gate, range, edit, then what else it is.

    Args:
        row: of any table that holds the knobs.
        apart: knobs that set the methods of a table apart (`setting_apart`); ranking, place and share of the neurons are
            named only where they do.

    >>> row = {"gate": "range", "range": "gaussian", "tau": 2.5, "edit": "zero", "strength": 0.5, "saliency": "max"}
    >>> method(row | {"control": "shuffled_labels", "layers": "5"}, apart=["layers", "saliency"])
    'layer 5, range (gaussian 2.5) zero x 0.5 (shuffled_labels), max'
    """
    interval = [value(row[knob]) for knob in RESULTS.keys("range") if knob != "gate" and _plays_a_part(row, knob)]
    parts = [value(row["gate"]), *([f"({' '.join(interval)})"] if interval else [])]
    parts += words(row, leading([knob for knob in EDIT_KNOBS if knob != "control"], "edit"))
    parts += [f"({control})" for control in words(row, ["control"])]
    more = [knob for knob in SETTINGS if knob in apart and RESULTS[knob].apart]
    where, others = [knob for knob in more if knob in WHERE], [knob for knob in more if knob not in WHERE]
    return ", ".join([*words(row, where), " ".join(parts), *words(row, others)])


def edit(row: Row, knobs: Collection[str]) -> str:
    """Return the name of an edit whose range mask is held against its neuron mask: the edit, then what else is asked for.

    Args:
        knobs: what to name besides the edit, such as `EDIT_KNOBS` and what sets the rows of a table apart.

    >>> edit({"edit": "zero", "tau": 2.5, "layers": "5", "saliency": "max"}, ["layers", "tau"])
    'layer 5, zero, tau 2.5'
    """
    order = leading(SETTINGS, *WHERE, "edit", "range", "tau", "saliency")
    return ", ".join(words(row, [knob for knob in order if knob == "edit" or (knob in knobs and knob != "gate")]))


def setting(row: Row) -> str:
    """Return all that a range mask and its neuron mask share, and the range's own: ranking, edit, range, dose.

    >>> row = {"saliency": "max", "edit": "zero", "range": "gaussian", "tau": 2.5, "top_fraction": 0.3, "gate": "range"}
    >>> setting(row)
    'max, zero, gaussian, tau 2.5, 30% of the neurons'
    """
    order = leading(SETTINGS, "saliency", "edit", "range", "tau")
    return ", ".join(words(row, [knob for knob in order if knob not in WHERE and knob != "gate"]))


def curve(row: Row, apart: Collection[str] = ()) -> str:
    """Return a method's name in the legend of a chart that holds one place and edit: the mask, then what sets it apart.

    >>> curve({"gate": "range", "range": "gaussian", "tau": 2.5, "strength": 1.0, "saliency": "max"})
    'range mask, tau 2.5'
    """
    always = [*EDIT_KNOBS, "tau"]
    order = leading([knob for knob in SETTINGS if knob not in (*WHERE, "gate", "edit")], "range", "tau")
    return ", ".join([f"{row['gate']} mask", *words(row, [knob for knob in order if knob in always or knob in apart])])


def place(row: Row) -> str:
    """Return where an edit is made, as files write it.

    >>> place({"site": "resid_post", "layers": "5"})
    'resid_post.5'
    """
    return f"{row['site']}.{row['layers']}"


def erased(level: float) -> str:
    """Return a level of erasure: the share of a concept's base accuracy that is gone.

    >>> erased(0.6)
    '60% erased'
    """
    return f"{value(level, percent=True)} erased"


def measure(key: str, *, short: bool = False) -> str:
    """Return what a measure is called, with its unit; `short` where the context says whose accuracy it is.

    >>> measure("kl"), measure("complement_accuracy_drop"), measure("complement_accuracy_drop", short=True)
    ('KL, nats', 'complement accuracy drop', 'accuracy')
    """
    column = RESULTS[key]
    if short:
        return column.short or column.heading
    return f"{column.heading}, {column.unit}" if column.unit else column.heading


def word(text: str) -> str:
    """Return text as one word of a metric's name: letters, digits and underscores, the only ones that W&B sorts by.

    >>> word("resid_post.5"), word("tau2.5"), word("x-1"), word("tau inf")
    ('resid_post_5', 'tau2_5', 'xminus1', 'tau_inf')
    """
    return re.sub(r"[^0-9A-Za-z]+", "_", text.replace("-", "minus")).strip("_")


def place_key(row: Row) -> str:
    """Return where an edit is made as one word of a metric's name: `resid_post_5`."""
    return word(place(row))


def level_key(level: float) -> str:
    """Return a level of erasure as one word of a metric's name.

    >>> level_key(0.6)
    'erased_60'
    """
    return word(f"erased_{100 * level:g}")


def budget_key(row: Row) -> str:
    """Return a damage budget as one word of a metric's name.

    >>> budget_key({"damage": "kl", "budget": 0.05}), budget_key({"damage": "complement_accuracy_drop", "budget": 0.1})
    ('kl_within_0_05', 'accuracy_within_0_1')
    """
    return word(f"{measure(row['damage'], short=True).lower()}_within_{row['budget']:g}")


def method_key(row: Row) -> str:
    """Return a method as one word of a metric's name, which never changes: every knob of its own, in a fixed order.

    >>> knobs = {"gate": "range", "edit": "zero", "range": "gaussian", "tau": 2.5, "saliency": "max", "strength": 1.0}
    >>> method_key(knobs | {"control": None, "top_fraction": None, "n_neurons": None})
    'range_zero_gaussian_tau2_5_max'
    """
    order = leading(METHOD, "gate", "edit", "range", "tau", "saliency", "strength", "top_fraction", "n_neurons")
    named = [knob for knob in order if knob not in WHERE and _plays_a_part(row, knob)]
    if "top_fraction" in named or "saliency" not in named:  # the number of neurons says nothing more
        named = [knob for knob in named if knob != "n_neurons"]
    return word("_".join(RESULTS[knob].code.format(value(row[knob])) for knob in named))


def method_path(row: Row) -> str:
    """Return the range method of a comparison as a key of `summary.json`, which never changes.

    >>> knobs = {"saliency": "max", "range": "gaussian", "tau": 2.5, "gate": "range", "edit": "zero", "strength": 0.5}
    >>> method_path(knobs | {"control": "random_neurons"})
    'max/gaussian/2.5/zero/0.5/random_neurons'
    """
    order = leading(SETTINGS, "saliency", "range", "tau", "edit", "strength")
    shown = [knob for knob in order if RESULTS[knob].role not in ("place", "share") and knob != "gate"]
    return "/".join(value(row[knob]) for knob in shown if _plays_a_part(row, knob))
