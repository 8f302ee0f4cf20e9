"""What a model's weights must be before a number is believed: all there, none left over, each of them a finite number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neuronlens.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WIDE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Number formats that PyTorch finds the extremes of."""


def refuse_left_over(name: str, model: PreTrainedModel, report: Mapping[str, Any], *, another_head: bool) -> None:
    """Refuse weights of a checkpoint that the model has no place for: it would be another model without them.

    Args:
        name: the model's, for the message.
        report: what transformers says of the loading (`output_loading_info`).
        another_head: whether the checkpoint may hold a head that is not used; then weights of the body alone count.

    Raises:
        ModelError: some are left over, or transformers could not turn one into the model's own.
    """
    body = {child for child, _ in model.base_model.named_children()}
    left = sorted(str(entry) for entry in report["unexpected_keys"])
    if another_head:
        left = [entry for entry in left if _part(entry, model.base_model_prefix) in body]
    if left:
        raise ModelError(
            f"The checkpoint of model '{name}' holds weights that its config.json has no place for: {_few(left)}. They would "
            "be left out. Next: the config.json that belongs to these weights."
        )
    errors = [str(entry) for entry in report.get("error_msgs") or ()]
    if errors:
        raise ModelError(f"The weights of model '{name}' cannot be read: {' '.join(errors[0].split())[:300]}")


def refuse_not_finite(name: str, tensors: Mapping[str, Tensor], next_step: str) -> None:
    """Refuse weights with NaN or infinity in them; a GB takes a few tenths of a second.

    Raises:
        ModelError: with the first such weight and how many of its values are none.
    """
    for entry, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta and not _finite(tensor.detach()):
            count = int((~torch.isfinite(tensor.float())).sum())
            raise ModelError(
                f"Weight '{entry}' of model '{name}' holds NaN or infinity in {count:,} of {tensor.numel():,} values. Next: "
                f"{next_step}"
            )


def _finite(tensor: Tensor) -> bool:
    low, high = torch.aminmax(tensor if tensor.dtype in WIDE else tensor.float())  # NaN wins over every number
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _part(entry: str, prefix: str) -> str:
    """Return the module right in the body that a weight's name begins with."""
    return entry.removeprefix(f"{prefix}.").split(".")[0]


def _few(names: Iterable[str]) -> str:
    every = list(names)
    return f"{', '.join(every[:4])}{f' and {len(every) - 4} more' if len(every) > 4 else ''}"
