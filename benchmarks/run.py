"""Runs every benchmark, prints a table and writes outputs/bench.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks import conditional, language, mixture, replay
from neuronlens import Column, Table, frame_of, to_console, wide_console, write_json

CACHE = Path("outputs/cache")
SUITES = {
    "replay": lambda: replay.bench(CACHE),
    "conditional": lambda: conditional.bench(CACHE),
    "language": lambda: language.bench(CACHE),
    "mixture": mixture.bench,
}


def main(names: list[str]) -> None:
    """Run the named suites, or all of them."""
    rows: list[dict[str, Any]] = []
    for name in names or SUITES:
        rows += SUITES[name]()
    write_json(Path("outputs/bench.json"), rows)
    console = wide_console()
    console.print(to_console(table_of(rows)))
    for row in rows:
        console.print(f"{row['name']}: {row['what']}", soft_wrap=True)
    console.print("outputs/bench.json")


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Return the benchmarks as a table."""
    columns = (
        Column("name", "name"),
        Column("ours_ms", "ours ms", format=".2f"),
        Column("other_ms", "other ms", format=".2f"),
        Column("ratio", "ratio", format=".3g"),
        Column("bound", "bound", format=".3g"),
        Column("shown", "holds", align="right", styles={"NO": "bold red"}),
    )
    lines = [
        row
        | {f"{side}_ms": None if row[f"{side}_s"] is None else 1e3 * row[f"{side}_s"] for side in ("ours", "other")}
        | {"shown": "yes" if row["holds"] else "NO"}
        for row in rows
    ]
    title = "other / ours, medians, both sides in one process"
    return Table("benchmarks", title, "", frame_of(lines, columns), columns)


if __name__ == "__main__":
    main(sys.argv[1:])
