"""How well gates that decide by position tell a concept's positions from the others', on samples nothing was chosen on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.edits.build import EditBuilder
from neuronlens.edits.gates.base import Score
from neuronlens.edits.gates.decisions import Decision
from neuronlens.records import ActivationSet, Cell, Site
from neuronlens.saliency.auroc import auroc
from neuronlens.sweep.runner import SiteSweep

KNOBS = ("gate", "saliency", "top_fraction", "top_count", "range", "tau", "control")
"""What sets the detectors of a site apart."""


def detectors(
    sweeps: Sequence[SiteSweep], held_out: Mapping[Site, ActivationSet], concepts: Sequence[str]
) -> pd.DataFrame:
    """Return what each gate's score does on held-out positions, a row per (site, gate and its knobs, control, concept).

    `auc` is the area under the ROC curve of the score (chance 0.5), `hit_rate` and `false_alarm_rate` are the shares of the
    concept's and of the others' positions at which the gate is open, and `n` and `n_rest` how many of these there are. The
    positions are those that the gate was fitted on: record vectors, or tokens; of a gate per sample, its texts. A soft gate
    counts as open above one half.

    Args:
        held_out: of the test split, under its true labels.
    """
    rows: list[dict[str, Any]] = []
    for sweep in sweeps:
        for site, builder in sweep.builders.items():
            if isinstance(builder, EditBuilder):  # in incremental mode each cell has detectors of its own
                rows += _rows(builder, sweep.cells, held_out[site], concepts)
    return pd.DataFrame(rows)


def _rows(
    builder: EditBuilder, cells: Sequence[Cell], test: ActivationSet, concepts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Give the rows of one site."""
    kinds = dict.fromkeys(
        (replace(knobs, edit="", strength=0.0, parameters=None, made_of=None), concept) for knobs, concept in cells
    )
    for knobs, concept in kinds:
        score = builder.opening((knobs, concept))
        if isinstance(score, tuple):
            continue
        found = {name: getattr(knobs, name) for name in KNOBS}
        yield {"site": str(test.site), **found, "concept": concepts[concept], **quality(score, test, concept)}


def quality(score: Score | Decision, test: ActivationSet, concept: int) -> dict[str, float]:
    """Return the figures of one detector; NaN where the concept has no position, or all of them."""
    if isinstance(score, Decision):
        test = (test.records or test) if score.over is not None else test
        order = score.scores(test.values)
        opened = order > 0
    else:
        order = replace(score, constant=0.0)(test.values)
        opened = (order + score.constant > 0) & (order + score.constant <= score.ceiling)
    member = test.labels == concept
    sizes = {"n": int(member.sum()), "n_rest": int((~member).sum())}
    return {
        "auc": float(auroc(order[:, None], member.astype(np.int64), 2)[1, 0]),
        "hit_rate": float(opened[member].mean()) if sizes["n"] else float("nan"),
        "false_alarm_rate": float(opened[~member].mean()) if sizes["n_rest"] else float("nan"),
        **sizes,
    }
