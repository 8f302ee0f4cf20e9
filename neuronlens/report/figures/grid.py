"""Figures of many panels: wrapped into rows, and never larger than a viewer opens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

DPI = 150
LARGEST = 6000 / DPI
"""Inches of a figure's longer side, at most: 6,000 px."""
USUAL_WIDTH = 26.0
"""Inches that panels fill beside each other before they wrap."""
SMALLEST = 0.6
"""To what share of its size a panel shrinks before panels are left out."""


@dataclass(frozen=True)
class Grid:
    """Where the panels of a figure stand.

    Attributes:
        columns, rows: how many.
        width, height: of one panel, inches.
        kept: which panels are shown, in their order.
        left_out: how many are not.
    """

    columns: int
    rows: int
    width: float
    height: float
    kept: tuple[int, ...]
    left_out: int

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure, inches."""
        return self.columns * self.width, self.rows * self.height

    def note(self, what: str, where: str) -> str:
        """Return what a title says of panels that are left out; nothing where all are shown."""
        total = len(self.kept) + self.left_out
        return f"{len(self.kept)} of {total} {what} shown, at even steps; all stand in {where}" if self.left_out else ""


def grid(panels: int, width: float, height: float) -> Grid:
    """Return how panels are wrapped so that the figure stays within `LARGEST` on both sides.

    As many as `USUAL_WIDTH` holds stand beside each other, more where the figure would be too tall; then panels shrink to
    `SMALLEST` of their size, and what still does not fit is left out at even steps, the last one kept.

    Args:
        panels: how many there are.
        width, height: of one panel, inches.

    >>> found = grid(96, 5.0, 3.6)
    >>> found.columns, found.rows, bool(max(found.size) <= LARGEST), found.left_out
    (8, 12, True, 0)
    """
    panels = max(panels, 1)
    for share in np.linspace(1.0, SMALLEST, 9):
        wide, tall = min(width * share, LARGEST), min(height * share, LARGEST)
        most_columns, most_rows = int(LARGEST / wide + 1e-9), int(LARGEST / tall + 1e-9)
        columns = min(panels, max(int(USUAL_WIDTH / wide), 1, -(-panels // most_rows)), most_columns)
        if columns * most_rows >= panels:
            return Grid(columns, -(-panels // columns), wide, tall, tuple(range(panels)), 0)
    kept = np.unique(np.linspace(0, panels - 1, most_columns * most_rows).round().astype(int)).tolist()
    return Grid(most_columns, -(-len(kept) // most_columns), wide, tall, tuple(kept), panels - len(kept))


def titled(figure: Figure, *lines: str) -> None:
    """Put the lines that hold anything over a figure."""
    text = "\n".join(line for line in lines if line)
    if text:
        figure.suptitle(text, fontsize=10)
