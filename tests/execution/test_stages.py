"""What a run prints from its start to its end: on a terminal, in a pipe, and where it is quiet."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from neuronlens.config.compose import compose
from neuronlens.execution.stages import Stages
from neuronlens.execution.trainer import make_trainer
from neuronlens.pipeline import run
from neuronlens.records import Job, ResultTable
from neuronlens.report.conclusion import conclusion, worth_opening
from neuronlens.results.folder import RunFolder

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\r]")
CODE = "from neuronlens.cli import main; main()"


def test_colours_forced_on_a_log_bring_no_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    stages = Stages()
    assert stages.lines.console.is_terminal  # what rich makes of it
    with stages("sweep"):
        pass
    assert "\x1b[?25l" not in capsys.readouterr().err


def test_lightning_draws_no_bar_of_its_own() -> None:
    trainer = make_trainer(compose(["trainer=cpu"]).trainer, "sweep")
    assert trainer.progress_bar_callback is None
    assert any(type(callback).__name__ == "StageProgress" for callback in trainer.callbacks)  # type: ignore[attr-defined]


def test_every_forward_of_a_run_is_counted_once(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = [entry for entry in tiny_overrides if not entry.startswith("paths.cache_dir")]
    table = run(compose([*cache, f"paths.cache_dir={tmp_path}/cache", "sweep.layers=[0,last]"]), tmp_path / "run")
    said = dict(re.findall(r"(?m)^(\w[\w ]*?) +[\d.]+ s(.*)$", capsys.readouterr().err))
    assert re.match(r"  1 batch, [\d,.]+ batches/s; 160 samples, [\d,.]+ samples/s; 200 steps, ", said["model"])
    assert said["activations"].startswith("  140 samples")  # 4 x (15 fit + 5 select + 15 test)
    assert table.doses is not None
    cells = int((table.rows["edit"] != "none").sum()) + len(table.doses)
    assert said["sweep"].startswith(f"  {cells} cells")


def test_quiet_prints_warnings_alone_and_the_folder_is_the_same(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a script that sets up no logging
    run(compose([*tiny_overrides, "quiet=true"]), tmp_path / "run")
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "run" / "table.md").is_file()
    untrained = [entry for entry in tiny_overrides if not entry.startswith("model.finetune")]
    run(compose([*untrained, "quiet=true"]), tmp_path / "untrained")
    said = capsys.readouterr()
    assert said.out == ""
    assert "near chance" in said.err
    assert len(said.err.splitlines()) == 1  # one warning is one line, however long


def _conclude(
    stages: Stages, table: ResultTable, folder: Path, notes: Mapping[str, str], job: Job | None = None
) -> None:
    stages.show(*conclusion(table, compose(["evaluation.bootstrap=0"]), job))
    stages.show_paths(worth_opening(folder) | dict(notes))


def test_the_end_names_the_paths_worth_opening_those_that_are_there(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose([*tiny_overrides, "quiet=true"]), tmp_path / "run")
    table = RunFolder(tmp_path / "run").read_results()
    (tmp_path / "run" / "report.html").unlink(missing_ok=True)
    _conclude(Stages(), table, tmp_path / "run", {})
    without = capsys.readouterr().out
    (tmp_path / "run" / "report.html").write_text("<p>a page</p>")
    job = Job(2, ("layers=all",), "m")
    _conclude(Stages(job=job), table, tmp_path / "run", {"wandb sync here": "sends it"}, job)
    told = capsys.readouterr().out
    for name in ("table.md", "figures/tradeoff.png"):
        assert f"{tmp_path / 'run' / name}  " in without
        assert f"{tmp_path / 'run' / name}  " in told
    assert "report.html" not in without
    assert f"{tmp_path / 'run' / 'report.html'}  " in told
    assert "wandb sync here  sends it" in told
    assert "#2 layers=all ──" in told
    assert "#2" not in without


def _environment() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110", "LINES": "40"}


@pytest.mark.slow
def test_a_pipe_gets_lines_without_control_characters(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = ["run", *tiny_overrides, "trainer.progress=true", f"paths.output_dir={tmp_path}", "logger=wandb"]
    command = [sys.executable, "-c", CODE, *overrides]
    left_over = {"WANDB_SERVICE": f"3-1-unix-{tmp_path}/socket"}  # of a process that has ended: the run starts its own
    environment = _environment() | left_over
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert not CONTROL.search(done.stdout), done.stdout
    assert not CONTROL.search(done.stderr), done.stderr
    stages = [line.split("  ")[0] for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert stages == [
        *(
            "model files",
            "data",
            "model",
            "admission",
            "activations",
            "ranking and ranges",
            "sweep",
            "measures",
            "report",
            "logging",
        )
    ]
    assert "wandb sync" in done.stdout
    assert "wandb:" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_terminal_gets_bars_that_are_gone_at_the_end(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = ["run", *tiny_overrides, "trainer.progress=true", f"paths.output_dir={tmp_path}"]
    parent, child = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-c", CODE, *overrides], stdout=child, stderr=child, stdin=child, env=_environment()
    )
    os.close(child)
    pieces = []
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(parent)
    assert running.wait() == 0
    seen = b"".join(pieces).decode()
    assert "\x1b[?25l" in seen  # a live display
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h")
    left = _screen(seen)
    assert not any("⠋" in line or "━━━━━━━━━━━━━━━━━━━━━━━━ " in line for line in left), left
    assert sum(line.startswith(("model  ", "activations  ", "sweep  ", "report  ")) for line in left) == 4


def _screen(text: str) -> list[str]:
    """Return what a terminal shows in the end: lines, with the few control sequences that rich writes carried out."""
    rows: list[str] = [""]
    at = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\r":
            column = 0
        elif token == "\n":
            at, column = at + 1, 0
            rows += [""] * (at + 1 - len(rows))
        elif token.startswith("\x1b["):
            number = int(re.sub(r"\D", "", token) or 1)
            if token.endswith("A"):
                at -= number
            elif token.endswith("K"):
                rows[at] = ""
        else:
            rows[at] = rows[at][:column] + token + rows[at][column + len(token) :]
            column += len(token)
    return rows
