"""What a run prints at its end stays short, however much was swept, and says where the rest is."""

from __future__ import annotations

from rich.console import Console

from neuronlens.config.compose import compose
from neuronlens.report.conclusion import conclusion
from neuronlens.report.message import message
from neuronlens.report.render.console import MOST_LINES
from tests.report.many import OVERRIDES, made_up_results


def printed(concepts: int, layers: int) -> str:
    table = made_up_results(concepts, layers)
    console = Console(width=160, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(*conclusion(table, compose(OVERRIDES)))
    assert message(table, compose(OVERRIDES)).split(";")[0][:60] in " ".join(capture.get().split())
    return capture.get()


def test_the_end_of_a_large_run_lists_thirty_rows_and_says_where_the_others_are() -> None:
    text = printed(5, 12)
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == MOST_LINES
    assert "more in table.md" in text


def test_a_small_run_is_listed_whole() -> None:
    text = printed(5, 1)
    assert "more in" not in text
    assert len([line for line in text.splitlines() if line.startswith("│")]) == 16
