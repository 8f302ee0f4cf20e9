"""Keeps fine-tuning after every epoch, so that a run that was stopped or killed goes on from the last whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from neuronlens.execution.signals import stop_here
from neuronlens.storage.cache import Store

STAGE = "finetuning"
FILE = "epoch.ckpt"
DRAWS = "neuronlens_draws"
"""Key of a checkpoint that holds the states of the random generators."""


class Epochs:
    """The epochs of one fine-tuning that are kept: the last whole one, until the trained model is."""

    def __init__(self, store: Store, key: str) -> None:
        """Keep in `store` under the trained model's fingerprint."""
        self.store, self.key = store, key

    def latest(self) -> tuple[int, Path] | None:
        """Return how many epochs are done and their checkpoint; None where there is none, or none that is whole."""
        for done, name in sorted(self._kept(), reverse=True):
            folder = self.store.found(STAGE, name)
            if folder is not None:
                return done, folder / FILE
        return None

    def keep(self, done: int, trainer: pl.Trainer) -> None:
        """Keep the state after some epochs, and forget the one before.

        Raises:
            OutputError: the cache cannot be written.
        """
        before = self._kept()
        with self.store.writing(STAGE, f"{self.key}-epoch-{done}", {"epochs": done}) as folder:
            trainer.save_checkpoint(folder / FILE)
        for _, name in before:
            self.store.forget(STAGE, name)

    def forget(self) -> None:
        """Take away what is kept: the trained model is there."""
        for _, name in self._kept():
            self.store.forget(STAGE, name)

    def _kept(self) -> list[tuple[int, str]]:
        folders = self.store.folder(STAGE, self.key).parent.glob(f"{self.key}-epoch-*")
        return [(int(folder.name.rpartition("-")[2]), folder.name) for folder in folders]


class EveryEpoch(pl.Callback):
    """Keeps a training after each epoch but the last, with the generators, so that the next one draws what it would have.

    A signal stops training after the step that is running.
    """

    def __init__(self, epochs: Epochs, order: torch.Generator) -> None:
        """Keep into `epochs`.

        Args:
            order: draws the order of the samples.
        """
        self.epochs, self.order = epochs, order
        self._drawn: dict[str, Any] | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any, **options: Any) -> None:
        """Stop here, if the process was asked to."""
        stop_here()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the generators back where the epoch before left them."""
        if self._drawn is not None:
            torch.set_rng_state(self._drawn["torch"])
            for device, state in enumerate(self._drawn["cuda"]):
                torch.cuda.set_rng_state(state, device)
            self._drawn = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what was trained so far."""
        done = trainer.current_epoch + 1
        if done < (trainer.max_epochs or 0):
            self.epochs.keep(done, trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the generators' states to a checkpoint."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        checkpoint[DRAWS] = {"order": self.order.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the generators' states out of a checkpoint."""
        self._drawn = checkpoint[DRAWS]
        self.order.set_state(self._drawn["order"])
