"""Whether the files of a run folder are what the run wrote: held against the checksums of its manifest before they are used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from neuronlens.errors import NeuronLensError, OutputError
from neuronlens.results.claim import TABLES
from neuronlens.storage.checksums import broken, checksum

RESULT_FILES = (*(f"{name}.parquet" for name in TABLES), "base.json")
FITTED_FILES = (
    "ranking.safetensors",
    "ranges.safetensors",
    "neurons.safetensors",
    "ranges.json",
    "activations.safetensors",
)
KEPT = (*RESULT_FILES, *FITTED_FILES, "samples.parquet")
"""What is written once; tables, page and figures for people are drawn again from it."""


def checksums_of_run(folder: Path) -> dict[str, str]:
    """Return the hash of each file of a run that others are drawn from."""
    return {name: checksum(folder / name) for name in KEPT if (folder / name).is_file()}


@contextmanager
def intact(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Let files of a finished run be read in the block, if they are what the run wrote.

    Runs of older versions have no checksums: what cannot be read of them is refused all the same.

    Raises:
        OutputError: a file is gone, cut or changed, or its content is not that of a run.
    """
    try:
        kept = json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("checksums") or {}
    except (OSError, ValueError, AttributeError):
        kept = {}
    reason = (
        broken(folder, {name: str(kept[name]) for name in names if name in kept}) if isinstance(kept, dict) else None
    )
    if reason is not None:
        raise OutputError(
            f"'{folder}' is not as its run left it: {reason}. Next: copy the folder again, or neuronlens run once more."
        )
    try:
        yield
    except NeuronLensError:
        raise
    except Exception as error:  # readers of parquet, JSON and safetensors raise what they like of a broken file
        missing = [name for name in names if not (folder / name).is_file()]
        why = (
            f"{missing[0]} is not there"
            if missing and isinstance(error, (OSError, KeyError))
            else " ".join(str(error).split())
        )
        raise OutputError(
            f"'{folder}' is not the folder of a finished run: {why[:200]}. Expected what neuronlens run writes. Next: copy the "
            "folder again, or neuronlens run once more."
        ) from error
