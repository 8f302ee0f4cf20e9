"""Runs of the command in processes of their own that end at a moment that is counted, not timed: the same in every run."""

from __future__ import annotations

import json
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
    """How a command ended.

    Attributes:
        code: its exit code, minus the signal's number where one killed it.
        said: what it printed.
        moments: how many it had; 0 of one that was killed.
        work: optimiser steps, batches that were extracted and cells over batches that were swept, by name.
    """

    code: int
    said: str
    moments: int
    work: dict[str, int]


def run_in_a_process(words: Sequence[str], folder: Path, *, fault: str = "none", at: int = 0) -> Ended:
    """Run a command line and let a fault happen at its `at`-th moment, counted from 1.

    Args:
        folder: holds the process's output.
        fault: the name of a signal, or `ENOSPC` for a disk that is full from there on.
    """
    return run_at_once([words], folder, fault=fault, at=at)[0]


def run_at_once(several: Sequence[Sequence[str]], folder: Path, *, fault: str = "none", at: int = 0) -> list[Ended]:
    """Run command lines at the same time, as `run_in_a_process` does one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    folders = [folder / f"process{number}" for number in range(len(several))]
    for own in folders:
        own.mkdir(parents=True, exist_ok=True)
        (own / "counted.json").unlink(missing_ok=True)
    processes = [
        context.Process(target=_child, args=(list(words), own, fault, at))
        for words, own in zip(several, folders, strict=True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [_ended(process.exitcode, own) for process, own in zip(processes, folders, strict=True)]


def _ended(code: int | None, folder: Path) -> Ended:
    assert code is not None
    file = folder / "counted.json"
    counted = json.loads(file.read_text()) if file.is_file() else {"moments": 0, "work": {}}
    return Ended(code, (folder / "said").read_text(), **counted)


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
    (folder / "counted.json").write_text(json.dumps({"moments": moments.count, "work": moments.work}))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Moments:
    """Counts batches, files that are put in place and files that are written, each before and after it happens."""

    def __init__(self, fault: str, at: int) -> None:
        self.fault, self.at, self.count, self.full = fault, at, 0, False
        self.work: dict[str, int] = {}

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self.at:
            if self.fault == "ENOSPC":
                self.full = True
            elif self.fault != "none":
                os.kill(os.getpid(), getattr(signal, self.fault))

    def watch(self) -> None:
        from neuronlens.activations.extract import ActivationExtractor
        from neuronlens.execution.trainer import StageProgress
        from neuronlens.models.finetune import TopBlocks
        from neuronlens.sweep import evaluator
        from neuronlens.sweep.evaluator import SweepEvaluator

        evaluator.FORWARDS, evaluator.FORWARDS_PER_BATCH = 1, 1  # so that a tiny sweep has many parts
        for owner, name in (
            *((StageProgress, name) for name in ("on_predict_batch_end", "on_train_batch_end", "on_train_end")),
            *((pathlib.Path, name) for name in ("replace", "rename")),
        ):
            setattr(owner, name, self._counted(getattr(owner, name)))
        self._add_up(TopBlocks, "training_step", lambda *arguments: 1)
        self._add_up(ActivationExtractor, "predict_step", lambda *arguments: 1)
        self._add_up(SweepEvaluator, "keep", lambda item, edits: len(item.cells))
        fsync = os.fsync

        def refused(handle: int) -> None:
            if self.full:
                raise OSError(28, os.strerror(28))
            fsync(handle)

        os.fsync = self._counted(refused)

    def _add_up(self, owner: type, name: str, worth: Callable[..., int]) -> None:
        what = getattr(owner, name)

        def watched(module: Any, *arguments: Any) -> Any:
            self.work[owner.__name__] = self.work.get(owner.__name__, 0) + worth(*arguments)
            return what(module, *arguments)

        setattr(owner, name, watched)

    def _counted(self, what: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.pass_one()
            found = what(*arguments, **options)
            self.pass_one()
            return found

        return watched
