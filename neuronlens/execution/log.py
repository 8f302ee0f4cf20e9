"""The lines of a run's log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuronlens.errors import one_line


class OneLineFormatter(logging.Formatter):
    """Writes a message on one line, its control characters written out: a label cannot forge a line of the log."""

    def __init__(self, format: str | None = None) -> None:
        """Take the format of a line, as `logging` has it."""
        super().__init__(format)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is Python's
        """Return the line of a record, without its traceback."""
        return one_line(super().formatMessage(record))


LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def log_into(path: Path) -> Iterator[None]:
    """Add the block's log to a file, as Hydra does for a run that it starts."""
    handler, root = logging.FileHandler(path, encoding="utf-8"), logging.getLogger()
    handler.setFormatter(OneLineFormatter(LINE))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
