"""Ctrl-C and SIGTERM as one exception that no library takes for its own, so that files are closed and the exit code is right."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stopped(BaseException):
    """The process was asked to stop. No `Exception` and no `KeyboardInterrupt`: Lightning turns that one into exit code 1.

    Attributes:
        code: the exit code that belongs to the signal.
    """

    def __init__(self, code: int) -> None:
        """Take the exit code."""
        super().__init__(f"stopped with exit code {code}")
        self.code = code


def code_of(error: BaseException | None) -> int:
    """Return the exit code of a block that ended so: 0 done, 1 a fault, 130 Ctrl-C, 143 SIGTERM.

    >>> code_of(None), code_of(ValueError()), code_of(KeyboardInterrupt()), code_of(Stopped(143))
    (0, 1, 130, 143)
    """
    if isinstance(error, Stopped):
        return error.code
    return 0 if error is None else 130 if isinstance(error, KeyboardInterrupt) else 1


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the block where a signal asks the process to stop; only in the main thread, where Python allows it.

    A second signal within the block is held back, so that files can be closed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for known in CODES:
            signal.signal(known, signal.SIG_IGN)
        raise Stopped(CODES[signal.Signals(number)])

    before = {known: signal.getsignal(known) for known in CODES}
    try:
        for known in CODES:
            signal.signal(known, stop)
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
