"""Times the stages of a run and says on the console what is going on and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from neuronlens.errors import NeuronLensError
from neuronlens.records import ResultTable
from neuronlens.report.tables import console_table, headline, methods_table, verdict, wide_console
from neuronlens.results import peak_memory_gib

log = logging.getLogger(__name__)

MOST_COMPARED = 12
"""Comparisons of range with neuron masks that the console still lists; past that it shows the best methods."""


class Stages:
    """Times the stages and says on the console what is going on."""

    def __init__(self, spoken: bool = True) -> None:
        """Stay silent unless `spoken`."""
        self.console = wide_console(quiet=not spoken)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time one stage."""
        started = time.perf_counter()
        log.info("%s ...", name)
        yield
        self.seconds[name] = time.perf_counter() - started
        log.info("%s: %.1f s", name, self.seconds[name])
        self.console.print(f"[dim]{name:<20}[/dim] {self.seconds[name]:6.1f} s")

    @contextmanager
    def total(self) -> Iterator[None]:
        """Time the whole run, and put failures into the log."""
        started = time.perf_counter()
        try:
            yield
        except NeuronLensError as error:
            log.error("%s", error)
            raise
        except Exception:
            log.exception("The run failed")
            raise
        self.seconds["total"] = time.perf_counter() - started

    def warn(self, warnings: Sequence[str]) -> None:
        """Say on the console and in the log what the reader of the results must know."""
        for warning in warnings:
            log.warning("%s", warning)
            self.console.print(f"[yellow]{warning}[/yellow]")

    def conclude(self, table: ResultTable, tau: float | None, path: Path) -> None:
        """Print the base model, the comparison, the verdict and the paths worth opening."""
        base = table.base
        self.console.print(
            f"\nUnedited model: accuracy [bold]{base['accuracy']:.3f}[/bold], gold confidence {base['confidence']:.3f} "
            f"({base['n']} test samples, {base['concepts']} concepts)\n"
        )
        if len(headline(table, tau)) > MOST_COMPARED:
            self.console.print(methods_table(table))
        elif len(table.comparison):
            self.console.print(console_table(table, tau))
            self.console.print(verdict(table, tau) + "\n")
        for name, what in (
            ("table.md", "every cell, and the comparison at every tau"),
            ("figures/tradeoff.png", "erasure against collateral"),
            (
                "figures/neurons.png",
                "what salient neurons say, and the ranges (firing.png, qq.png, overlap.png beside it)",
            ),
        ):
            self.console.print(f"{path / name}  [dim]{what}[/dim]", soft_wrap=True)
        self.console.print(f"[dim]{self.seconds['total']:.0f} s, {peak_memory_gib():.2f} GiB at most[/dim]")
