"""How far a stage is: bars where someone watches, plain lines in a pipe, nothing where it is quiet."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from neuronlens.execution import progress
from neuronlens.execution.progress import PLAIN_EVERY_S, ProgressLines, counting, rate_text


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def _lines(
    *, terminal: bool = False, quiet: bool = False, prefix: str = ""
) -> tuple[ProgressLines, io.StringIO, Clock]:
    written, clock = io.StringIO(), Clock()
    console = Console(file=written, force_terminal=terminal, width=100, quiet=quiet)
    return ProgressLines(console, prefix=prefix, clock=clock), written, clock


def test_a_stage_is_one_line_with_its_time_and_the_rates_of_what_it_counted() -> None:
    lines, written, clock = _lines()
    with lines.stage("sweep"):
        for _ in range(2):
            with counting("sweep at resid_post.5", 40, "cells") as advance:
                clock.now += 2.0
                advance(30)
                clock.now += 2.0
                advance(10)
        clock.now += 1.0
    assert written.getvalue() == "sweep                    9.0 s  80 cells, 10.0 cells/s\n"


def test_a_long_stage_prints_how_far_it_is_every_minute_where_no_bar_can_be_drawn() -> None:
    lines, written, clock = _lines(prefix="#1 ")
    with lines.stage("sweep"), counting("sweep at mlp_out.3", 400, "cells") as advance:
        for _ in range(4):
            clock.now += PLAIN_EVERY_S / 2
            advance(50)
    printed = written.getvalue().splitlines()
    assert printed[0] == "#1   sweep at mlp_out.3: 100/400 cells, 1.7 cells/s, 0:03:00 left"
    assert printed[1].startswith("#1   sweep at mlp_out.3: 200/400 cells, 1.7 cells/s, 0:02:00 left")
    assert len(printed) == 3
    assert all(line.startswith("#1 ") for line in printed)


def test_counting_outside_a_stage_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with counting("nobody asked", 3, "cells") as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_bars_and_is_left_with_the_lines_alone() -> None:
    lines, written, clock = _lines(terminal=True)
    with lines.stage("sweep"), counting("sweep at resid_post.5", 40, "cells") as advance:
        clock.now += 1.0
        advance(20)
        assert lines._drawn is not None
        lines._drawn.refresh()
    text = written.getvalue()
    assert "\x1b[" in text  # the control characters that a pipe must not see
    assert "20/40 cells" in text
    assert text.rstrip("\n").splitlines()[-1].endswith("20 cells, 20.0 cells/s")
    assert "\x1b[?25h" in text  # the cursor is back


def test_bars_are_gone_even_where_the_stage_fails() -> None:
    lines, written, _ = _lines(terminal=True)
    with pytest.raises(ValueError), lines.stage("sweep"):
        raise ValueError
    assert written.getvalue().count("\x1b[?25h") == 1
    assert progress._current.get() is None
    assert "sweep   " not in written.getvalue().splitlines()[-1]


def test_no_bars_and_quiet() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=100)
    with ProgressLines(console, bars=False).stage("sweep"):
        pass
    assert "⠋" not in written.getvalue()
    quiet, nothing, _ = _lines(terminal=True, quiet=True)
    with quiet.stage("sweep"), counting("x", 2, "cells") as advance:
        advance(2)
    assert nothing.getvalue() == ""


def test_rates_are_read_in_the_direction_with_the_larger_number() -> None:
    assert rate_text(0.01, "documents") == "100 s per document"
    assert rate_text(2.0, "documents") == "2.0 documents/s"


def test_one_unit_is_one_word() -> None:
    lines, written, clock = _lines()
    with lines.stage("sweep"), counting("sweep at resid_post.5", 1, "cells") as advance:
        clock.now += 50.0
        advance(1)
    assert written.getvalue() == "sweep                   50.0 s  1 cell, 50 s per cell\n"
