"""A model that its user loaded and holds in hand, as the record that every stage takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from torch import nn
from transformers import AutoTokenizer

from neuronlens.config.fingerprint import fingerprint
from neuronlens.errors import DataError, ModelError, SiteError
from neuronlens.hooks.blocks import blocks_of
from neuronlens.hooks.reads import position_read
from neuronlens.hooks.takes import is_causal
from neuronlens.hooks.wrapped import bare
from neuronlens.models.checkpoint import usable_positions
from neuronlens.models.classifier import model_labels
from neuronlens.models.heads.base import Labels
from neuronlens.models.heads.seq_cls import SequenceClassification
from neuronlens.models.identity import identity_of, weight_sample
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.source import reading_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST = 512
"""Tokens of a text where neither the tokenizer nor the model says how many it takes."""


def in_hand(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    record_position: str | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    name: str | None = None,
) -> LoadedModel:
    """Return the record of a model in hand; neither it nor its tokenizer is changed.

    Its concepts are the labels of its classification head; none where it has no such head.

    Args:
        model: on its own device and in its own dtype, in any wrapper that hooks see through.
        record_position: one of `schema.RECORD_POSITIONS`; None for the one that the head reads, and of a model without
            logits for the last token where it is causal, else the first.
        max_length: tokens of a text; None for what the tokenizer and the model take, at most `LONGEST`.
        name: for cards and messages; None for what the model was loaded from, or its class.

    Raises:
        ModelError: the tokenizer has no pad token.
        SiteError: no blocks are found in the model.
    """
    if tokenizer.pad_token_id is None:
        raise ModelError(
            "The tokenizer has no pad token, so texts of different lengths share no batch. Next: tokenizer.pad_token = "
            "tokenizer.eos_token."
        )
    own = cast("PreTrainedModel", bare(model))
    sample = weight_sample(model, len(blocks_of(model)) - 1)
    try:
        reads = position_read(model)
    except SiteError:  # a body without a head gives no logits
        reads = "last" if is_causal(model) else "cls"
    length = max_length or _longest(own, tokenizer)
    identity = {"weights": identity_of(sample), "max_length": length, "record_position": record_position or reads}
    return LoadedModel(
        name=name or str(getattr(own.config, "_name_or_path", "") or type(own).__name__),
        model=own,
        tokenizer=tokenizer,
        head=SequenceClassification(Labels(reads)),
        record_position=record_position or reads,
        max_length=length,
        batch_size=batch_size,
        fingerprint=fingerprint(identity),
        concepts=labels_of(own),
    )


def read_again(location: str, kind: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model of one of transformers' classes, in eval mode, and its tokenizer.

    Args:
        location: folder or hub id.
        kind: the class's name.

    Raises:
        ModelError: transformers has no such model, it cannot be read, or its checkpoint lacks weights.
    """
    found: Any = getattr(transformers, kind, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise ModelError(f"transformers has no model class '{kind}'. Next: lens.bind(model, tokenizer).")
    with reading_model(location, location if Path(location).is_dir() else None):
        chosen: Any = found
        model, report = chosen.from_pretrained(location, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(location)
    if report["missing_keys"]:
        raise ModelError(
            f"The checkpoint '{location}' of a {kind} lacks {', '.join(sorted(report['missing_keys'])[:3])}. Next: "
            "lens.bind(model, tokenizer)."
        )
    return model.eval(), tokenizer


def labels_of(model: nn.Module) -> tuple[str, ...]:
    """Return the labels of a model's classification head in the order of its logits; none where it has no such head."""
    own = bare(model)
    if not type(own).__name__.endswith("ForSequenceClassification"):
        return ()
    return model_labels(own.config.id2label)  # type: ignore[union-attr, arg-type]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode in the block, without gradients; what was in training mode is so again after it."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    known = [tokenizer.model_max_length, usable_positions(model) or LONGEST, LONGEST]
    return int(min(known))


def check_texts(texts: Sequence[str], what: str) -> list[str]:
    """Return texts as a list.

    Raises:
        DataError: there is none, or one is no text or an empty one.
    """
    if isinstance(texts, str):
        raise DataError(f"{what} takes a list of texts, got one text. Next: [text].")
    found = list(texts)
    if not found:
        raise DataError(f"{what} got no text. Expected a list of texts.")
    for place, text in enumerate(found):
        if not isinstance(text, str) or not text.strip():
            shown = "an empty one" if isinstance(text, str) else f"a {type(text).__name__}"
            raise DataError(f"{what}: text {place} is {shown}, expected a text.")
    return found
