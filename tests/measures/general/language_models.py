"""Tiny language models with a vocabulary head, their tokenizers, and edits that are also written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

from neuronlens.config.schema_run import TrainerConfig
from neuronlens.edits.base import EditBatch, Projection
from neuronlens.edits.detected import stacked
from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.models.heads.base import Labels
from neuronlens.models.heads.seq_cls import SequenceClassification
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Cell, Knobs
from tests.conftest import FAMILY_CONFIGS

CPU = TrainerConfig(accelerator="cpu", progress=False)
ENCODERS = ("bert", "roberta", "distilbert")
POSITIONS = 98
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PROMPT_WORDS = [
    *("A", "B", "C", "D", ".", ":", "(", ")", "Answer"),
    *("The", "following", "are", "multiple", "choice", "questions", "with", "answers", "about"),
]
WORDS = [*SPECIAL, *PROMPT_WORDS, *(f"w{number}" for number in range(64 - len(SPECIAL) - len(PROMPT_WORDS)))]


def word_tokenizer(*, side: str = "right", start: str = "", end: str = "") -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words; `start` and `end` are special tokens that it puts around a text."""
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if start or end:
        pairs = [(token, WORDS.index(token)) for token in (start, end) if token]
        core.post_processor = processors.TemplateProcessing(single=f"{start} $A {end}".strip(), special_tokens=pairs)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, mask_token="[MASK]", padding_side=side, **names)


def tiny_lm(family: str, *, seed: int = 0, spread: float = 3.0) -> Any:
    """Return a random language model whose weights are spread out enough that words differ in probability."""
    kind = AutoModelForMaskedLM if family in ENCODERS else AutoModelForCausalLM
    config = FAMILY_CONFIGS[family]()
    config.max_position_embeddings = POSITIONS + 2  # RoBERTa counts them from 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    return model.eval()


def loaded_lm(family: str, *, batch_size: int = 8, **tokenizer: str) -> LoadedModel:
    """Return a tiny language model as the package loads one."""
    reads = "cls" if family in ENCODERS else "last"
    return LoadedModel(
        name=family,
        model=tiny_lm(family),
        tokenizer=word_tokenizer(**tokenizer),  # type: ignore[arg-type]
        head=SequenceClassification(Labels(reads)),
        record_position=reads,
        max_length=16,
        batch_size=batch_size,
        fingerprint=family,
    )


def cell(number: int, edit: str = "zero") -> Cell:
    """Return a cell that is told from others by its number."""
    return Knobs(saliency="max", top_fraction=number / 10, gate="neuron", edit=edit, strength=1.0), 0


class ByHand:
    """Edits of several cells, and the same as functions of a block's output; stands in for an `EditBuilder`."""

    def __init__(self, width: int, seed: int = 0) -> None:
        """Make two gated edits and two that mix neurons, from random numbers."""
        generator = np.random.default_rng(seed)
        self.edits: dict[Cell, EditBatch] = {}
        self.functions: dict[Cell, Callable[[Tensor], Tensor]] = {}
        for number in (0, 1):
            lower = torch.tensor(generator.normal(size=(1, 1, width)) - 1, dtype=torch.float32)
            shift = torch.tensor(generator.normal(size=(1, width)), dtype=torch.float32)
            strength, scale = 1.0 - 0.3 * number, 0.5 * number
            one = torch.tensor([strength])
            self.edits[cell(number)] = GatedEdit(lower, lower + 2.5, torch.full((1, width), scale), shift, one)
            self.functions[cell(number)] = self._gated(lower[0, 0], shift[0], scale, strength)
            bias, read, write = generator.normal(size=width), *generator.normal(size=(2, 2, width)) / 4
            mixing = cell(number, "leace")
            self.edits[mixing] = ProjectionEdit.of([Projection(bias, read, write)], [1.0])
            self.functions[mixing] = self._mixing(bias, read, write)

    @property
    def cells(self) -> list[Cell]:
        """The cells, gated and mixing ones by turns."""
        return list(self.edits)

    def batch(self, cells: Sequence[Cell]) -> EditBatch:
        """Return the edits of several cells of one kind."""
        return stacked([self.edits[cell] for cell in cells])

    def mixes_neurons(self, cell: Cell) -> bool:
        """Return whether a cell's edit is one that mixes neurons."""
        return cell[0].edit == "leace"

    @staticmethod
    def _gated(lower: Tensor, shift: Tensor, scale: float, strength: float) -> Callable[[Tensor], Tensor]:
        def change(hidden: Tensor) -> Tensor:
            inside = (hidden >= lower) & (hidden <= lower + 2.5)
            moved = hidden + strength * (scale * hidden + shift - hidden)
            return torch.where(inside, moved.to(hidden.dtype), hidden)

        return change

    @staticmethod
    def _mixing(bias: np.ndarray, read: np.ndarray, write: np.ndarray) -> Callable[[Tensor], Tensor]:
        def change(hidden: Tensor) -> Tensor:
            wide = hidden.double().numpy()
            return torch.from_numpy(wide - (wide - bias) @ read.T @ write).to(hidden.dtype)

        return change


def hooked(module: Any, change: Callable[[Tensor], Tensor] | None, *, is_input: bool = False) -> Any:
    """Return the handle of a hook that puts `change` of a module's output (or input) in its place; None does nothing."""

    def after(m: Any, arguments: Any, output: Any) -> Any:
        if change is None:
            return None
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    def before(m: Any, arguments: Any) -> Any:
        return None if change is None else (change(arguments[0]), *arguments[1:])

    return module.register_forward_pre_hook(before) if is_input else module.register_forward_hook(after)
