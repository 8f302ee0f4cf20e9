"""Runs of the command in processes of their own that end at a moment that is counted, not timed: the same in every run."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRELOADED = ["neuronlens.pipeline", "neuronlens.launch", "neuronlens.cli", "tests.faults"]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (minus the signal's number where one killed it), its words, its moments."""

    code: int
    said: str
    moments: int


def run_in_a_process(words: Sequence[str], folder: Path, *, fault: str = "none", at: int = 0) -> Ended:
    """Run a command line and let a fault happen at its `at`-th moment, counted from 1.

    Args:
        folder: holds the process's output.
        fault: the name of a signal, or `ENOSPC` for a disk that is full from there on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_child, args=(list(words), folder, fault, at))
    process.start()
    process.join()
    assert process.exitcode is not None
    counted = folder / "moments"
    moments = int(counted.read_text()) if counted.is_file() else 0
    return Ended(process.exitcode, (folder / "said").read_text(), moments)


def _child(words: list[str], folder: Path, fault: str, at: int) -> None:
    import torch

    from neuronlens.cli import run_command

    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(said), "w", buffering=1) for _ in range(2))
    logging.raiseExceptions = False
    torch.set_num_threads(1)
    moments = _Moments(fault, at)
    moments.watch()
    code = run_command(words)
    (folder / "moments").write_text(str(moments.count))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Moments:
    """Counts batches, files that are put in place and files that are written, each before and after it happens."""

    def __init__(self, fault: str, at: int) -> None:
        self.fault, self.at, self.count, self.full = fault, at, 0, False

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self.at:
            if self.fault == "ENOSPC":
                self.full = True
            elif self.fault != "none":
                os.kill(os.getpid(), getattr(signal, self.fault))

    def watch(self) -> None:
        from neuronlens.execution.trainer import StageProgress
        from neuronlens.sweep import evaluator

        evaluator.FORWARDS, evaluator.FORWARDS_PER_BATCH = 1, 1  # so that a tiny sweep has many parts
        for owner, name in (
            *((StageProgress, name) for name in ("on_predict_batch_end", "on_train_batch_end", "on_train_end")),
            *((pathlib.Path, name) for name in ("replace", "rename")),
        ):
            setattr(owner, name, self._counted(getattr(owner, name)))
        fsync = os.fsync

        def refused(handle: int) -> None:
            if self.full:
                raise OSError(28, os.strerror(28))
            fsync(handle)

        os.fsync = self._counted(refused)

    def _counted(self, what: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.pass_one()
            found = what(*arguments, **options)
            self.pass_one()
            return found

        return watched
