"""Times two sides alternately and states the outcome as one entry of outputs/bench.json."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def median_seconds(*sides: Callable[[], Any], repeats: int) -> list[float]:
    """Return each side's median time over `repeats` rounds; sides take turns, so that a busy machine slows all alike."""
    for side in sides:
        side()
    rounds: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for taken, side in zip(rounds, sides, strict=True):
            started = time.perf_counter()
            side()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in rounds]


def entry(name: str, what: str, ours_s: float, other_s: float, bound: float, n: int) -> dict[str, Any]:
    """Return a row: ratio = other / ours must reach `bound`."""
    ratio = other_s / ours_s
    return {
        "name": name,
        "what": what,
        "ours_s": ours_s,
        "other_s": other_s,
        "ratio": ratio,
        "bound": bound,
        "holds": ratio >= bound,
        "n": n,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
