"""Runs every benchmark, prints a table and writes outputs/bench.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import language, mixture, replay
from neuronlens.execution.console import wide_console
from neuronlens.storage.files import write_json

CACHE = Path("outputs/cache")
SUITES = {
    "replay": lambda: replay.bench(CACHE),
    "language": lambda: language.bench(CACHE),
    "mixture": mixture.bench,
}


def main(names: list[str]) -> None:
    """Run the named suites, or all of them."""
    rows: list[dict[str, Any]] = []
    for name in names or SUITES:
        rows += SUITES[name]()
    write_json(Path("outputs/bench.json"), rows)
    table = Table(title="other / ours, medians, both sides in one process")
    for heading in ("name", "ours ms", "other ms", "ratio", "bound", "holds"):
        table.add_column(heading, justify="left" if heading == "name" else "right")
    for row in rows:
        holds = "yes" if row["holds"] else "NO"
        times = ("-" if row[side] is None else f"{1e3 * row[side]:.2f}" for side in ("ours_s", "other_s"))
        table.add_row(row["name"], *times, f"{row['ratio']:.3g}", f"{row['bound']:.3g}", holds)
    console = wide_console()
    console.print(table)
    for row in rows:
        console.print(f"{row['name']}: {row['what']}", soft_wrap=True)
    console.print("outputs/bench.json")


if __name__ == "__main__":
    main(sys.argv[1:])
