"""Which process makes a stage: one at a time, known by host and process, followed by another where it dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout

from neuronlens.errors import OutputError, reason

LEASE_S = 60.0
"""Seconds without a heartbeat after which the owner of a claim on another host counts as dead; on this one its process is
looked up. The owner's heartbeat is three times as fast."""
POLL_S = 0.2
QUIET_S = 5.0
"""Seconds that a process waits before it says for whom."""


@contextmanager
def claim(path: Path, *, wait: bool = True, warn: Callable[[str], None] | None = None) -> Iterator[bool]:
    """Hold a claim in the block; gives whether it is held, which is always so where `wait` is on.

    A claim is a file that names its owner's host and process, and that its owner touches as long as it lives. It needs
    nothing of the file system but that one of two processes makes a file first, so it holds on shared ones too.

    Args:
        path: the claim's file; its folder is made where it is not there.
        wait: whether to wait for another owner.
        warn: gets a sentence where that takes longer than a moment.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lease = SoftFileLease(str(path), lease_duration=LEASE_S, poll_interval=POLL_S)
        held = _acquired(lease, path.stem, wait=wait, warn=warn)
    except OSError as error:
        raise OutputError(
            f"Cannot claim {path.stem} in {path.parent}: {reason(error)}. Next: paths.cache_dir=<folder with room>."
        ) from error
    try:
        yield held
    finally:
        if held:
            lease.release()


def _acquired(lease: SoftFileLease, what: str, *, wait: bool, warn: Callable[[str], None] | None) -> bool:
    try:
        lease.acquire(timeout=QUIET_S if wait else 0)
    except Timeout:
        if not wait:
            return False
        owner = lease.owner
        if warn is not None and owner is not None:
            warn(f"Waits for process {owner.pid} on {owner.hostname}, which makes {what}.")
        lease.acquire(timeout=-1)
    return True
