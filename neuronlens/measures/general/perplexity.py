"""Perplexity of a causal language model, and pseudo-perplexity of a masked one, unedited and under every cell's edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronlens.config.schema_run import TrainerConfig
from neuronlens.data.documents import OPTION, DocumentSet
from neuronlens.errors import DataError, ModelError
from neuronlens.hooks.takes import is_causal
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.general.reading import (
    EditedReader,
    ReadBatches,
    Reads,
    Row,
    check_length,
    read_all,
    token_log_probability,
    vocabulary_size,
)
from neuronlens.measures.intervals import Bootstrap
from neuronlens.models.checkpoint import special_tokens
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Cell, FloatArray, IntArray, Site
from neuronlens.sweep.evaluator import BuildsEdits

FEWEST_TOKENS = 2
"""A document of fewer tokens has none to predict from another (TRAPS 18)."""


@dataclass(frozen=True)
class DocumentLosses:
    """How well a model predicts each document, unedited and under every cell's edit.

    Attributes:
        measure: `perplexity`, or `pseudo_perplexity` of a masked language model.
        ids: of the documents `[document]`.
        tokens: predicted ones, so without special tokens and without a window's first where nothing stands before it
            `[document]`.
        base: negative log-likelihood of a document's tokens, summed, nats `[document]` float64.
        edited: the same under each cell's edit `[cell, document]`.
        skipped: documents too short to be predicted.
    """

    measure: str
    ids: tuple[str, ...]
    tokens: IntArray
    base: FloatArray
    edited: FloatArray
    skipped: int


def document_losses(
    loaded: LoadedModel,
    documents: DocumentSet,
    builders: Mapping[Site, BuildsEdits],
    cells: Sequence[Cell],
    *,
    max_length: int,
    tokens_per_forward: int,
    trainer: TrainerConfig,
    max_windows: int | None = None,
) -> DocumentLosses:
    """Return every document's loss under no edit and under each cell's, made at all attended positions.

    A causal model is asked for each token after those before it in its window; a masked one for each token with it alone
    masked and all others of its window in sight (Salazar et al. 2020). Special tokens are neither masked nor counted.

    Args:
        builders: by site, in the order of the model; a cell edits all of them at once.
        max_length: tokens of a window, special ones included.
        tokens_per_forward: rows x positions that one forward may hold.
        max_windows: how many windows of a document are read, from its start; None reads the whole.

    Raises:
        ModelError: no vocabulary head, too few positions, or no mask token for a masked model.
        DataError: no document of two tokens.
    """
    refuse_documents(loaded, max_length)
    causal = is_causal(loaded.model)
    encoded = loaded.tokenizer(list(documents.texts), add_special_tokens=False, verbose=False)["input_ids"]
    long_enough = [ids if len(ids) >= FEWEST_TOKENS else [] for ids in encoded]
    rows = list((_causal_rows if causal else _masked_rows)(loaded.tokenizer, long_enough, max_length, max_windows))
    predicted = np.zeros(len(encoded), dtype=np.int64)
    for row in rows:
        predicted[row.owner] += len(row.places)
    kept = np.flatnonzero(predicted)
    if not len(kept):
        raise DataError(
            f"None of the {len(encoded)} documents of '{documents.name}' has {FEWEST_TOKENS} tokens, so there is nothing to "
            f"predict. Next: {OPTION}.path=<longer prose>."
        )
    totals = np.zeros((1 + len(cells), len(encoded)))

    def keep(reads: Reads, scores: FloatArray) -> None:
        for place, own in enumerate(scores[..., 0]):
            totals[place] -= np.bincount(reads.owner, weights=own, minlength=len(encoded))

    reader = EditedReader(
        loaded.model,
        builders,
        cells,
        token_log_probability,
        positions=loaded.without_sink("all"),
        tokens_per_forward=tokens_per_forward,
        keep=keep,
    )
    measure = "perplexity" if causal else "pseudo_perplexity"
    read_all(reader, ReadBatches(rows, loaded, tokens_per_forward), trainer, measure.replace("_", "-"))
    ids = tuple(documents.ids[number] for number in kept)
    base, edited = totals[0, kept], totals[1:, kept]
    return DocumentLosses(measure, ids, predicted[kept], base, edited, len(encoded) - len(kept))


def refuse_documents(loaded: LoadedModel, max_length: int) -> None:
    """Refuse a model that gives no token a probability.

    Raises:
        ModelError: no vocabulary head, too few positions, or no mask token for a masked model.
    """
    vocabulary_size(loaded.model)
    check_length(loaded.model, max_length, f"{OPTION}.max_length")
    if not is_causal(loaded.model) and loaded.tokenizer.mask_token_id is None:
        raise ModelError(
            f"The tokenizer of '{loaded.name}' has no mask token, so no token can be asked for. Expected one that was made "
            "for masked language models. Next: evaluation.general.perplexity=false."
        )


def perplexity(losses: FloatArray, tokens: IntArray | FloatArray) -> FloatArray:
    """Return exp(total loss / total tokens) over the last axis, document.

    Every token counts alike, whatever document it is in (TRAPS 18). Infinite past what float64 holds.

    >>> float(perplexity(np.log([[8.0, 2.0]]), np.array([3, 1]))[0])
    2.0
    """
    with np.errstate(over="ignore"):
        return np.exp(losses.sum(-1) / tokens.sum(-1))


def perplexity_rows(losses: DocumentLosses, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Return one row per cell: base, edited, difference and ratio, each with its interval.

    There is no formula for the interval of exp(loss / tokens), so documents are drawn with replacement, all windows of one
    together; base and edited share every draw. There is none over fewer than two documents.
    """
    if len(losses.ids) < 2:
        bootstrap = bootstrap.off()
    weights = np.vstack([np.ones(len(losses.ids)), bootstrap.counts(len(losses.ids)).astype(np.float64)])
    tokens = (weights @ losses.tokens)[:, None]
    base = perplexity((weights @ losses.base)[:, None], tokens)
    rows = []
    for own in losses.edited:
        edited = perplexity((weights @ own)[:, None], tokens)
        with np.errstate(invalid="ignore"):
            draws = {"base": base, "edited": edited, "difference": edited - base, "ratio": edited / base}
        row: dict[str, Any] = {"measure": losses.measure, "n": len(losses.ids), "n_tokens": int(losses.tokens.sum())}
        for name, values in draws.items():
            row |= Estimate(float(values[0]), *map(float, bootstrap.bounds(values[1:]))).columns(name)
        rows.append(row)
    return rows


