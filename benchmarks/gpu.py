"""What a GPU makes of a Llama-3.2-3B-shaped model in bf16: extraction, a last-layer sweep, and peak memory.

`python -m benchmarks.gpu` needs a CUDA device and nothing else: weights are random, prompts are random token ids, no
file is fetched. `--tiny` runs the same code on a toy model wherever it is.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import neuronlens as nl
from benchmarks.cells import sweep_of
from benchmarks.measure import entry
from neuronlens import (
    ActivationExtractor,
    Cell,
    ConceptDataset,
    EvaluationConfig,
    Extraction,
    Knobs,
    LabelLogprob,
    Labels,
    LoadedModel,
    TrainerConfig,
    extract,
    make_trainer,
    peak_memory_gib,
    quiet_libraries,
    run_sweep,
    text_batches,
    wide_console,
    write_json,
)

TAUS = tuple(0.5 * step for step in range(1, 11))
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Shape:
    """How large the model and the job are."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    vocabulary: int
    prompts: int
    length: int
    concepts: int
    batch: int
    dtype: torch.dtype


LLAMA_3B = Shape(3072, 28, 24, 8, 8192, 128256, 2000, 200, 14, 64, torch.bfloat16)
TINY = Shape(32, 3, 4, 2, 64, 97, 24, 12, 4, 8, torch.float32)


def model_of(shape: Shape, device: str) -> Any:
    """Return a Llama of that shape with random weights, made on the device."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.hidden // shape.heads,
        intermediate_size=shape.inner,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        pad_token_id=0,
    )
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=shape.dtype)
    return model.eval()


class Job:
    """Random prompts of one length, dealt to concepts in turn, and a model that is asked for labels of one or two tokens."""

    def __init__(self, shape: Shape, device: str) -> None:
        """Make the model and the prompts."""
        self.shape, self.device = shape, device
        random = np.random.default_rng(0)
        ids = random.integers(1, shape.vocabulary, (shape.prompts, shape.length)).tolist()
        names = tuple(f"concept {number}" for number in range(shape.concepts))
        texts = tuple(str(number) for number in range(shape.prompts))
        labels = np.arange(shape.prompts) % shape.concepts
        splits = np.full(shape.prompts, "test")
        self.data = ConceptDataset("random", texts, labels, names, texts, splits, "random")
        # Every seventh label has two tokens, as a dataset's labels do: the vocabulary normalises, not the labels alone.
        tokens = tuple((1 + 2 * n, 2 + 2 * n) if n % 7 == 0 else (1 + 2 * n,) for n in range(shape.concepts))
        self.loaded = LoadedModel(
            name="random llama",
            model=model_of(shape, device),
            tokenizer=SimpleNamespace(pad_token_id=0, padding_side="left"),
            head=LabelLogprob(Labels("last", tokens, vocabulary=shape.vocabulary)),
            record_position="last",
            max_length=shape.length + 2,
            batch_size=shape.batch,
            fingerprint="random",
            prompt=SimpleNamespace(encode=lambda chosen: [ids[int(text)] for text in chosen]),
        )
        self.ids = torch.tensor(ids).split(shape.batch)
        self.trainer = TrainerConfig(accelerator="gpu" if device == "cuda" else "cpu", progress=False)
        self.fed = shape.length + sum(map(len, self.loaded.head.continuations))

    def plain(self) -> float:
        """Run every prompt through the whole model, as transformers does it, and read its last position; return seconds."""
        self.loaded.model.to(self.device)  # Lightning takes it back to the CPU after each stage
        started = time.perf_counter()
        with torch.no_grad():
            for ids in self.ids:
                logits = self.loaded.model(ids.to(self.device), logits_to_keep=1, use_cache=False).logits
                torch.log_softmax(logits.float(), -1).cpu()
        return time.perf_counter() - started

    def extraction(self) -> float:
        """Record the last layer's activations, moments and states and the unedited predictions; return seconds."""
        last, texts = self.shape.layers - 1, self.data.texts
        module = _Timed(
            self.loaded, sites=[nl.Site(last)], labels=self.data.labels, concepts=self.shape.concepts, keep=[last]
        )
        batches = text_batches(self.loaded, texts)
        make_trainer(self.trainer, "bench").predict(module, datamodule=batches, return_predictions=False)
        return module.seconds

    def extracted(self) -> Extraction:
        """Return what the sweep needs of one pass."""
        last = self.shape.layers - 1
        return extract(self.loaded, self.data, "test", sites=[nl.Site(last)], keep=[last], trainer=self.trainer)


