"""Fits under the labels that a control asks for, beside those under the true ones."""

from __future__ import annotations

from collections.abc import Mapping

from neuronlens.config.knobs import everywhere
from neuronlens.config.schema import Config
from neuronlens.edits.fitting import Fitted, fit_site, shuffled_labels
from neuronlens.records import Site


def with_controls(config: Config, fitted: Mapping[Site, Fitted]) -> dict[str, Mapping[Site, Fitted]]:
    """Return fits by control: under the true labels, and under shuffled ones where that control is asked for."""
    fits: dict[str, Mapping[Site, Fitted]] = {"none": fitted}
    if "shuffled_labels" in everywhere(config, "control"):
        fits["shuffled_labels"] = {
            site: fit_site(config, shuffled_labels(found.activations, config.seed)) for site, found in fitted.items()
        }
    return fits
