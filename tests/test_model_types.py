"""docs/reference/models.md against what is measured: no model type that was admitted may be lost."""

from __future__ import annotations

import pytest

from benchmarks.models import PAGE, Row, all_rows, measured, page, rows_on
from benchmarks.tiny import HEADS
from tests.test_structure import ROOT

CHOSEN = [
    ("bert", "seq_cls"),
    ("modernbert", "seq_cls"),
    ("t5", "seq_cls"),
    ("fnet", "seq_cls"),
    ("albert", "seq_cls"),
    ("xlnet", "seq_cls"),
    ("llama", "causal"),
    ("gpt_neo", "causal"),
    ("mixtral", "causal"),
    ("jamba", "causal"),
    ("opt", "causal"),
    ("deepseek_v4", "causal"),
]
GOALS = {"seq_cls": (105, 90), "causal": (150, 120)}
"""Least number of types admitted at `resid_post`, and with inner sites."""


@pytest.fixture(scope="module")
def committed() -> dict[tuple[str, str], Row]:
    return rows_on((ROOT / PAGE).read_text())


def _lost(before: Row, now: Row) -> list[str]:
    """Return what a type had and has no more: its admission, or a site in some block."""
    if not before.admitted:
        return []
    if not now.admitted:
        return [f"{now.model_type} ({now.head}): {now.why}"]
    blocks = [[int(found.partition(" ")[0] or 0) for found in row.inner] for row in (before, now)]
    fewer = [had > has for had, has in zip(*blocks, strict=True)]
    return [f"{now.model_type} ({now.head}): {before.inner} became {now.inner}"] if any(fewer) else []


@pytest.mark.parametrize(("model_type", "head"), CHOSEN)
def test_a_chosen_type_is_admitted_as_the_page_says(
    model_type: str, head: str, committed: dict[tuple[str, str], Row]
) -> None:
    before, now = committed[model_type, head], measured(model_type, head)
    assert not _lost(before, now)
    assert (now.admitted, now.reads, now.why) == (before.admitted, before.reads, before.why)


@pytest.mark.slow
def test_no_type_of_the_installed_transformers_is_lost(committed: dict[tuple[str, str], Row]) -> None:
    rows = {(row.model_type, row.head): row for row in all_rows()}
    both = committed.keys() & rows.keys()
    assert len(both) > 200
    assert not [line for key in sorted(both) for line in _lost(committed[key], rows[key])]


@pytest.mark.parametrize("head", HEADS)
def test_the_page_counts_at_least_as_many_as_were_aimed_at(head: str, committed: dict[tuple[str, str], Row]) -> None:
    admitted = [row for row in committed.values() if row.head == head and row.admitted]
    at_resid_post, inner = GOALS[head]
    assert len(admitted) >= at_resid_post
    for place in range(2):  # fused experts have an attn_out and an mlp_out, and no mlp_neurons
        assert sum(bool(row.inner[place]) for row in admitted) >= inner


def test_a_page_is_read_as_it_was_written_and_a_loss_is_seen() -> None:
    rows = [
        Row("bert", "seq_cls", True, "cls", ("3 of 3", "2 of 3", ""), ("every text is a batch of its own",)),
        Row("xlm", "seq_cls", False, why="it has no single list of blocks: a | b take turns."),
        Row("llama", "causal", True, "last", ("3 of 3", "3 of 3", "3 of 3")),
    ]
    assert list(rows_on(page(rows)).values()) == rows
    assert not _lost(rows[0], rows[0])
    assert _lost(rows[0], Row("bert", "seq_cls", True, "cls", ("3 of 3", "1 of 3", "")))
    assert _lost(rows[2], Row("llama", "causal", False, why="it is gone"))
    assert not _lost(rows[1], rows[1])
