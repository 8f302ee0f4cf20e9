"""Builds the Lightning trainer of a stage: one device, no checkpoints, and the stage's own progress for Lightning's bars."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch

from neuronlens.config.schema import Config
from neuronlens.config.schema_run import TrainerConfig
from neuronlens.errors import ConfigError
from neuronlens.execution.progress import Advance, counting


@runtime_checkable
class CountsWork(Protocol):
    """A module that knows how many units of work its batches are; of others the batches are counted."""

    unit: str

    def work(self) -> float:
        """Return how many units all batches are together."""

    def work_of(self, batch: Any) -> float:
        """Return how many units one batch is."""


class StageProgress(pl.Callback):
    """Counts in the run's progress what a trainer has done, batch by batch."""

    def __init__(self, stage: str) -> None:
        """Count under the name `stage`."""
        self.stage = stage
        self._open = ExitStack()
        self._advance: Advance = lambda amount: None

    def _start(self, total: float, unit: str) -> None:
        self._advance = self._open.enter_context(counting(self.stage, total, unit))

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count forwards."""
        if isinstance(pl_module, CountsWork):
            self._start(pl_module.work(), pl_module.unit)
        else:
            self._start(float(sum(trainer.num_predict_batches)), "batches")

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one forward."""
        self._advance(pl_module.work_of(batch) if isinstance(pl_module, CountsWork) else 1.0)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop counting."""
        self._open.close()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to count optimiser steps."""
        self._start(float(trainer.estimated_stepping_batches), "steps")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count one step."""
        self._advance(1.0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop counting."""
        self._open.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop counting where it was."""
        self._open.close()


def refuse_absent_devices(config: Config) -> None:
    """Refuse a device that the trainer or a part asks for and this machine does not have.

    Raises:
        ConfigError: with the key that names it.
    """
    refuse_absent_device("trainer.accelerator", config.trainer.accelerator)
    for group, options in config.parts.items():
        for node in options.values():
            refuse_absent_device(f"{group}.device", str(node.get("device", "cpu")))


def refuse_absent_device(key: str, device: str) -> None:
    """Refuse a device that this machine does not have.

    Args:
        key: the config entry that names it.

    Raises:
        ConfigError: `gpu`, or `cuda` with or without a number, and torch finds none or fewer.
    """
    kind, _, number = device.partition(":")
    count = torch.cuda.device_count()
    if number and not number.isdigit():
        raise ConfigError(f"{key} is '{device}', expected cpu, cuda or a numbered one as cuda:0.")
    if kind in ("gpu", "cuda") and int(number or 0) >= count:
        there = "no CUDA device was found" if not count else f"{count} CUDA devices were found, counted from 0"
        raise ConfigError(f"{key} is '{device}' and {there}. Next: {key}=cpu.")


def make_trainer(config: TrainerConfig, stage: str, **options: Any) -> pl.Trainer:
    """Return a trainer for one stage.

    Every process runs the whole of its own job on one device; several jobs run in parallel through Hydra's launchers, so
    no result depends on a number of processes.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    refuse_absent_device("trainer.accelerator", config.accelerator)
    on_gpu = torch.cuda.is_available() and config.accelerator != "cpu"
    return pl.Trainer(
        accelerator="gpu" if on_gpu else "cpu",  # moments are float64: no MPS
        devices=[least_loaded()] if on_gpu else 1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[StageProgress(stage)],
        inference_mode=False,  # stored states are trained on; tensors of inference mode could not be
        **options,
    )


@cache
def least_loaded() -> int:
    """Return the visible GPU with the most free memory, the same one as long as the process lives."""
    return max(range(torch.cuda.device_count()), key=lambda device: torch.cuda.mem_get_info(device)[0])


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


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch compute on this many CPU threads in the block; None leaves their number to it."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
