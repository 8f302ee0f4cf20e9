"""Writes and reads the examples that a run used: `samples.parquet`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from neuronlens.errors import OutputError, reason
from neuronlens.records import SPLITS, ConceptDataset, FloatArray, IntArray
from neuronlens.results.tables import write_table


def write_samples(folder: Path, data: ConceptDataset, base: Mapping[str, tuple[IntArray, FloatArray]]) -> None:
    """Write one row per example: id, split, label, text, and what the unedited model predicts.

    Args:
        base: predicted concept index and confidence in the gold one `[sample]`, by split; null where a split is left out.
    """
    frames = []
    for split in SPLITS:
        rows = data.rows(split)
        prediction, confidence = base.get(split, (None, None))
        named = [data.concepts[number] for number in prediction] if prediction is not None else None
        frames.append(
            pd.DataFrame(
                {
                    "id": [data.ids[row] for row in rows],
                    "split": split,
                    "label": [data.concepts[data.labels[row]] for row in rows],
                    "text": [data.texts[row] for row in rows],
                    "base_prediction": pd.Series(named, dtype=object, index=range(len(rows))),
                    "base_confidence": pd.Series(confidence, dtype=float, index=range(len(rows))),
                }
            )
        )
    write_table(folder, "samples", pd.concat([frame for frame in frames if len(frame)], ignore_index=True))


def read_samples(folder: Path, split: str) -> pd.DataFrame:
    """Return id, label and text of one split's examples, in file order.

    Raises:
        OutputError: the folder holds no samples.
    """
    path = folder / "samples.parquet"
    try:
        table = pd.read_parquet(path, columns=["id", "split", "label", "text"], filters=[("split", "==", split)])
    except (OSError, ValueError) as error:
        raise OutputError(f"Cannot read {path}: {reason(error)}. Expected the folder of a finished run.") from error
    return table.drop(columns="split")
