"""Ctrl-C and SIGTERM as one exception that no library takes for its own, so that files are closed and the exit code is right."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class _Held:
    """What a signal finds: how many blocks let their step come to its end, and the code of a stop that waits for it."""

    blocks = 0
    code: int | None = None


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

    A further signal within the block is held back, so that files can be closed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        code = CODES[signal.Signals(number)]
        if _Held.blocks and _Held.code is None:
            _Held.code = code  # raised by `stop_here`, or now where it is asked for again
            return
        for known in CODES:
            signal.signal(known, signal.SIG_IGN)
        raise Stopped(code)

    before = {known: signal.getsignal(known) for known in CODES}
    try:
        for known in CODES:
            signal.signal(known, stop)
        yield
    finally:
        _Held.code = None
        for known, handler in before.items():
            signal.signal(known, handler)


@contextmanager
def in_steps() -> Iterator[None]:
    """Let the block decide where it is stopped: a signal in it waits for the next `stop_here`, a second one does not."""
    _Held.blocks += 1
    try:
        yield
    finally:
        _Held.blocks -= 1
    stop_here()


def stop_here() -> None:
    """Stop where a signal asked for it since: between two steps, with all that was done before in order.

    Raises:
        Stopped: the process was asked to stop.
    """
    if _Held.code is not None:
        code, _Held.code = _Held.code, None
        for known in CODES:
            signal.signal(known, signal.SIG_IGN)
        raise Stopped(code)
