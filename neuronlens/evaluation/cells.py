"""The grid of a sweep: which knobs are combined, and which cells one layer's sweep holds."""

from __future__ import annotations

import itertools

from neuronlens.edits.build import Knobs
from neuronlens.schema import Config, swept


def grid(config: Config, range_name: str) -> list[Knobs]:
    """Return every combination of the swept knobs, each once; the neuron gate has no range and no tau."""
    if config.intervention.top_count is not None and config.sweep.top_fraction is None:
        selections: list[tuple[float | None, int | None]] = [(None, config.intervention.top_count)]
    else:
        selections = [(float(fraction), None) for fraction in swept(config, "top_fraction")]
    combined = []
    for gate, edit, strength, (fraction, count) in itertools.product(
        swept(config, "gate"), swept(config, "edit"), swept(config, "strength"), selections
    ):
        for tau in swept(config, "tau") if gate != "neuron" else [None]:
            width = None if tau is None else float(tau)
            combined.append(
                Knobs(
                    top_fraction=fraction,
                    top_count=count,
                    range=None if gate == "neuron" else range_name,
                    tau=width,
                    gate=gate,
                    edit=edit,
                    strength=float(strength),
                )
            )
    return list(dict.fromkeys(combined))
