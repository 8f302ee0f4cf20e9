"""Builds the Lightning trainer of a stage: one device, no checkpoints, a progress bar only where someone watches."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar

from neuronlens.errors import ConfigError
from neuronlens.schema import TrainerConfig


class StageProgress(TQDMProgressBar):
    """Lightning's bar under the stage's own name."""

    def __init__(self, stage: str) -> None:
        """Name the bar after `stage`."""
        super().__init__(leave=False)
        self.stage = stage

    @property
    def predict_description(self) -> str:
        """Return the text left of the bar."""
        return self.stage


def make_trainer(config: TrainerConfig, stage: str, **options: Any) -> pl.Trainer:
    """Return a trainer for one stage.

    Every process runs the whole of its own job on one device; several jobs run in parallel through Hydra's launchers, so
    no result depends on a number of processes.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if config.accelerator in ("gpu", "cuda") and not has_gpu:
        raise ConfigError(
            f"trainer.accelerator is '{config.accelerator}' and no CUDA device was found. Next: trainer=cpu."
        )
    watched = config.progress and sys.stderr.isatty()
    return pl.Trainer(
        accelerator="gpu" if has_gpu and config.accelerator != "cpu" else "cpu",  # moments are float64: no MPS
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=watched,
        callbacks=[StageProgress(stage)] if watched else None,
        inference_mode=False,  # stored states are trained on; tensors of inference mode could not be
        **options,
    )


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hold back the banners and tips of Lightning and transformers in the block, and put their levels back after it."""
    import transformers

    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*predict returned None.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
