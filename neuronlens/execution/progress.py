"""Shows how far a run is: live bars with rates on a terminal, plain lines in a pipe, nothing where it is quiet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

log = logging.getLogger(__name__)

PLAIN_EVERY_S = 60.0
"""Seconds between two lines of a stage that is still running, where no bar can be drawn."""
Advance = Callable[[float], None]
_current: ContextVar[ProgressLines | None] = ContextVar("neuronlens_progress", default=None)


def singular(units: str) -> str:
    """Return the word for one of some units.

    >>> singular("cells"), singular("batches")
    ('cell', 'batch')
    """
    return units.removesuffix("es") if units.endswith("ches") else units.removesuffix("s")


def amount_text(amount: float, units: str) -> str:
    """Return a number of units.

    >>> amount_text(1.0, "cells"), amount_text(1234.0, "samples")
    ('1 cell', '1,234 samples')
    """
    number = f"{amount:,.0f}"
    return f"{number} {singular(units) if number == '1' else units}"


def rate_text(rate: float, unit: str) -> str:
    """Return a rate, as units per second or as seconds per unit, whichever has the larger number.

    >>> rate_text(1234.5, "samples"), rate_text(8.14, "steps"), rate_text(0.05, "cells")
    ('1,234 samples/s', '8.1 steps/s', '20 s per cell')
    """
    if 0 < rate < 0.1:
        return f"{1 / rate:,.0f} s per {singular(unit)}"
    return f"{rate:,.0f} {unit}/s" if rate >= 100 else f"{rate:.1f} {unit}/s"


def duration_text(seconds: float) -> str:
    """Return a time in hours, minutes and seconds.

    >>> duration_text(9.4), duration_text(3700)
    ('0:00:09', '1:01:40')
    """
    return str(timedelta(seconds=max(0, int(seconds))))


class _Bar(BarColumn):
    """A bar where something is counted, and nothing where only the time is known."""

    def render(self, task: Task) -> ProgressBar | Text:  # type: ignore[override]
        """Return the bar of a task."""
        return Text() if task.total is None else super().render(task)


class _Counted(ProgressColumn):
    """How much of a task is done, how fast, and how long the rest takes; the time since its start where nothing is counted."""

    def render(self, task: Task) -> Text:
        """Return the text right of a bar."""
        if task.total is None:
            return Text(duration_text(task.elapsed or 0), style="dim")
        shown = f"{task.completed:,.0f}/{task.total:,.0f} {task.fields['unit']}"
        if task.speed:
            shown += f"  {rate_text(task.speed, task.fields['unit'])}"
        if task.time_remaining is not None:
            shown += f"  {duration_text(task.time_remaining)} left"
        return Text(shown)


class ProgressLines:
    """What a run prints about itself on stderr: one line per stage, and bars while it runs where someone watches."""

    def __init__(
        self,
        console: Console,
        *,
        bars: bool = True,
        prefix: str = "",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Write to `console`.

        Args:
            bars: draw them where the console is a terminal.
            prefix: put before every line, to know the jobs of a multirun by.
            clock: gives seconds.
        """
        self.console, self.prefix, self.clock = console, prefix, clock
        self.bars = bars and console.is_terminal and not console.quiet
        self._drawn: Progress | None = None
        self._counts: dict[str, list[float]] = {}

    def print_line(self, text: str, style: str | None = None) -> None:
        """Print a line under the prefix; never wrapped, so that a log has one line for it."""
        self.console.print(Text(self.prefix + text, style=style or ""), soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a stage while it runs and leave one line with its time and rates when it ends well."""
        self._counts = {}
        token = _current.set(self)
        started = self.clock()
        try:
            if self.bars:
                columns = (SpinnerColumn(), TextColumn("{task.description}"), _Bar(24), _Counted())
                with Progress(*columns, console=self.console, transient=True) as self._drawn:
                    self._drawn.add_task(self.prefix + name, total=None, unit="")
                    yield
            else:
                yield
        finally:
            self._drawn = None
            _current.reset(token)
        self.print_line(f"{name:<20} {self.clock() - started:7.1f} s{self._counted()}")

    def _counted(self) -> str:
        """Return how much the stage counted of each unit, with the rate over the time that it took."""
        parts = [
            amount_text(amount, unit) + (f", {rate_text(amount / seconds, unit)}" if seconds > 0 else "")
            for unit, (amount, seconds) in self._counts.items()
        ]
        return "  " + "; ".join(parts) if parts else ""

    @contextmanager
    def counting(self, what: str, total: float, unit: str) -> Iterator[Advance]:
        """Count up to `total` units of a stage's work; gives a function to call with each amount that is done."""
        started = last = self.clock()
        done = 0.0
        task = None
        if self._drawn is not None:
            task = self._drawn.add_task(f"  {what}", total=total, unit=unit)

        def advance(amount: float) -> None:
            nonlocal done, last
            done += amount
            now = self.clock()
            if self._drawn is not None and task is not None:
                self._drawn.advance(task, amount)
            elif now - last >= PLAIN_EVERY_S and done > 0:
                last, rate = now, done / (now - started)
                left = duration_text((total - done) / rate)
                self.print_line(f"  {what}: {done:,.0f}/{total:,.0f} {unit}, {rate_text(rate, unit)}, {left} left")

        try:
            yield advance
        finally:
            kept = self._counts.setdefault(unit, [0.0, 0.0])
            kept[0] += done
            kept[1] += self.clock() - started
            if self._drawn is not None and task is not None:
                self._drawn.remove_task(task)


def remark(sentence: str) -> None:
    """Print a line under the stage that is running in this context, and put it into the log; outside of one it is logged."""
    log.info("%s", sentence)
    lines = _current.get()
    if lines is not None:
        lines.print_line(f"  {sentence}")


@contextmanager
def one_stage(name: str, *, shown: bool) -> Iterator[None]:
    """Show one stage by itself on stderr, outside of a run: a bar on a terminal, a line at its end; or nothing."""
    with ProgressLines(Console(stderr=True, quiet=not shown), bars=shown).stage(name):
        yield


@contextmanager
def counting(what: str, total: float, unit: str) -> Iterator[Advance]:
    """Count work under the stage that is running in this context; outside of one nothing is shown."""
    lines = _current.get()
    if lines is None:
        yield lambda amount: None
        return
    with lines.counting(what, total, unit) as advance:
        yield advance
