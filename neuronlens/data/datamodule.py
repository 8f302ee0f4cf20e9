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

from neuronlens.records import IntArray


@dataclass(frozen=True)
class Batch:
    """Tokenised samples of similar length.

    Attributes:
        rows: which samples of the split `[sample]`.
        inputs: `input_ids`, `attention_mask` (and `position_ids` where the model reads them) `[sample, position]`.
    """

    rows: IntArray
    inputs: dict[str, Tensor]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its inputs on `device`."""
        return Batch(self.rows, {name: tensor.to(device) for name, tensor in self.inputs.items()})


def position_ids(attention_mask: Tensor) -> Tensor:
    """Return each token's place among the attended ones `[sample, position]`; pads get 0 (TRAPS 2).

    >>> position_ids(torch.tensor([[0, 0, 1, 1, 1]])).tolist()
    [[0, 0, 0, 1, 2]]
    """
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def collate(
    token_ids: Sequence[Sequence[int]], *, pad_id: int, padding_side: str, positions: bool
) -> dict[str, Tensor]:
    """Return model inputs for token id lists, padded to the longest on the given side."""
    width = max(len(ids) for ids in token_ids)
    input_ids = torch.full((len(token_ids), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(token_ids):
        columns = slice(width - len(ids), width) if padding_side == "left" else slice(0, len(ids))
        input_ids[row, columns] = torch.as_tensor(ids, dtype=torch.long)
        mask[row, columns] = 1
    inputs = {"input_ids": input_ids, "attention_mask": mask}
    if positions:
        inputs["position_ids"] = position_ids(mask)
    return inputs


class TextDataModule(pl.LightningDataModule):
    """Texts in batches of similar length, longest first, so that memory trouble shows at once and padding is small."""

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Any,
        *,
        max_length: int,
        batch_size: int,
        positions: bool,
        padding_side: str,
    ) -> None:
        """Tokenise `texts`, truncated to `max_length` tokens.

        Args:
            positions: whether batches carry `position_ids`.
            padding_side: `left` or `right`.
        """
        super().__init__()
        encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
        order = sorted(range(len(encoded)), key=lambda row: (-len(encoded[row]), row))
        pad_id = tokenizer.pad_token_id
        self.batches = []
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            token_ids = [encoded[row] for row in rows]
            inputs = collate(token_ids, pad_id=pad_id, padding_side=padding_side, positions=positions)
            self.batches.append(Batch(np.asarray(rows, dtype=np.int64), inputs))
        self.n_samples = len(encoded)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of ready batches."""
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch on the trainer's device."""
        return batch.to(device)
