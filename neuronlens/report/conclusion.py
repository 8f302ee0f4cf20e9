"""What a run prints on the console when it is done."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.markup import escape
from rich.rule import Rule
from rich.text import Text

from neuronlens.config.schema import Config
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import Job, ResultTable
from neuronlens.report.message import message
from neuronlens.report.render.console import MOST_LINES, to_console
from neuronlens.report.tables.comparison import headline, headline_table
from neuronlens.report.tables.methods import best_methods_table
from neuronlens.report.tables.unedited import accuracy_text

MOST_COMPARED = 12
"""Comparisons of range with neuron masks that the console still lists; past that it shows the best methods."""
WORTH_OPENING = (
    ("table.md", "every table: each concept under both masks, every method, every cell"),
    ("table.tex", "the paper's main table of this run, for LaTeX (table.csv for a spreadsheet)"),
    ("report.html", "one page to look around in: trade-off, concepts, neurons and their ranges"),
    ("figures/tradeoff.png", "erasure against collateral"),
)


def conclusion(table: ResultTable, config: Config, job: Job | None = None) -> list[RenderableType]:
    """Return the unedited model's figures, the comparison at matched erasure and the run's message, ready to print."""
    base, tau, bootstrap = table.base, config.headline_tau, Bootstrap.of(config)
    shown: list[RenderableType] = [Text()]
    if job is not None:
        shown.append(Rule(str(job), align="left"))
    shown.append(
        Text.from_markup(
            f"Unedited model: accuracy [bold]{escape(accuracy_text(base, bootstrap))}[/bold], gold confidence "
            f"{base['confidence']:.3f} ({base['n']} test samples, {base['concepts']} concepts)\n"
        )
    )
    if len(headline(table, tau)) > MOST_COMPARED:
        shown.append(to_console(best_methods_table(table.methods, bootstrap), most=MOST_LINES, rest="table.md"))
    elif len(table.comparison):
        shown.append(to_console(headline_table(table, tau, bootstrap), most=MOST_LINES, rest="table.md"))
    return [*shown, Text(message(table, config) + "\n")]


def worth_opening(run_folder: Path) -> dict[str, str]:
    """Return the files of a run folder that a reader should open first, each with what it shows."""
    return {str(run_folder / name): what for name, what in WORTH_OPENING if (run_folder / name).is_file()}
