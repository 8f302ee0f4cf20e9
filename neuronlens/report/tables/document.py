"""The tables of a run as files: all of them in Markdown, the paper's main one in LaTeX and CSV too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from neuronlens.config.schema import Config
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.report.message import message
from neuronlens.report.render.csv import to_csv
from neuronlens.report.render.files import floats
from neuronlens.report.render.markdown import marked, to_markdown
from neuronlens.report.table import Table
from neuronlens.report.tables.budget import budget_methods_table, budget_table
from neuronlens.report.tables.cells import means_table, operating_table, skipped_table
from neuronlens.report.tables.comparison import comparison_table
from neuronlens.report.tables.general import general_table
from neuronlens.report.tables.methods import methods_table
from neuronlens.report.tables.paper import paper_table
from neuronlens.report.tables.unedited import accuracy_text
from neuronlens.results.folder import RunFolder
from neuronlens.results.tables import quoted


def markdown(table: ResultTable, config: Config) -> str:
    """Return the run's message, the unedited model's figures and every table of a run."""
    base, bootstrap = table.base, Bootstrap.of(config)
    first = (
        f"# Results\n\n{marked(message(table, config))}\n\nUnedited model: accuracy {accuracy_text(base, bootstrap)}, gold "
        f"confidence {base['confidence']:.3f} over {base['n']:.0f} test samples of {base['concepts']:.0f} concepts.\n"
    )
    return "\n".join([first, *map(to_markdown, [paper_table(table, config), *tables(table, bootstrap)])])


def write_tables(folder: RunFolder, table: ResultTable, config: Config) -> None:
    """Write `table.md`, every table of the run, and `table.tex` and `table.csv`, the paper's main table of it alone.

    Text in the CSV that a spreadsheet would compute is quoted where the config asks for it, as in `results.csv`.
    """
    shown = paper_table(table, config)
    folder.write_text("table.md", markdown(table, config))
    folder.write_text("table.tex", floats([shown]))
    folder.write_text(
        "table.csv", to_csv(replace(shown, frame=quoted(shown.frame) if config.safe_csv else shown.frame))
    )


def tables(table: ResultTable, bootstrap: Bootstrap) -> Iterator[Table]:
    """Give the tables of a run in reading order: the comparison at every tau first, those without a row left out."""
    if len(table.comparison):
        yield comparison_table(table.comparison.to_dict("records"), bootstrap)
    yield methods_table(table.methods, bootstrap)
    if table.budget_comparison is not None and len(table.budget_comparison):
        yield budget_table(table.budget_comparison, bootstrap)
    if table.budget_methods is not None and len(table.budget_methods):
        yield budget_methods_table(table.budget_methods, bootstrap)
    if len(table.operating_points):
        yield operating_table(table.operating_points)
    yield means_table(table.rows)
    if table.rows["skipped"].notna().any():
        yield skipped_table(table.rows)
    if table.general is not None and len(table.general):
        yield general_table(table.general, bootstrap)
