"""Times the stages of a run and says on the console what is going on and what came of it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from neuronlens.errors import NeuronLensError
from neuronlens.progress import ProgressLines
from neuronlens.records import Job, ResultTable
from neuronlens.report.tables import console_table, headline, methods_table, verdict, wide_console
from neuronlens.results import peak_memory_gib

log = logging.getLogger(__name__)
logging.getLogger("neuronlens").addHandler(
    logging.NullHandler()
)  # else Python repeats warnings where nothing is set up

MOST_COMPARED = 12
"""Comparisons of range with neuron masks that the console still lists; past that it shows the best methods."""
WORTH_OPENING = (
    ("table.md", "every cell, and the comparison at every tau"),
    ("report.html", "one page to look around in: trade-off, concepts, neurons and their ranges"),
    ("figures/tradeoff.png", "erasure against collateral"),
)


class Stages:
    """Times the stages and says on the console what is going on: stages on stderr, what came of them on stdout."""

    def __init__(self, *, bars: bool = True, quiet: bool = False, job: Job | None = None) -> None:
        """Start the clock.

        Args:
            bars: draw progress bars where stderr is a terminal.
            quiet: say nothing but warnings.
            job: of a multirun: its lines carry its number.
        """
        self.job = job
        alone = current_process().name == "MainProcess"  # bars of several processes would overwrite one another
        watched = sys.stderr.isatty()  # colours can be forced on a log; bars there would be noise
        self.results, self.warnings = wide_console(quiet=quiet), Console(stderr=True)
        prefix = f"#{job.number} " if job is not None else ""
        self.lines = ProgressLines(Console(stderr=True, quiet=quiet), bars=bars and alone and watched, prefix=prefix)
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()
        self._followers: list[Callable[[str, float], None]] = []
        if job is not None:
            self.lines.say(" ".join(job.overrides), style="bold")

    def follow(self, told: Callable[[str, float], None]) -> None:
        """Call `told` with the name and seconds of every stage as it ends."""
        self._followers.append(told)

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
        for told in self._followers:
            told(name, self.seconds[name])

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
        """Say on the console, even a quiet one, and in the log what the reader of the results must know."""
        for warning in warnings:
            log.warning("%s", warning)
            self.warnings.print(Text(self.lines.prefix + warning, style="yellow"), soft_wrap=True)

    def conclude(
        self, table: ResultTable, tau: float | None, path: Path, also: Mapping[str, str] | None = None
    ) -> None:
        """Print the base model, the comparison, the verdict and the paths worth opening, all at once.

        Args:
            also: further paths or commands, with what they are good for.
        """
        base = table.base
        told: list[RenderableType] = [Text()]
        if self.job is not None:
            told.append(Rule(str(self.job), align="left"))
        told.append(
            Text.from_markup(
                f"Unedited model: accuracy [bold]{base['accuracy']:.3f}[/bold], gold confidence {base['confidence']:.3f} "
                f"({base['n']} test samples, {base['concepts']} concepts)\n"
            )
        )
        if len(headline(table, tau)) > MOST_COMPARED:
            told.append(methods_table(table))
        elif len(table.comparison):
            told += [console_table(table, tau), Text(verdict(table, tau) + "\n")]
        self.results.print(Group(*told))
        worth = {str(path / name): what for name, what in WORTH_OPENING if (path / name).is_file()}
        for place, what in (worth | dict(also or {})).items():
            self.results.print(Text.assemble(place, "  ", (what, "dim")), soft_wrap=True)
        total = f"{self.timings['total']:.0f} s, {peak_memory_gib():.2f} GiB at most"
        self.results.print(Text(total, style="dim"))
