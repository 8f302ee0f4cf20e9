"""Which salient neurons of which concepts lie in their range at each token of a text: a table and a coloured strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch

from neuronlens.errors import DataError
from neuronlens.hooks.contexts import capture
from neuronlens.hooks.replay import run_body
from neuronlens.hooks.takes import takes_positions
from neuronlens.hooks.wrapped import device_of
from neuronlens.lens.cells import CellKnobs, Cells
from neuronlens.lens.tables import bounds_of, with_range
from neuronlens.models.batches import collate
from neuronlens.models.in_hand import evaluating
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import FloatArray, IntArray, Site

if TYPE_CHECKING:
    import pandas as pd

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#332288", "#999999")
"""Okabe and Ito's palette and two more, which colour-blind readers can tell apart; used again after the last."""


@dataclass(frozen=True)
class Fired:
    """One concept's salient neurons at one site, over the tokens of a text.

    Attributes:
        neurons: the salient ones, best first `[neuron]`.
        values: their activations `[token, neuron]`.
        inside: the interval that each lies in, -1 for none `[token, neuron]`.
        lower, upper: bounds `[interval, neuron]`.
    """

    neurons: IntArray
    values: FloatArray
    inside: IntArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True)
class Explanation:
    """What a lens sees in a text. In a notebook it shows as a coloured strip.

    Attributes:
        tokens: as the model reads them, the prompt included.
        concepts: in the order of the columns of `shares`.
        shares: share of a concept's salient neurons, over all sites, that lie in its range `[token, concept]`.
        fired: by concept and site.
    """

    tokens: tuple[str, ...]
    concepts: tuple[str, ...]
    shares: FloatArray
    fired: Mapping[tuple[str, Site], Fired]

    def table(self) -> pd.DataFrame:
        """Return a row for each (token, concept, site, salient neuron) whose value lies in the concept's range.

        Columns: `position`, `token`, `concept`, `site`, `layer`, `neuron`, `value`, `low`, `high`.
        """
        import pandas as pd

        parts = []
        for (concept, site), found in self.fired.items():
            token, place = np.nonzero(found.inside >= 0)
            interval, own = found.inside[token, place], found.neurons[place]
            parts.append(
                pd.DataFrame(
                    {
                        "position": token,
                        "token": np.array(self.tokens, dtype=object)[token],
                        "concept": concept,
                        "site": str(site),
                        "layer": site.layer,
                        "neuron": own,
                        "value": found.values[token, place],
                        "low": found.lower[interval, own],
                        "high": found.upper[interval, own],
                    }
                )
            )
        return pd.concat(parts, ignore_index=True).sort_values("position", kind="stable", ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """Return the shares as a table with a row per token and a column per concept."""
        import pandas as pd

        table = pd.DataFrame(self.shares, columns=list(self.concepts))
        table.insert(0, "token", list(self.tokens))
        return table

    def __str__(self) -> str:
        """Return a line per token: the concepts by the share of their salient neurons that lie in range, largest first."""
        width = max(len(token) for token in self.tokens)
        lines = []
        for token, row in zip(self.tokens, self.shares, strict=True):
            order = np.argsort(-row, kind="stable")[:3]
            lines.append(f"{token:<{width}}  " + "  ".join(f"{self.concepts[one]} {row[one]:.0%}" for one in order))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the strip: each token in the colour of the concept most of whose salient neurons lie in range.

        A token is the stronger coloured the further this concept's share is above the mean of the others'; hover over it
        for the shares. All text is escaped.
        """
        colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(self.concepts)}
        spans = []
        for token, row in zip(self.tokens, self.shares, strict=True):
            best = int(np.argmax(row))
            others = np.delete(row, best)
            strength = float(np.clip(row[best] - others.mean(), 0, 1)) if len(others) else float(row[best])
            title = ", ".join(f"{name} {share:.0%}" for name, share in zip(self.concepts, row, strict=True))
            alpha = f"{round(255 * (0.1 + 0.6 * strength)):02x}"
            spans.append(
                f'<span title="{escape(title)}" style="background:{colours[self.concepts[best]]}{alpha};'
                f'padding:1px 3px;margin:1px;border-radius:3px">{escape(token)}</span>'
            )
        key = " ".join(
            f'<span style="border-bottom:3px solid {colour}">{escape(name)}</span>' for name, colour in colours.items()
        )
        return f'<div style="line-height:2">{"".join(spans)}</div><div style="font-size:85%">{key}</div>'


def explain(cells: Cells, loaded: LoadedModel, text: str, concepts: Sequence[str], knobs: CellKnobs) -> Explanation:
    """Return which salient neurons of which concepts lie in their range at each token of a text.

    Ranges were fitted at the recorded position, one vector per text: at other tokens they are used beyond what they were
    fitted on.

    Args:
        knobs: of the cell whose range and salient neurons count; the lens's own where none is given.

    Raises:
        DataError: no text.
        ConfigError: an unknown concept or knob.
        ActivationError: a concept's range could not be fitted.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError("lens.explain got no text. Expected one text.")
    wanted = with_range(cells, knobs)
    built = {concept: cells.builders(concept, wanted) for concept in concepts}
    sites = list(next(iter(built.values()))[1])
    (ids,) = loaded.encode([text])
    states = _states(loaded, ids, sites)
    fired = {}
    shares = np.zeros((len(ids), len(concepts)))
    for number, (concept, (cell, builders)) in enumerate(built.items()):
        for site, builder in builders.items():
            lower, upper = bounds_of(cell, builder)
            order = builder.fits["none"].rankings[str(cell[0].saliency)].order[cell[1]]
            neurons = order[builder.selected(cell[0])[cell[1], order]]
            values = states[site][:, neurons]
            hits = (values[None] >= lower[:, None, neurons]) & (values[None] <= upper[:, None, neurons])
            inside = np.where(hits.any(axis=0), hits.argmax(axis=0), -1)
            fired[concept, site] = Fired(neurons, values, inside, lower, upper)
        own = [fired[concept, site].inside for site in builders]
        shares[:, number] = (np.concatenate(own, axis=1) >= 0).mean(axis=1)
    tokens = tuple(_readable(loaded, token) for token in ids)
    return Explanation(tokens, tuple(concepts), shares, fired)


def _states(loaded: LoadedModel, ids: Sequence[int], sites: Sequence[Site]) -> dict[Site, FloatArray]:
    """Return the sites' vectors at every token `[token, neuron]`, float32."""
    batch = collate(
        [ids],
        pad_id=loaded.tokenizer.pad_token_id,
        padding_side=loaded.tokenizer.padding_side,
        positions=takes_positions(loaded.model),
    )
    inputs = {name: tensor.to(device_of(loaded.model)) for name, tensor in batch.items()}
    with evaluating(loaded.model), capture(loaded.model, sites) as recorded:
        run_body(loaded.model, inputs, deepest=max(site.layer for site in sites))
    return {site: recorded[site][0].to(torch.float32).cpu().numpy() for site in sites}


def _readable(loaded: LoadedModel, token: int) -> str:
    text = loaded.tokenizer.decode([token])
    return text if text.strip() else repr(text)
