"""What a lens shows of what it knows: tables, charts, texts read with it, and what erasing does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from neuronlens.lens.cells import CellKnobs, Cells
from neuronlens.lens.positions import asked_positions, edited_positions
from neuronlens.storage.files import json_types

if TYPE_CHECKING:
    import pandas as pd

    from neuronlens.lens.explain import Explanation
    from neuronlens.models.loaded import LoadedModel
    from neuronlens.report.page.charts import Layered


class Shown:
    """The half of a lens that reads.

    pandas, altair and what evaluates are imported when they are needed: editing does without.

    Attributes:
        cells: what was fitted per site.
        figures: rows of measures with their intervals, one per concept; see `evaluate`.
        fitting: on which positions it was fitted, as a run's manifest has it.
    """

    cells: Cells
    figures: tuple[Mapping[str, Any], ...]
    fitting: Mapping[str, Any]

    @property
    def loaded(self) -> LoadedModel:
        """The model that texts are read with."""
        raise NotImplementedError

    def ranges(self, concept: str, **knobs: Unpack[CellKnobs]) -> pd.DataFrame:
        """Return a row per neuron and interval of a concept: see `tables.ranges`."""
        from neuronlens.lens.tables import ranges

        return ranges(self.cells, concept, knobs)

    def neurons(self, concept: str, top: int = 20, **knobs: Unpack[CellKnobs]) -> pd.DataFrame:
        """Return the concept's most salient neurons, best first: the rows of `ranges` for them."""
        from neuronlens.lens.tables import neurons

        return neurons(self.cells, concept, top, knobs)

    def overlap(self, **knobs: Unpack[CellKnobs]) -> pd.DataFrame:
        """Return the Jaccard overlap of every two concepts' salient sets `[concept, concept]`."""
        from neuronlens.lens.tables import overlap

        return overlap(self.cells, knobs)

    def plot(self, concept: str, neuron: int, **knobs: Unpack[CellKnobs]) -> Layered:
        """Return a chart of the values that a neuron takes for a concept and for the others, its range shaded."""
        from neuronlens.lens.plot import plot

        return plot(self.cells, concept, neuron, knobs)

    def explain(self, text: str, *, concepts: Sequence[str] = (), **knobs: Unpack[CellKnobs]) -> Explanation:
        """Return which salient neurons of which concepts lie in their range at each token of a text.

        Args:
            concepts: which ones; all of them where none is named.
        """
        from neuronlens.lens.explain import explain

        return explain(self.cells, self.loaded, text, concepts or self.cells.concepts, knobs)

    def evaluate(
        self,
        texts: Sequence[str],
        labels: Sequence[str | int],
        *,
        positions: str | None = None,
        **knobs: Unpack[CellKnobs],
    ) -> pd.DataFrame:
        """Return what erasing each concept does to the model's answers on labelled texts: see `evaluate.evaluate`.

        The rows are kept as the lens's `figures`, and go into its card.

        Args:
            texts: that nothing was fitted on.
            positions: where is edited, as in `erase`.
        """
        from neuronlens.lens.evaluate import evaluate

        asked = asked_positions(self.cells.config, positions, self.fitting)
        where = edited_positions(self.cells.config, self.loaded.model, asked)
        table = evaluate(self.cells, self.loaded, texts, labels, where, knobs)
        self.figures = tuple(json_types(row) for row in table.to_dict("records"))
        return table
