"""Runs a sweep part by part: parts that are kept are taken over, those that another process runs are waited for."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import suppress

from neuronlens.errors import OutputError
from neuronlens.execution.progress import amount_text, remark
from neuronlens.execution.signals import Stopped, in_steps, stop_here
from neuronlens.execution.trainer import TrainerConfig, make_trainer
from neuronlens.records import Cell
from neuronlens.sweep.evaluator import Outcomes, SweepEvaluator, WorkItem
from neuronlens.sweep.kept import KeptOutcomes, touch

POLL_S = 0.2
"""Seconds between two looks at parts that other processes run."""


def run_sweep(
    evaluator: SweepEvaluator, trainer: TrainerConfig, kept: KeptOutcomes | None = None, *, announce: str | None = None
) -> Outcomes:
    """Return the outcomes of all the evaluator's cells.

    Args:
        kept: where finished parts are kept and found again; None computes everything here.
        announce: the split's name, to print how many cells were found and how many are left; None prints nothing.

    Raises:
        Stopped: the process was asked to stop; the current forward was finished and what is done is kept.
        OutputError: the cache cannot be written.
    """
    queue = _Forwards(evaluator, kept)
    where = ", ".join(map(str, evaluator.builders))
    found, left = queue.cells_found, queue.cells_left
    if found and announce is not None:
        rest = f"{amount_text(left, 'cells')} left" if left else "none is left to compute"
        remark(
            f"{where}, {announce}: {found:,} of {amount_text(len(evaluator.cells), 'cells')} found in the cache, {rest}"
        )
    if left:
        evaluator.cells_left = left
        try:
            with in_steps():
                make_trainer(trainer, f"sweep at {where}").predict(evaluator, queue, return_predictions=False)
        finally:
            queue.close()
    return evaluator.outcomes


class _Part:
    """Cells that are run and kept together: their places in the evaluator, and the cells themselves."""

    def __init__(self, evaluator: SweepEvaluator, places: list[int]) -> None:
        self.places = places
        self.cells: list[Cell] = [evaluator.cells[place] for place in places]


class _Forwards:
    """Gives a sweep's forwards to the trainer one by one, and keeps a part when the trainer asks for what comes after it."""

    def __init__(self, evaluator: SweepEvaluator, kept: KeptOutcomes | None) -> None:
        self.evaluator, self.kept = evaluator, kept
        parts = [_Part(evaluator, places) for places in evaluator.shards()]
        self.left = [part for part in parts if not self._take(part)]
        self.cells_left = sum(len(part.cells) for part in self.left)
        self.cells_found = len(evaluator.cells) - self.cells_left
        self._running: Generator[WorkItem] | None = None
        if kept is not None and self.cells_found:
            touch(kept)

    def __len__(self) -> int:
        """Return one more than the forwards: by asking for that one, the trainer lets the last part be kept."""
        return 1 + sum(len(self.evaluator.forwards(part.places)) for part in self.left)

    def __iter__(self) -> Iterator[WorkItem]:
        self._running = self._every()
        return self._running

    def close(self) -> None:
        """Give back what is claimed, wherever the trainer stopped asking."""
        if self._running is not None:
            self._running.close()

    def _take(self, part: _Part) -> bool:
        """Take over a part's outcomes, if they are kept."""
        found = None if self.kept is None else self.kept.load(part.cells)
        if found is not None:
            self.evaluator.outcomes.put(part.places, found)
        return found is not None

    def _every(self) -> Generator[WorkItem]:
        left = self.left
        if self.kept is None:
            for part in left:
                yield from self._forwards(part)
            return
        while left:
            with_others = []
            for part in left:
                with self.kept.claimed(part.cells) as claimed:
                    if claimed.kept is not None and self._take(part):
                        continue
                    if claimed.ours:
                        yield from self._forwards(part)
                    else:
                        with_others.append(part)
            if len(with_others) == len(left):
                stop_here()
                time.sleep(POLL_S)
            left = with_others

    def _forwards(self, part: _Part) -> Generator[WorkItem]:
        outcomes, done = self.evaluator.outcomes, 0
        before = None if self.kept is None else self.kept.load_part(part.cells)
        if before is not None:
            outcomes.put(part.places, before[0])
            done = before[1]
        for number, item in enumerate(self.evaluator.forwards(part.places)):
            if number < done:
                continue
            try:
                stop_here()
            except Stopped:
                if self.kept is not None and number > done:
                    with suppress(OutputError):  # the stop is what the user asked for
                        self.kept.save_part(part.cells, outcomes.of_cells(part.places), number)
                raise
            yield item
        if self.kept is not None:
            self.kept.save(part.cells, outcomes.of_cells(part.places))
