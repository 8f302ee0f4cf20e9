"""What the process runs on, and what it has used of it."""

from __future__ import annotations

import resource
import sys
from importlib import metadata

from neuronlens.config.schema_run import TrainerConfig

COMPUTING = ("torch", "transformers", "numpy", "scikit-learn")
"""Libraries whose version can change a number."""


def peak_memory_gib() -> float:
    """Return the most memory this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def computed_by(trainer: TrainerConfig) -> dict[str, str]:
    """Return what else than its inputs a computed stage rests on: library versions and the kind of device (TRAPS 23).

    It stands in the keys under which stages are kept, not in the fingerprints of models and cells: the same cell on another
    machine is the same cell.
    """
    import torch  # here, for whoever asks for the memory alone

    on_gpu = torch.cuda.is_available() and trainer.accelerator != "cpu"
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    return {name: metadata.version(name) for name in COMPUTING} | {"device": device}
