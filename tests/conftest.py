"""Tiny random models of every family, a tokenizer over made-up words, and concepts that a tiny model can learn."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from neuronlens.activations.moments import statistics_of
from neuronlens.records import ActivationSet, FloatArray, IntArray, Site
from tests.seeds import pytest_configure, seeded  # noqa: F401 - a hook and a fixture for every test

WORDS = [f"w{number}" for number in range(60)]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
CONCEPTS = ("apple", "bridge", "cloud", "drum")

_SMALL = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_DECODER = {**_SMALL, "num_key_value_heads": 1, "head_dim": 8, "bos_token_id": None, "eos_token_id": None}
GEMMA3_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]  # its own default would be sliding alone
FAMILY_CONFIGS: dict[str, Callable[..., Any]] = {
    "bert": lambda **more: BertConfig(**_SMALL, **more),
    "roberta": lambda **more: RobertaConfig(**{**_SMALL, "max_position_embeddings": 66}, **more),
    "distilbert": lambda **more: DistilBertConfig(
        vocab_size=len(VOCABULARY), dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=64, **more
    ),
    "gpt2": lambda **more: GPT2Config(
        vocab_size=len(VOCABULARY), n_embd=16, n_layer=3, n_head=2, n_positions=64, pad_token_id=0, **more
    ),
    "gpt_neox": lambda **more: GPTNeoXConfig(**_SMALL, bos_token_id=None, eos_token_id=None, **more),
    "llama": lambda **more: LlamaConfig(**_DECODER, **more),
    "mistral": lambda **more: MistralConfig(**_DECODER, sliding_window=4, **more),
    "qwen2": lambda **more: Qwen2Config(**{k: v for k, v in _DECODER.items() if k != "head_dim"}, **more),
    "qwen3": lambda **more: Qwen3Config(**_DECODER, **more),
    "gemma": lambda **more: GemmaConfig(**_DECODER, **more),
    "gemma2": lambda **more: Gemma2Config(**_DECODER, sliding_window=4, **more),
    "gemma3_text": lambda **more: Gemma3TextConfig(**_DECODER, sliding_window=4, layer_types=GEMMA3_LAYERS, **more),
}
FAMILY_NAMES = sorted(FAMILY_CONFIGS)


def tiny_model(family: str, *, labels: int = len(CONCEPTS), seed: int = 0, spread: float = 6.0) -> Any:
    """Return a random classifier whose weights are spread out enough that edits move its predictions."""
    config = FAMILY_CONFIGS[family](num_labels=labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    return model.eval()


def tiny_causal(family: str, *, seed: int = 0, spread: float = 4.0) -> Any:
    """Return a random language model of a decoder family, its weights spread out enough that edits move its words."""
    config = FAMILY_CONFIGS[family]()
    config.eos_token_id = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    return model.eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words with BERT's special tokens."""
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def tiny_inputs(family: str, *, samples: int = 5, seed: int = 0, side: str = "right") -> dict[str, torch.Tensor]:
    """Return padded inputs of different lengths for a family, made without the package's code."""
    generator = random.Random(seed)
    lengths = [3 + (7 * row) % 9 for row in range(samples)]
    width = max(lengths)
    ids, mask = torch.zeros(samples, width, dtype=torch.long), torch.zeros(samples, width, dtype=torch.long)
    for row, length in enumerate(lengths):
        columns = range(width - length, width) if side == "left" else range(length)
        for column in columns:
            ids[row, column] = generator.randrange(4, len(VOCABULARY))
            mask[row, column] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family not in ("bert", "roberta", "distilbert"):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return inputs


def texts_of(concept: int, count: int, seed: int) -> list[str]:
    """Return texts whose words lean towards the concept's own fifteen."""
    generator = random.Random(f"{concept}-{seed}")
    own, length = WORDS[15 * concept : 15 * concept + 15], lambda: generator.randrange(4, 12)
    return [
        " ".join(generator.choice(own if generator.random() < 0.85 else WORDS) for _ in range(length()))
        for _ in range(count)
    ]


def write_dataset(folder: Path, *, train: int = 60, test: int = 20, seed: int = 0) -> Path:
    """Write train.csv and test.csv of four learnable concepts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, offset in (("train", train, 0), ("test", test, 1000)):
        rows = [(text, CONCEPTS[c]) for c in range(4) for text in texts_of(c, count, seed + offset)]
        pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_account() -> None:
    """Drop whatever W&B settings the machine has; what W&B itself writes there later, its service's name, is its own."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Take away the handlers that a test left on the root logger: Hydra's write to a stream that is closed by then."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local dataset of four concepts."""
    return write_dataset(tmp_path_factory.mktemp("data") / "made_up")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a head named after the dataset's concepts, kept by save_pretrained."""
    folder = tmp_path_factory.mktemp("models") / "tiny_bert"
    model = tiny_model("bert", spread=2.0)
    model.config.id2label = dict(enumerate(CONCEPTS))
    model.config.label2id = {name: number for number, name in enumerate(CONCEPTS)}
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_overrides(dataset_folder: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for a run of seconds: the tiny model trained on the local dataset."""
    work = tmp_path_factory.mktemp("work")
    return [
        "model=local",
        f"model.path={model_folder}",
        "model.max_length=16",
        "model.finetune={blocks:2,epochs:20,batch_size:16,learning_rate:0.01}",
        "dataset=local",
        f"dataset.path={dataset_folder}",
        "dataset.samples_per_concept={train:40,fit:15,select:5,test:15}",
        "sweep.top_fraction=[0.25,0.5,1.0]",
        "sweep.tau=[1.0,2.5]",
        "evaluation.bootstrap=100",
        "logger=csv",
        "trainer=cpu",
        "trainer.progress=false",
        f"paths.output_dir={work}/outputs",
        f"paths.cache_dir={work}/cache",
    ]


@pytest.fixture
def generator() -> np.random.Generator:
    """A seeded numpy generator."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def wheel_cache() -> Path:
    """The cache that `make run` uses too, so that a wheel is fetched once per checkout."""
    return Path(__file__).resolve().parent.parent / "outputs" / "cache"


MakeActivations = Callable[..., ActivationSet]


@pytest.fixture(scope="session")
def make_activations() -> MakeActivations:
    """A maker of activation sets from arrays, without a model."""

    def make(values: FloatArray, labels: IntArray, concepts: int) -> ActivationSet:
        narrow = np.asarray(values, dtype=np.float32)
        labels = np.asarray(labels)
        return ActivationSet(
            site=Site(1),
            values=narrow,
            labels=labels,
            concepts=tuple(f"c{index}" for index in range(concepts)),
            ids=tuple(str(row) for row in range(len(labels))),
            statistics=statistics_of(narrow, labels, concepts),
            fingerprint="test",
        )

    return make
