"""The unedited model's figures in words."""

from __future__ import annotations

from collections.abc import Mapping

from neuronlens.measures.intervals import Bootstrap


def accuracy_text(base: Mapping[str, float], bootstrap: Bootstrap) -> str:
    """Return the unedited model's accuracy over all test samples, with its interval where intervals are made.

    >>> accuracy_text({"accuracy": 0.9, "n": 10}, Bootstrap(0.95, 1000, 0))
    '0.900 [0.596, 0.982]'
    >>> accuracy_text({"accuracy": 0.9, "n": 10}, Bootstrap(0.95, 0, 0))
    '0.900'
    """
    found = bootstrap.of_share(round(base["accuracy"] * base["n"]), base["n"])
    return f"{base['accuracy']:.3f}" + (f" [{found.low:.3f}, {found.high:.3f}]" if bootstrap.resamples else "")