class _Timed(ActivationExtractor):
    """The extractor with a clock that starts once the model is on its device."""

    seconds = 0.0

    def on_predict_start(self) -> None:
        """Start the clock."""
        self.seconds = -time.perf_counter()

    def on_predict_end(self) -> None:
        """Stop it; every batch has come back to the CPU by now."""
        self.seconds += time.perf_counter()


def grid(concepts: int) -> list[Cell]:
    """Return the cells: every tau and fraction under the range gate, every fraction under the neuron gate."""
    knobs = [
        Knobs(saliency="max", top_fraction=fraction, range="gaussian", tau=tau, gate="range", edit="zero", strength=1.0)
        for tau, fraction in itertools.product(TAUS, FRACTIONS)
    ]
    knobs += [
        Knobs(saliency="max", top_fraction=fraction, gate="neuron", edit="zero", strength=1.0) for fraction in FRACTIONS
    ]
    return [(entry, concept) for entry in knobs for concept in range(concepts)]


def bench(shape: Shape, device: str, repeats: int = 3) -> list[dict[str, Any]]:
    """Return the share of a plain forward's tokens/s that extraction reaches, and the cost of a last-layer cell."""
    with quiet_libraries():
        job = Job(shape, device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rounds = [(job.extraction(), job.plain()) for _ in range(repeats + 1)][1:]
        extract_s, plain_s = (statistics.median(side) for side in zip(*rounds, strict=True))
        found, cells = job.extracted(), grid(shape.concepts)
        tokens = EvaluationConfig().tokens_per_forward
        options: dict[str, Any] = {"positions": "record", "tokens_per_forward": tokens, "taus": TAUS}
        sweep = sweep_of(job.loaded, found, found, shape.layers - 1, cells, **options)
        started = time.perf_counter()
        run_sweep(sweep, job.trainer)
        sweep_s = time.perf_counter() - started
    size = f"{shape.prompts} prompts of {shape.length} tokens, {shape.layers} x {shape.hidden}, {shape.dtype}, {device}"
    per_token = extract_s / job.fed, plain_s / shape.length
    what = f"tokens/s of extraction over a plain forward's ({shape.prompts * job.fed / extract_s:.0f} tokens/s); {size}"
    rows = [entry("gpu_extract", what, *per_token, 0.95, repeats)]
    what = f"{len(cells) / sweep_s:.1f} cells/s of a last-layer sweep: {shape.concepts} concepts x ({len(TAUS)} tau range, "
    what += f"neuron) x {len(FRACTIONS)} fractions = {len(cells)} cells; one cell against a plain forward; {size}"
    rows.append(entry("gpu_cell_last_layer", what, sweep_s / len(cells), plain_s, 300.0, 1))
    memory = {"host_gib": peak_memory_gib()}
    if device == "cuda":
        memory["device_gib"] = torch.cuda.max_memory_allocated() / (1 << 30)
    where = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return [row | {"peak_memory": memory, "machine": where} for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write outputs/bench_gpu.json; without a CUDA device say so and measure nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a toy model on whatever device is there: does it run?")
    parser.add_argument("--prompts", type=int, default=None, help="how many, in the place of 2,000")
    chosen = parser.parse_args(arguments)
    console = wide_console()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not chosen.tiny:
        console.print(
            "No CUDA device was found, so nothing was measured: a 3B model in bf16 says nothing on a CPU. "
            "Next: python -m benchmarks.gpu on a machine with a GPU, or --tiny to see that the code runs."
        )
        return 0
    shape = TINY if chosen.tiny else LLAMA_3B
    rows = bench(replace(shape, prompts=chosen.prompts or shape.prompts), device)
    for row in rows:
        console.print(
            f"{row['name']}: ratio {row['ratio']:.3g}, bound {row['bound']:.3g}; {row['what']}", soft_wrap=True
        )
        console.print(f"  peak memory {row['peak_memory']}")
    if not chosen.tiny:
        write_json(Path("outputs/bench_gpu.json"), rows)
        console.print("outputs/bench_gpu.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
