"""Writes a run for TensorBoard: `tensorboard/` in the run folder."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from neuronlens.config.fingerprint import plain
from neuronlens.config.schema import Config
from neuronlens.tracking.destination import Bundle
from neuronlens.tracking.scalars import Step

STEPS_PER_UNIT = {"stage": 1, "neurons": 1, "strength": 100}
"""TensorBoard's steps are whole numbers: a strength of 0.5 is step 50."""
MOST_ROWS = 500
"""Of a table that is shown as text."""


class TensorBoardFiles:
    """Scalars by dose, hyperparameters with the headline numbers, figures as images, tables as text."""

    def __init__(self, config: Config, folder: Path) -> None:
        """Write below a run folder."""
        self.config, self.folder = config, folder / "tensorboard"
        self.notes = {
            f"tensorboard --logdir {shlex.quote(str(self.folder))}": "shows this run; --logdir outputs shows them all"
        }

    def start(self) -> None:
        """Open the event file."""
        self.writer = SummaryWriter(str(self.folder))

    def log_step(self, step: Step) -> None:
        """Write numbers at one point of an axis."""
        at = round(step.at * STEPS_PER_UNIT[step.axis])
        for name, value in step.values.items():
            self.writer.add_scalar(name, value, at)
        self.writer.flush()

    def log_message(self, message: str) -> None:
        """Write the run's message as text."""
        self.writer.add_text("message", message)

    def log_flat(self, values: Mapping[str, float], chosen: Mapping[str, float]) -> None:
        """Write the run's numbers at step 0, and its configuration beside the chosen ones in the HParams tab."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, 0)
        for summary in hparams(dict(_flat(plain(self.config))), dict(chosen)):
            self.writer._get_file_writer().add_summary(summary)

    def log_tables(self, tables: Mapping[str, pd.DataFrame], means: pd.DataFrame) -> None:
        """Write tables as Markdown; past `MOST_ROWS` rows, which would be no use to read, only how many there are."""
        for name, table in {**tables, "tradeoff": means}.items():
            self.writer.add_text(f"tables/{name}", _markdown(table, name))

    def log_figures(self, figures: Sequence[Path], page: Path | None) -> None:
        """Write figures as images."""
        for path in figures:
            with Image.open(path) as image:
                self.writer.add_image(f"figures/{path.stem}", np.asarray(image.convert("RGB")), dataformats="HWC")

    def log_files(self, bundles: Sequence[Bundle]) -> None:
        """Leave files to the run folder."""

    def finish(self, exit_code: int) -> None:
        """Write how the run ended, and close the event file."""
        self.writer.add_scalar("exit_code", exit_code, 0)
        self.writer.close()


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, str | float | bool]]:
    """Give a nested configuration as `group.key` and value; what is no scalar as text."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _flat(child, f"{prefix}.{key}" if prefix else str(key))
    elif node is not None:
        yield prefix, node if isinstance(node, (bool, int, float, str)) else str(node)


def _markdown(table: pd.DataFrame, name: str) -> str:
    if len(table) > MOST_ROWS:
        return f"{len(table)} rows of {len(table.columns)} columns, in `{name}.parquet` of the run folder."
    shown = [
        ["" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns), *shown]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
