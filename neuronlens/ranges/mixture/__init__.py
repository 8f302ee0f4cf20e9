"""Ranges from a Gaussian mixture per (concept, neuron)."""

from neuronlens.ranges.mixture.estimator import MixtureRange

__all__ = ["MixtureRange"]