def _causal_rows(tokenizer: Any, encoded: Sequence[Sequence[int]], max_length: int, most: int | None) -> Iterator[Row]:
    """Give windows behind the tokens that the tokenizer starts a text with; each token but the first is predicted.

    What the tokenizer ends a text with is left out: a window is no whole text.
    """
    start, _ = special_tokens(tokenizer)
    for owner, chunk in _windows(encoded, max_length - len(start), most):
        row = [*start, *chunk]
        first = max(1, len(start))
        if len(row) > first:
            yield Row(row, range(first - 1, len(row) - 1), [[token] for token in row[first:]], owner)


def _masked_rows(tokenizer: Any, encoded: Sequence[Sequence[int]], max_length: int, most: int | None) -> Iterator[Row]:
    """Give, for each window and each of its tokens, the window with that token masked."""
    start, end = special_tokens(tokenizer)
    special = {*start, *end, tokenizer.mask_token_id, tokenizer.pad_token_id}
    for owner, chunk in _windows(encoded, max_length - len(start) - len(end), most):
        row = [*start, *chunk, *end]
        for place, token in enumerate(chunk, len(start)):
            if token not in special:
                yield Row(row, [place], [[token]], owner, mask=tokenizer.mask_token_id)


def _windows(encoded: Sequence[Sequence[int]], length: int, most: int | None) -> Iterator[tuple[int, Sequence[int]]]:
    """Give each document's first `most` pieces of at most `length` tokens, in order, with the document's index."""
    if length < 1:
        raise DataError(f"{OPTION}.max_length leaves {length} tokens beside the special ones, expected at least 1.")
    for owner, ids in enumerate(encoded):
        end = len(ids) if most is None else min(len(ids), most * length)
        for at in range(0, end, length):
            yield owner, ids[at : at + length]
