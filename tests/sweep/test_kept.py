"""Outcomes are kept part by part: what is kept costs no forward, and what is not is computed to the same bytes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from neuronlens.errors import OutputError
from neuronlens.execution.signals import Stopped, stoppable
from neuronlens.records import Site
from neuronlens.storage import cache
from neuronlens.storage.cache import Store
from neuronlens.sweep import evaluator as evaluators
from neuronlens.sweep.evaluator import Outcomes, SweepEvaluator
from neuronlens.sweep.kept import KeptOutcomes, trim
from neuronlens.sweep.shards import run_sweep
from tests.sweep.test_evaluator import CPU, _evaluator


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few cells, so that a tiny sweep has several."""
    monkeypatch.setattr(evaluators, "FORWARDS", 1)
    monkeypatch.setattr(evaluators, "FORWARDS_PER_BATCH", 2)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Callable[[], tuple[SweepEvaluator, list[int]]]:
    """Makes the same sweep anew, with the cells of every forward that it runs."""

    def make() -> tuple[SweepEvaluator, list[int]]:
        made = _evaluator("bert", Site(1), "all", 1)[0]
        forwards: list[int] = []
        keep = made.keep

        def counted(item: evaluators.WorkItem, edits: object) -> None:
            forwards.append(len(item.cells))
            keep(item, edits)  # type: ignore[arg-type]

        monkeypatch.setattr(made, "keep", counted)
        return made, forwards

    return make


Fresh = Callable[[], tuple[SweepEvaluator, list[int]]]


def _kept(folder: Path, warnings: list[str] | None = None, **inputs: object) -> KeptOutcomes:
    warn = (lambda sentence: None) if warnings is None else warnings.append
    return KeptOutcomes(Store(folder, warn=warn), {"model": "tiny", **inputs})


def _same(one: Outcomes, other: Outcomes) -> bool:
    return all(getattr(one, field.name).tobytes() == getattr(other, field.name).tobytes() for field in fields(Outcomes))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "outcomes").glob("*/*"))


def test_a_sweep_that_is_kept_costs_no_forward_and_gives_the_same_bytes(fresh: Fresh, tmp_path: Path) -> None:
    plain, all_forwards = fresh()
    wanted = run_sweep(plain, CPU)
    first, forwards = fresh()
    assert _same(run_sweep(first, CPU, _kept(tmp_path)), wanted)
    assert forwards == all_forwards
    assert len(_folders(tmp_path)) == len(plain.shards()) > 3
    again, forwards = fresh()
    assert _same(run_sweep(again, CPU, _kept(tmp_path)), wanted)
    assert forwards == []
    other, forwards = fresh()
    assert _same(run_sweep(other, CPU, _kept(tmp_path, seed=1)), wanted)
    assert forwards == all_forwards, "another config finds nothing of the old cells"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_sweep_goes_on_after_the_forward_that_was_running(
    number: int, code: int, fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, all_forwards = fresh()
    wanted = run_sweep(plain, CPU)
    per_part = len(plain.forwards(plain.shards()[0]))
    stop_after = per_part + 2  # in the second part
    stopped, forwards = fresh()
    keep = stopped.keep

    def signalled(item: evaluators.WorkItem, edits: object) -> None:
        if len(forwards) == stop_after - 1:
            os.kill(os.getpid(), number)
        keep(item, edits)  # type: ignore[arg-type]

    monkeypatch.setattr(stopped, "keep", signalled)
    with pytest.raises(Stopped) as caught, stoppable():
        run_sweep(stopped, CPU, _kept(tmp_path))
    assert caught.value.code == code
    assert len(forwards) == stop_after, "the running forward was finished, and no other begun"
    assert [path.name.endswith("-part") for path in _folders(tmp_path)].count(True) == 1
    again, rest = fresh()
    assert _same(run_sweep(again, CPU, _kept(tmp_path)), wanted)
    assert forwards + rest == all_forwards, "no forward was run twice"
    assert not any(path.name.endswith("-part") for path in _folders(tmp_path))
    assert not list((tmp_path / "claims").rglob("*.lock"))


def test_a_second_signal_does_not_wait(fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, forwards = fresh()

    def twice(item: evaluators.WorkItem, edits: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        forwards.append(0)  # not reached

    monkeypatch.setattr(stopped, "keep", twice)
    with pytest.raises(Stopped), stoppable():
        run_sweep(stopped, CPU, _kept(tmp_path))
    assert forwards == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flipped, Path.unlink], ids=["cut in half", "flipped", "deleted"])
def test_a_damaged_part_is_named_and_computed_again(
    damage: Callable[[Path], None], fresh: Fresh, tmp_path: Path
) -> None:
    first, all_forwards = fresh()
    wanted = run_sweep(first, CPU, _kept(tmp_path))
    damage(_folders(tmp_path)[1] / "arrays.safetensors")
    again, forwards = fresh()
    warnings: list[str] = []
    assert _same(run_sweep(again, CPU, _kept(tmp_path, warnings)), wanted)
    assert len(warnings) == 1
    assert "arrays.safetensors" in warnings[0]
    assert 0 < len(forwards) < len(all_forwards)
    assert len(_folders(tmp_path)) == len(first.shards())


def test_a_full_disk_keeps_the_parts_before_it(fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, all_forwards = fresh()
    wanted = run_sweep(plain, CPU)
    first, _ = fresh()
    written: list[object] = []
    seal = cache.seal

    def full(folder: Path) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(folder)
        seal(folder)

    with monkeypatch.context() as patched:
        patched.setattr(cache, "seal", full)
        with pytest.raises(OutputError, match=r"No space left.*Next: paths\.cache_dir"):
            run_sweep(first, CPU, _kept(tmp_path))
    assert len(_folders(tmp_path)) == 2
    again, forwards = fresh()
    assert _same(run_sweep(again, CPU, _kept(tmp_path)), wanted)
    assert len(forwards) == len(all_forwards) - 2 * len(first.forwards(first.shards()[0]))


def test_the_sweeps_that_were_used_longest_ago_make_room(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for age, name in enumerate("abc"):
        store.save(f"outcomes/{name}", "cells", {"gold": np.zeros(1000, dtype=np.float32)}, {})
        os.utime(tmp_path / "outcomes" / name, (1000 - age, 1000 - age))
    trim(store, 20_000)
    assert len(_folders(tmp_path)) == 3
    trim(store, 10_000)
    assert [path.parent.name for path in _folders(tmp_path)] == ["a", "b"]
