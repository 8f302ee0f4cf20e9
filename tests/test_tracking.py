"""W&B offline: what a run leaves behind, read back; and nothing at all with logger=csv."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from neuronlens.config import compose
from neuronlens.pipeline import run
from neuronlens.tracking import Tracker


@pytest.mark.slow
def test_an_offline_run_holds_config_results_chart_and_timings(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    overrides = [entry for entry in tiny_overrides if entry != "logger=csv"]
    run(compose([*overrides, "logger=wandb", "logger.group=g", "logger.tags=[t]"]), tmp_path / "run")
    (offline,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    (log,) = offline.glob("run-*.wandb")
    content = log.read_bytes()
    for part in (b"results", b"tradeoff", b"timing/sweep_s", b"top_fraction", b"base"):
        assert part in content, part
    tables = [path.name for path in (offline / "files" / "media" / "table").rglob("*.json")]
    assert any(name.startswith("results") for name in tables)
    assert any(name.startswith("tradeoff") for name in tables)
    assert list((offline / "files" / "media" / "images" / "figures").glob("*.png"))


def test_csv_keeps_wandb_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with Tracker(compose(["logger=csv"]), tmp_path) as tracker:
        tracker.log_timings({"sweep": 1.0})
    assert tracker.run is None
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_is_finished_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = []

    class Run:
        def finish(self, exit_code: int) -> None:
            codes.append(exit_code)

    for error in (None, ValueError("x")):
        tracker = Tracker(compose([]), tmp_path)
        tracker.run = Run()
        tracker.__exit__(type(error) if error else None, error, None)
    assert codes == [0, 1]
