"""A language model's cells and extraction against plain transformers forwards: SmolLM2 under prompts of 200 tokens.

`python -m benchmarks.run language` prints the entries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import neuronlens as nl
from benchmarks.cells import range_masks, sweep_of
from benchmarks.measure import entry, median_seconds
from neuronlens import (
    ActivationExtractor,
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

PROMPT = 200
"""Tokens of every prompt: seven examples, a post, and where the topic goes, cut to so many."""
RECORD_LAYERS, ALL_LAYERS = (0, 15, 28), (0, 15, 25)
CELLS = 140
"""Cells of each sweep that edits one position: what they share, their prompts' keys, is part of the time of each."""


class Workload:
    """SmolLM2 under few-shot prompts on newsgroup topics, scored by label log-probability; one label has two tokens."""

    def __init__(self, cache: Path, per_concept: int) -> None:
        """Load model and posts once for every measurement."""
        samples = f"dataset.samples_per_concept={{train:1,fit:2,select:0,test:{per_concept}}}"
        overrides = ["model=smollm2", f"model.max_length={PROMPT + 2}", "dataset=newsgroups_topics", samples]
        # Prompts of the bench's own, so that another default prompt does not change what is measured.
        overrides += ["dataset.prompt.template='Post: {text}\\nTopic:'", "dataset.prompt.shots=7"]
        overrides += ["dataset.prompt.max_shot_tokens=16", "dataset.prompt.max_text_tokens=null"]
        overrides += ["++dataset.prompt.labels.forsale='for sale'"]
        self.config = nl.compose([*overrides, "dataset.min_samples=1", "trainer=cpu", "trainer.progress=false"])
        store = Store(cache)
        self.data = load_concepts(self.config.dataset, store)
        source, prompt = locate(self.config.model, store), self.config.dataset.prompt
        self.loaded = load_model(self.config.model, source, self.data.concepts, prompt=prompt, data=self.data)
        texts = [self.data.texts[row] for row in self.data.rows("test")]
        prompts = self.loaded.encode(texts)
        assert {len(ids) for ids in prompts} == {PROMPT}, "every prompt is cut to the same length, so none is padded"
        self.samples = len(texts)
        self.batches = text_batches(self.loaded, texts)
        ((continuation),) = self.loaded.head.continuations
        size = self.loaded.batch_size
        self.plain_batches = [
            torch.tensor([[*ids, *continuation] for ids in prompts[at : at + size]])
            for at in range(0, self.samples, size)
        ]

    def plain(self, layer: int | None = None) -> Tensor:
        """Return the labels' log-probabilities `[sample, concept]` as one would get them by transformers alone.

        One forward per batch with the two-token label's first token behind every prompt, logits at these two places,
        and a hook that zeroes half of a block's neurons at the prompt's last token where a layer is given.
        """
        handle = None
        if layer is not None:

            def hook(module: Any, arguments: Any, output: Tensor) -> Tensor:
                changed = output.clone()
                changed[:, PROMPT - 1, ::2] = 0
                return changed

            handle = self.loaded.model.model.layers[layer].register_forward_hook(hook)
        scores = []
        with torch.no_grad():
            for ids in self.plain_batches:
                logits = self.loaded.model(input_ids=ids, logits_to_keep=2, use_cache=False).logits
                log_probabilities = torch.log_softmax(logits, -1)
                steps = [
                    [log_probabilities[:, place, token] for place, token in enumerate(label)] for label in self.labels
                ]
                scores.append(torch.stack([torch.stack(label).mean(0) for label in steps], dim=1))
        if handle is not None:
            handle.remove()
        return torch.log_softmax(torch.cat(scores), -1)

    @property
    def labels(self) -> tuple[tuple[int, ...], ...]:
        """Token ids per concept."""
        return self.loaded.head.labels.tokens

    def extraction(self) -> None:
        """Record the last layer's activations and states and the unedited predictions."""
        labels = self.data.labels[self.data.rows("test")]
        last = len(self.loaded.model.model.layers) - 1
        options: dict[str, Any] = {"sites": [nl.Site(last)], "keep": [last], "concepts": len(self.data.concepts)}
        module = ActivationExtractor(self.loaded, labels=labels, **options)
        make_trainer(self.config.trainer, "bench").predict(module, datamodule=self.batches, return_predictions=False)


def bench(cache: Path, repeats: int = 3, *, per_concept: int = 2, cells: int = CELLS) -> list[dict[str, Any]]:
    """Return the entries for cells at the last layer, at one position and at all positions, and for extraction."""
    with quiet_libraries():
        work = Workload(cache, per_concept)
        layers = len(work.loaded.model.model.layers)
        sweeps = _sweeps(work, layers, cells)
        ours = [lambda sweep=sweep: run_sweep(sweep, work.config.trainer) for _, sweep, _ in sweeps]
        plain_s, extract_s, *taken = median_seconds(
            lambda: work.plain(layers // 2), work.extraction, *ours, repeats=repeats
        )
    shared = f"over {work.samples} prompts of {PROMPT} tokens"
    rows = []
    for (name, sweep, bound), seconds in zip(sweeps, taken, strict=True):
        count = len(sweep.cells)
        what = f"one cell ({count} cells / {count}) {shared}, edited at {_where(name)}, against a plain hooked forward"
        rows.append(entry(name, what, seconds / count, plain_s, bound, repeats))
    what = f"SmolLM2: tokens/s of extraction, last layer's states and label scores, over a plain forward's, {shared}"
    rows.append(entry("lm_extract", what, extract_s, plain_s, 0.95, repeats))
    return rows


def _where(name: str) -> str:
    _, positions, layer = name.split("_")
    return f"{'the record position' if positions == 'record' else 'all positions'} of layer {layer}"


def _sweeps(work: Workload, layers: int, cells: int) -> list[tuple[str, SweepEvaluator, float]]:
    """Return (name, sweep, bound on plain / ours) per kind of cell, once both sides are seen to say the same."""
    last = layers - 1
    chosen = sorted({last, *RECORD_LAYERS, *ALL_LAYERS})
    found = extract(
        work.loaded,
        work.data,
        "test",
        sites=[nl.Site(layer) for layer in chosen],
        keep=chosen,
        trainer=work.config.trainer,
    )
    assert found.log_probabilities is not None
    torch.testing.assert_close(work.plain(), torch.from_numpy(found.log_probabilities), atol=1e-3, rtol=1e-3)

    def sweep(layer: int, positions: str, count: int) -> SweepEvaluator:
        tokens = work.config.evaluation.tokens_per_forward
        grid = range_masks(len(work.data.concepts), count)
        # Fitted on the samples it is evaluated on, which would be wrong anywhere else: only time counts here.
        return sweep_of(work.loaded, found, found, layer, grid, positions=positions, tokens_per_forward=tokens)

    rows = [(f"lm_record_{last}", sweep(last, "record", 2 * cells), 300.0)]
    rows += [(f"lm_record_{layer}", sweep(layer, "record", cells), 30.0) for layer in RECORD_LAYERS]
    rows += [
        (f"lm_all_{layer}", sweep(layer, "all", 1 if layer == 0 else 2), layers / (1.15 * (layers - layer)))
        for layer in ALL_LAYERS
    ]
    return rows
