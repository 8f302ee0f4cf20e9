"""Tokenises one split and serves it in length-bucketed batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuronlens.hooks.takes import takes_positions
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import IntArray


@dataclass(frozen=True)
class Batch:
    """Tokenised samples of similar length.

    Attributes:
        rows: which samples of the split `[sample]`.
        inputs: `input_ids`, `attention_mask`, `position_ids` where the model reads them, and `segment` where label
            continuations follow the prompt, `[sample, position]`.
    """

    rows: IntArray
    inputs: dict[str, Tensor]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its inputs on `device`."""
        return Batch(self.rows, {name: tensor.to(device) for name, tensor in self.inputs.items()})

    def halves(self) -> tuple[Batch, Batch] | None:
        """Return the batch as two, each padded as it was; None of a single sample."""
        half = len(self.rows) // 2
        if half == 0:
            return None
        first, second = (
            Batch(self.rows[part], {name: tensor[part] for name, tensor in self.inputs.items()})
            for part in (slice(half), slice(half, None))
        )
        return first, second


def collate(
    token_ids: Sequence[Sequence[int]],
    *,
    pad_id: int,
    padding_side: str,
    positions: bool,
    continuations: Sequence[Sequence[int]] = (),
) -> dict[str, Tensor]:
    """Return model inputs for token id lists, padded to the longest on the given side.

    Args:
        continuations: token ids that stand after every prompt, each seeing the prompt and itself alone (hooks/masks.py).
    """
    tail = [token for tokens in continuations for token in tokens]
    width = max(len(ids) for ids in token_ids) + len(tail)
    input_ids = torch.full((len(token_ids), width), pad_id, dtype=torch.long)
    mask, segment, places = torch.zeros_like(input_ids), torch.zeros_like(input_ids), torch.zeros_like(input_ids)
    segment_of = torch.tensor([number for number, tokens in enumerate(continuations, 1) for _ in tokens])
    place_of = torch.tensor([place for tokens in continuations for place in range(len(tokens))])
    for row, ids in enumerate(token_ids):
        start = width - len(ids) - len(tail) if padding_side == "left" else 0
        end = start + len(ids)
        input_ids[row, start:end] = torch.as_tensor(ids, dtype=torch.long)
        mask[row, start : end + len(tail)] = 1
        places[row, start:end] = torch.arange(len(ids))
        if tail:
            after = slice(end, end + len(tail))
            input_ids[row, after], segment[row, after] = torch.tensor(tail), segment_of
            places[row, after] = len(ids) + place_of
    inputs = {"input_ids": input_ids, "attention_mask": mask}
    if positions:
        inputs["position_ids"] = places
    if tail:
        inputs["segment"] = segment
    return inputs


class TextDataModule(pl.LightningDataModule):
    """Token lists in batches of similar length, longest first, so that memory trouble shows at once and padding is small."""

    def __init__(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        pad_id: int,
        batch_size: int,
        positions: bool,
        padding_side: str,
        continuations: Sequence[Sequence[int]] = (),
    ) -> None:
        """Batch the samples' token ids.

        Args:
            positions: whether batches carry `position_ids`.
            padding_side: `left` or `right`.
            continuations: of the labels, after every prompt.
        """
        super().__init__()
        order = sorted(range(len(token_ids)), key=lambda row: (-len(token_ids[row]), row))
        options: dict[str, Any] = {"pad_id": pad_id, "padding_side": padding_side}
        options |= {"positions": positions, "continuations": continuations}
        self.batches = []
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = collate([token_ids[row] for row in rows], **options)
            self.batches.append(Batch(np.asarray(rows, dtype=np.int64), inputs))
        self.n_samples = len(token_ids)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of ready batches."""
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch on the trainer's device."""
        return batch.to(device)


def text_batches(loaded: LoadedModel, texts: Sequence[str], batch_size: int | None = None) -> TextDataModule:
    """Return the texts as the model's batches, padded on the tokenizer's side."""
    return TextDataModule(
        loaded.encode(texts),
        pad_id=loaded.tokenizer.pad_token_id,
        batch_size=batch_size or loaded.batch_size,
        positions=takes_positions(loaded.model),
        padding_side=loaded.tokenizer.padding_side,
        continuations=loaded.head.continuations,
    )
