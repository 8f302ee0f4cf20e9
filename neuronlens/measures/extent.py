"""How far edits reach beside what they do: how much of a state they change, and how many samples and positions.

Worked out beside the sweep, on some of its stored states and by the same edits, so that the sweep's own forwards pay
nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from neuronlens.activations.extract import Extraction
from neuronlens.activations.states import StoredStates
from neuronlens.hooks.masks import edit_mask, prompt_mask
from neuronlens.hooks.takes import is_causal
from neuronlens.hooks.tokens import Tokens, run_edit
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import BoolArray, Cell, FloatArray, IntArray, Site
from neuronlens.sweep.evaluator import by_kind
from neuronlens.sweep.runner import SiteSweep
from neuronlens.sweep.strategies.choose import edited_positions

SAMPLES = 200
"""Test samples that it is measured on, taken at even steps."""
VALUES_AT_ONCE = 4_000_000


def extents(
    sweeps: Sequence[SiteSweep], loaded: LoadedModel, test: Extraction, edit_positions: str
) -> list[dict[Cell, dict[str, float]]]:
    """Return, per sweep and cell, `edit_norm`, `touched_samples` and `touched_positions` on the test split.

    A sweep has none where several sites are edited at once, or one inside a block: its values are not the stored states.
    """
    found = []
    for sweep in sweeps:
        labels = test.activations[sweep.sites[0]].labels
        found.append(
            _of_sweep(sweep, loaded, test.states[loaded.paths.start_of(sweep.sites[0])], labels, edit_positions)
        )
    return found


def _of_sweep(
    sweep: SiteSweep, loaded: LoadedModel, states: StoredStates, labels: IntArray, edit_positions: str
) -> dict[Cell, dict[str, float]]:
    (site, *more) = sweep.sites
    if more or site.layer != states.layer or site.name != "resid_post" or not states.holds_values:
        return {}
    positions = edited_positions(loaded, states.layer, edit_positions)
    kept = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), SAMPLES)).round().astype(int))
    found = {}
    some = states.of_samples(kept)
    for places in by_kind(sweep.cells, sweep.builders):
        size = sum(state.numel() for _, state in some.parts)
        share = max(1, VALUES_AT_ONCE // max(size, 1))
        for at in range(0, len(places), share):
            cells = [sweep.cells[place] for place in places[at : at + share]]
            change, touched, allowed = _changes(loaded.model, sweep, site, cells, some, positions)
            others = labels[kept]
            for place, cell in enumerate(cells):
                found[cell] = extent(change[place], touched[place], allowed, others != cell[1])
    return found


def extent(change: FloatArray, touched: IntArray, allowed: IntArray, complement: BoolArray) -> dict[str, float]:
    """Return one cell's figures; NaN where they are means over nothing.

    Args:
        change: norm of what the edit adds over the norm of what was at the editable positions `[sample]`.
        touched, allowed: positions that change, and that the edit may change `[sample]`.
        complement: which samples belong to the other concepts `[sample]`.

    >>> extent(np.array([0.5, 0.0, 0.3]), np.array([2, 0, 1]), np.array([2, 2, 2]), np.array([False, True, True]))
    {'edit_norm': 0.4, 'touched_samples': 0.5, 'touched_positions': 0.25}
    """
    edited, others = change[touched > 0], touched[complement]
    return {
        "edit_norm": float(edited.mean()) if len(edited) else float("nan"),
        "touched_samples": float((others > 0).mean()) if len(others) else float("nan"),
        "touched_positions": float(others.sum() / allowed[complement].sum()) if len(others) else float("nan"),
    }


def _changes(
    model: nn.Module, sweep: SiteSweep, site: Site, cells: Sequence[Cell], states: StoredStates, positions: str
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return relative change and touched positions `[cell, sample]`, and the positions that may change `[sample]`."""
    edits = sweep.builders[site].batch(cells)
    samples = sum(len(batch.rows) for batch, _ in states.parts)
    change, touched = np.zeros((len(cells), samples)), np.zeros((len(cells), samples), dtype=np.int64)
    allowed = np.zeros(samples, dtype=np.int64)
    with torch.no_grad():
        for batch, stored in states.parts:
            mask = edit_mask(batch.inputs["attention_mask"] != 0, prompt_mask(batch.inputs), positions)
            hidden = stored[None]
            tokens = Tokens.of(batch.inputs, causal=is_causal(model))
            added = (run_edit(edits, hidden, mask, tokens).float() - hidden.float()).norm(
                dim=-1
            )  # [cell, sample, position]
            before = (hidden.float().norm(dim=-1) * mask).norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
            change[:, batch.rows] = (added.norm(dim=-1) / before).numpy()
            touched[:, batch.rows] = (added > 0).sum(-1).numpy()
            allowed[batch.rows] = mask.sum(-1).numpy()
    return change, touched, allowed
