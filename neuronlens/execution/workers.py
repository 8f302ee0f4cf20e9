"""More processes for one run: they share its work through claims in the cache, and end with it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from neuronlens.execution.signals import Stopped, stoppable


@contextmanager
def helped(count: int, work: Callable[[], None], *, warn: Callable[[Sequence[str]], None]) -> Iterator[None]:
    """Run `work` in some more processes beside the block, each with its share of this process's CPU threads.

    One that dies is a warning: what it had claimed is taken over. Those that are left when the block ends are stopped.

    Args:
        count: processes beside this one; 0 starts none.
        work: finds by itself what is left to do; it is sent to the other processes.
        warn: gets a sentence where some died.
    """
    if count < 1:
        yield
        return
    import torch  # here, for whoever imports this module for nothing of it

    context, before = multiprocessing.get_context("spawn"), torch.get_num_threads()
    share = max(1, before // (count + 1))
    helpers = [context.Process(target=_helper, args=(work, share)) for _ in range(count)]
    try:
        torch.set_num_threads(share)
        for helper in helpers:
            helper.start()
        yield
        warn(_lost(helpers))
    finally:
        torch.set_num_threads(before)
        for helper in helpers:
            if helper.pid is not None:
                helper.terminate()
                helper.join()


def _lost(helpers: Sequence[BaseProcess]) -> list[str]:
    codes = [helper.exitcode for helper in helpers if helper.exitcode not in (None, 0)]
    how = f"{len(codes)} of {len(helpers)} workers ended early (exit code {codes[0]})" if codes else ""
    return [f"{how}; the others did their work."] if codes else []


def _helper(work: Callable[[], None], threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    try:
        with stoppable():
            work()
    except (Stopped, KeyboardInterrupt):
        os._exit(0)  # the run that it helps says why
