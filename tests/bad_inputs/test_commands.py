"""Forty rows of the table by the real command, each in a process of its own; and that none of them imports torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_inputs.table import CONFIG, DATA, MODELS, Row
from tests.bad_inputs.test_bad_inputs import held_to, set_up, words_of

CHOSEN = [*CONFIG[::11], *DATA[::2], *MODELS[::2]]
LIGHT = (
    "import sys; from neuronlens.cli import run_command; code = run_command(sys.argv[1:]);"
    "assert not {'torch', 'transformers', 'pytorch_lightning', 'datasets'} & set(sys.modules); sys.exit(code)"
)


@pytest.mark.slow
@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: f"{row.scene} {row.typed}".strip()[:80])
def test_the_command_refuses_it_without_torch(
    row: Row, dataset_folder: Path, model_folder: Path, tmp_path: Path
) -> None:
    places = set_up(row, dataset_folder, model_folder, tmp_path)
    command = [sys.executable, "-c", LIGHT, *words_of(row, places)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=places["here"], env=environment)
    assert done.returncode == row.code, done.stderr
    held_to(row, done.stderr, places)


def test_forty_rows_are_tried() -> None:
    assert len(CHOSEN) >= 40
