"""A chart of one neuron: the values it takes for a concept and for the others, and the concept's range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuronlens.config.extras import to_install
from neuronlens.errors import ConfigError, SiteError
from neuronlens.lens.cells import CellKnobs, Cells
from neuronlens.lens.tables import bounds_of, with_range

if TYPE_CHECKING:
    from neuronlens.report.page.charts import Layered


def plot(cells: Cells, concept: str, neuron: int, knobs: CellKnobs) -> Layered:
    """Return the chart of a neuron's fit values, as shares per bin, with the concept's range shaded.

    Raises:
        ConfigError: altair is not installed, an unknown concept or knob, or no such neuron.
        SiteError: several sites were fitted and none is named.
    """
    missing = to_install("lens.plot", "report")
    if missing:
        raise ConfigError(f"{missing}.")
    from neuronlens.report.neuron_chart import neuron_chart

    cell, builders = cells.builders(concept, with_range(cells, knobs))
    if len(builders) > 1:
        raise SiteError(f"The lens has {', '.join(map(str, builders))}. Next: lens.plot(..., layer=<one of them>).")
    ((site, builder),) = builders.items()
    found = builder.fits["none"].activations
    count = found.values.shape[1]
    if isinstance(neuron, bool) or not isinstance(neuron, (int, np.integer)) or not 0 <= neuron < count:
        raise ConfigError(f"neuron is {neuron!r}, expected 0 to {count - 1}, a neuron of {site}.")
    lower, upper = bounds_of(cell, builder)
    title = f"{concept}: neuron {neuron} at {site}"
    bounds = np.stack([lower[:, neuron], upper[:, neuron]], axis=1)
    return neuron_chart(found.values[:, neuron], found.labels == cell[1], bounds, concept=concept, title=title)
