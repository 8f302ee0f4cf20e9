"""Times the stages of a run, and prints on the console which one runs and what came of it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import current_process

from rich.console import Console, Group, RenderableType
from rich.text import Text

from neuronlens.errors import NeuronLensError, printable
from neuronlens.execution.console import wide_console
from neuronlens.execution.machine import peak_memory_gib
from neuronlens.execution.progress import ProgressLines
from neuronlens.records import Job

log = logging.getLogger(__name__)
logging.getLogger("neuronlens").addHandler(
    logging.NullHandler()
)  # else Python repeats warnings where nothing is set up


class Stages:
    """Times the stages and prints them: the stages on stderr, what came of them on stdout."""

    def __init__(self, *, bars: bool = True, quiet: bool = False, job: Job | None = None) -> None:
        """Start the clock.

        Args:
            bars: draw progress bars where stderr is a terminal.
            quiet: print nothing but warnings.
            job: of a multirun: its lines carry its number.
        """
        self.job = job
        alone = current_process().name == "MainProcess"  # bars of several processes would overwrite each other
        watched = sys.stderr.isatty()  # colours can be forced on a log; bars there would be noise
        self.results, self.warnings = wide_console(quiet=quiet), Console(stderr=True)
        prefix = f"#{job.number} " if job is not None else ""
        self.lines = ProgressLines(Console(stderr=True, quiet=quiet), bars=bars and alone and watched, prefix=prefix)
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()
        self._followers: list[Callable[[str, float], None]] = []
        if job is not None:
            self.lines.print_line(" ".join(job.overrides), style="bold")

    def follow(self, follower: Callable[[str, float], None]) -> None:
        """Call `follower` with the name and seconds of every stage as it ends."""
        self._followers.append(follower)

    @property
    def timings(self) -> Mapping[str, float]:
        """Seconds per stage so far, and `total` since the start."""
        return {**self.seconds, "total": time.perf_counter() - self.started}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time one stage."""
        started = time.perf_counter()
        log.info("%s ...", name)
        with self.lines.stage(name):
            yield
            self.seconds[name] = time.perf_counter() - started
        log.info("%s: %.1f s", name, self.seconds[name])
        for follower in self._followers:
            follower(name, self.seconds[name])

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Put failures of the block into the log."""
        try:
            yield
        except NeuronLensError as error:
            log.error("%s", error)
            raise
        except Exception:
            log.exception("The run failed")
            raise

    def warn(self, warnings: Sequence[str]) -> None:
        """Print on the console, even a quiet one, and log what the reader of the results must know."""
        for warning in warnings:
            log.warning("%s", warning)
            self.warnings.print(Text(printable(self.lines.prefix + warning), style="yellow"), soft_wrap=True)

    def show(self, *shown: RenderableType) -> None:
        """Print on stdout, all at once, unless the run is quiet."""
        self.results.print(Group(*shown))

    def show_paths(self, paths: Mapping[str, str]) -> None:
        """Print paths or commands with what they are good for, then the seconds and the memory of the whole run."""
        for place, what in paths.items():
            self.results.print(Text.assemble(place, "  ", (what, "dim")), soft_wrap=True)
        total = f"{self.timings['total']:.0f} s in all, at most {peak_memory_gib():.2f} GiB of memory"
        self.results.print(Text(total, style="dim"))
