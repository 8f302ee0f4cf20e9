"""Where a run's numbers go besides its folder: W&B, TensorBoard, CSV. The run folder is whole without any of them."""

from neuronlens.tracking.tracker import Tracker

__all__ = ["Tracker"]
