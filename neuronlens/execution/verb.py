"""What the command line knows of a verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Verb(NamedTuple):
    """A first word: what takes the words after it and gives the exit code; its usage line, one line on it, `--help`'s rest."""

    work: Callable[[list[str]], int]
    arguments: str
    summary: str
    details: str
