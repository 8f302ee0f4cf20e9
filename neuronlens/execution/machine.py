"""What the process has used of the machine."""

from __future__ import annotations

import resource
import sys


def peak_memory_gib() -> float:
    """Return the most memory this process has held, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
