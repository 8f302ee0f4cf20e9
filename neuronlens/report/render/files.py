"""Tables as files: Markdown, CSV and LaTeX beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from neuronlens.report.render.csv import to_csv
from neuronlens.report.render.latex import pages, to_latex
from neuronlens.report.render.markdown import to_markdown
from neuronlens.report.table import Table
from neuronlens.storage.files import write_atomically


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write `<name>.md`, `<name>.csv` and `<name>.tex` into a folder, each atomically, and return their paths.

    The LaTeX of a long table is several floats, one to a page.

    Raises:
        OutputError: the folder cannot be written.
    """
    found = {"md": to_markdown(table), "csv": to_csv(table), "tex": floats([table])}
    return write_texts(found, folder, table.name)


def floats(tables: Iterable[Table]) -> str:
    """Return tables as LaTeX, each cut into as many floats as it takes pages."""
    return "\n".join(to_latex(page) for table in tables for page in pages(table))


def write_texts(texts: Mapping[str, str], folder: Path, name: str) -> list[Path]:
    """Write texts by the ending of their file, each atomically, and return the paths `<folder>/<name>.<ending>`.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = []
    for ending, text in texts.items():
        written.append(Path(folder) / f"{name}.{ending}")
        write_atomically(written[-1], text.encode())
    return written
