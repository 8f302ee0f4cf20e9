"""The console that tables are printed on."""

from __future__ import annotations

from rich.console import Console


def wide_console(*, quiet: bool = False) -> Console:
    """Return a console that never squeezes a table below 124 columns, whatever it is piped into."""
    console = Console(quiet=quiet)
    console.width = max(console.width, 124)
    return console
