"""A process that is asked to stop closes its files and says so with the signal's exit code, also in Lightning's loops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neuronlens.execution.signals import Stopped, stoppable

CODE = """
import os, signal, sys, torch, pytorch_lightning as pl
from neuronlens import cli
from neuronlens.models import finetune
def stop(self, *arguments):
    os.kill(os.getpid(), signal.{name})
    return torch.zeros((), requires_grad=True)
where, words = sys.argv[1], sys.argv[2:]
import neuronlens.pipeline
from neuronlens.execution.trainer import StageProgress
setattr(StageProgress, where, stop)
sys.argv = ["neuronlens", "run", *words]
cli.main()
"""


@pytest.mark.parametrize(
    ("name", "code", "where"),
    [
        ("SIGTERM", 143, "on_train_batch_end"),
        ("SIGINT", 130, "on_train_batch_end"),
        ("SIGTERM", 143, "on_predict_batch_end"),
        ("SIGINT", 130, "on_predict_batch_end"),
    ],
)
def test_a_signal_in_a_stage_of_lightning_ends_with_its_code(
    name: str, code: int, where: str, tiny_overrides: list[str], tmp_path: Path
) -> None:
    words = [*tiny_overrides, f"paths.output_dir={tmp_path}/outputs", f"paths.cache_dir={tmp_path}/cache"]
    command = [sys.executable, "-c", CODE.format(name=name), where, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Next: the same command goes on from there, or neuronlens run --resume " in done.stderr
    assert not list((tmp_path / "cache" / "finetuned").glob("*/manifest.json")) or where == "on_predict_batch_end"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_handlers_are_put_back(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, stoppable():
        os.kill(os.getpid(), number)
    assert caught.value.code == code
    assert signal.getsignal(number) is before
