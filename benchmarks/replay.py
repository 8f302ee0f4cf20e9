"""A sweep's cells and the extraction against plain transformers forwards, on MiniLM and 20 Newsgroups texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import neuronlens as nl
from benchmarks.cells import range_masks, sweep_of
from benchmarks.measure import entry, median_seconds
from neuronlens import (
    ActivationExtractor,
    Extraction,
    Store,
    SweepEvaluator,
    extract,
    load_concepts,
    load_model,
    locate,
    make_trainer,
    quiet_libraries,
    run_sweep,
    text_batches,
)

PER_CONCEPT = 25


class Workload:
    """MiniLM under a fresh head (speed does not depend on its training) and 500 test texts of 64 tokens at most."""

    def __init__(self, cache: Path) -> None:
        """Load model and texts once for every measurement."""
        samples = f"dataset.samples_per_concept={{train:1,fit:{PER_CONCEPT},select:0,test:{PER_CONCEPT}}}"
        self.config = nl.compose([samples, "dataset.min_samples=1", "trainer=cpu", "trainer.progress=false"])
        store = Store(cache)
        self.data = load_concepts(self.config.dataset, store)
        source = locate(self.config.model, store)
        self.loaded = load_model(self.config.model, source, self.data.concepts, stage="untrained")
        texts = [self.data.texts[row] for row in self.data.rows("test")]
        self.module = text_batches(self.loaded, texts)
        self.samples = len(texts)

    def extract(self, split: str, layer: int) -> Extraction:
        """Return one layer's activations and states."""
        return extract(self.loaded, self.data, split, sites=[nl.Site(layer)], keep=[layer], trainer=self.config.trainer)

    def plain(self, layer: int | None = None) -> None:
        """Run every batch through the whole model, zeroing half of a block's neurons by a hook where asked."""
        handle = None
        if layer is not None:

            def hook(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
                changed = output.clone()
                changed[..., ::2] = 0
                return changed

            handle = self.loaded.model.bert.encoder.layer[layer].register_forward_hook(hook)
        with torch.no_grad():
            for batch in self.module.batches:
                torch.log_softmax(self.loaded.model(**batch.inputs).logits, -1)
        if handle is not None:
            handle.remove()


def _evaluator(work: Workload, layer: int, positions: str, cells: int) -> SweepEvaluator:
    tokens = work.config.evaluation.tokens_per_forward
    options: dict[str, Any] = {"positions": positions, "tokens_per_forward": tokens}
    return sweep_of(
        work.loaded, work.extract("fit", layer), work.extract("test", layer), layer, range_masks(20, cells), **options
    )


def bench(cache: Path, repeats: int = 5) -> list[dict[str, Any]]:
    """Return the entries for cells at the last and a middle layer and for extraction."""
    rows: list[dict[str, Any]] = []
    layers = 6
    with quiet_libraries():
        work = Workload(cache)
        last = _evaluator(work, 5, "record", cells=380)
        sweep_s, plain_s = median_seconds(
            lambda: run_sweep(last, work.config.trainer), lambda: work.plain(5), repeats=repeats
        )
        what = f"one last-layer cell over {work.samples} samples (380 cells / 380) against a plain hooked forward"
        rows.append(entry("cell_last_layer", what, sweep_s / 380, plain_s, 500, repeats))
        for layer in (1, 3):
            middle = _evaluator(work, layer, "all", cells=3)
            cell_s, plain_s = median_seconds(
                lambda middle=middle: run_sweep(middle, work.config.trainer),
                lambda layer=layer: work.plain(layer),
                repeats=max(2, repeats // 2),
            )
            bound = layers / (1.15 * (layers - layer))
            what = f"one cell at layer {layer} of {layers}, all positions edited, against a plain hooked forward"
            rows.append(entry(f"cell_layer_{layer}_all_positions", what, cell_s / 3, plain_s, bound, repeats))
        rows += _extraction(work, repeats)
    return rows


def _extraction(work: Workload, repeats: int) -> list[dict[str, Any]]:
    labels = work.data.labels[work.data.rows("test")]

    def run(layer: int, to_the_head: bool) -> None:
        module = ActivationExtractor(
            work.loaded, sites=[nl.Site(layer)], labels=labels, concepts=20, to_the_head=to_the_head
        )
        make_trainer(work.config.trainer, "bench").predict(module, datamodule=work.module, return_predictions=False)

    last_s, early_s, plain_s = median_seconds(
        lambda: run(5, True), lambda: run(1, False), lambda: work.plain(), repeats=repeats
    )
    return [
        entry(
            "extract_last_layer",
            "samples/s of extraction over a plain forward's, same batches",
            last_s,
            plain_s,
            0.95,
            repeats,
        ),
        entry(
            "extract_layer_1",
            "extraction at layer 1 of 6 stops there: 6 blocks against 2",
            early_s,
            plain_s,
            2.0,
            repeats,
        ),
    ]
