"""NeuronLens: edit what a neuron says in a range, and measure what it costs everything else."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ActivationRanges": "neuronlens.records",
    "ActivationSet": "neuronlens.records",
    "Bootstrap": "neuronlens.measures.intervals",
    "Column": "neuronlens.report.table",
    "ConceptDataset": "neuronlens.records",
    "ConceptLens": "neuronlens.lens.lens",
    "GatedEdit": "neuronlens.edits.gated",
    "NeuronLensError": "neuronlens.errors",
    "NeuronRanking": "neuronlens.records",
    "ResultTable": "neuronlens.records",
    "RESULTS": "neuronlens.measures.columns",
    "RunFolder": "neuronlens.results.folder",
    "Site": "neuronlens.records",
    "Table": "neuronlens.report.table",
    "capture": "neuronlens.hooks.contexts",
    "compose": "neuronlens.config.compose",
    "edited": "neuronlens.hooks.contexts",
    "run": "neuronlens.pipeline",
    "write_claims": "neuronlens.report.claims.claims",
    "write_table": "neuronlens.report.render.files",
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """Import a public name's home when it is first used, so that `import neuronlens` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'neuronlens' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
