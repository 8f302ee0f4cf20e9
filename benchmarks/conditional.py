"""A cell of LEACE behind the discriminant gate against one without it, and fitting on tokens against extraction alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import neuronlens as nl
from benchmarks.cells import sweep_of
from benchmarks.measure import entry, median_seconds
from benchmarks.replay import Workload
from neuronlens import ActivationExtractor, Cell, Knobs, SweepEvaluator, TokenPlan, make_trainer, run_sweep

LAYER = 3
MOST_OF_A_CELL, MOST_OF_EXTRACTION = 1.1, 1.3
"""How many times the time without the gate, and without tokens, each may take."""


def bench(cache: Path, repeats: int = 5, cells: int = 6) -> list[dict[str, Any]]:
    """Return the entries of a gated cell and of an extraction that takes tokens, both at a middle layer of MiniLM."""
    with nl.quiet_libraries():
        work = Workload(cache)
        return [gated_cell(work, repeats, cells), tokens(work, repeats)]


def gated_cell(work: Workload, repeats: int, cells: int) -> dict[str, Any]:
    """Return the entry of LEACE behind the gate against LEACE, every token edited."""
    config = nl.compose(["sweep.gate=[neuron,discriminant]", "++gate.discriminant.theta=zero"])
    fit, test = (work.extract(split, LAYER) for split in ("fit", "test"))

    def sweep(gate: str) -> SweepEvaluator:
        own: list[Cell] = [(Knobs(gate=gate, edit="leace", strength=2.0), concept) for concept in range(cells)]
        options: dict[str, Any] = {"tokens_per_forward": work.config.evaluation.tokens_per_forward, "config": config}
        return sweep_of(work.loaded, fit, test, LAYER, own, positions="all", **options)

    gated, plain = sweep("discriminant"), sweep("neuron")
    ours, other = median_seconds(
        lambda: run_sweep(gated, work.config.trainer), lambda: run_sweep(plain, work.config.trainer), repeats=repeats
    )
    what = (
        f"one cell of LEACE behind gate discriminant at layer {LAYER} of 6, all positions edited, against LEACE alone"
    )
    return entry("cell_discriminant", what, ours / cells, other / cells, 1 / MOST_OF_A_CELL, repeats)


def tokens(work: Workload, repeats: int) -> dict[str, Any]:
    """Return the entry of an extraction that adds every token up against one that records a vector per text."""
    labels = work.data.labels[work.data.rows("test")]

    def run(plan: TokenPlan | None) -> None:
        options: dict[str, Any] = {"concepts": 20, "to_the_head": False, "tokens": plan}
        module = ActivationExtractor(work.loaded, sites=[nl.Site(LAYER)], labels=labels, **options)
        make_trainer(work.config.trainer, "bench").predict(module, datamodule=work.module, return_predictions=False)

    ours, other = median_seconds(lambda: run(TokenPlan(0)), lambda: run(None), repeats=repeats)
    what = f"extraction at layer {LAYER} of 6 with the moments and covariance of all tokens, against extraction alone"
    return entry("extract_tokens", what, ours, other, 1 / MOST_OF_EXTRACTION, repeats)
