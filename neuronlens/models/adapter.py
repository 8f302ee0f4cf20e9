"""A PEFT adapter on a base model: where both are, and the base model with the adapter in its layers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronlens.config.extras import to_install
from neuronlens.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

FILE = "adapter_config.json"
HEADS = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
"""What transformers calls the matrix whose rows are the labels of a classification head."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's files and the base model that it was trained on.

    Attributes:
        location: folder or hub id of the adapter.
        revision: of the hub's adapter.
        base: folder or hub id of the base model, as the adapter's config names it.
    """

    location: str
    revision: str | None
    base: str


def adapter_in(folder: Path) -> Adapter | None:
    """Return the adapter that a folder holds, or None; a base named by a relative path is looked for beside it too.

    Raises:
        ModelError: it names no base model.
        ConfigError: PEFT is not installed.
    """
    if not (folder / FILE).is_file():
        return None
    named = json.loads((folder / FILE).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not named:
        raise ModelError(f"The adapter in '{folder}' names no base model (base_model_name_or_path in its {FILE}).")
    _refuse_without_peft(str(folder))
    beside = folder / named
    return Adapter(str(folder), None, str(beside) if not Path(named).is_dir() and beside.is_dir() else named)


def adapter_on_hub(name: str, revision: str | None) -> Adapter | None:
    """Return the adapter behind a hub id, or None where there is none or PEFT is not installed."""
    if to_install(name, "peft") is not None:
        return None
    from peft import PeftConfig

    try:
        found = PeftConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError):
        return None
    return Adapter(name, revision, found.base_model_name_or_path) if found.base_model_name_or_path else None


def weights_of(adapter: Adapter) -> dict[str, Any]:
    """Return the adapter's tensors by the names of the base model's modules that they go into."""
    from peft import load_peft_weights

    options: dict[str, Any] = {} if adapter.revision is None else {"revision": adapter.revision}
    found = load_peft_weights(adapter.location, device="cpu", **options)
    return {name.removeprefix("base_model.model."): tensor for name, tensor in found.items()}


def labels_of(adapter: Adapter, base: PreTrainedConfig) -> dict[str, Any]:
    """Return what the base model's head has to be for the adapter's: options of `from_pretrained`, none where it has no head.

    The names are those of a `config.json` beside the adapter, where one was saved, or the base model's own.
    """
    heads = [tensor for name, tensor in weights_of(adapter).items() if name in HEADS]
    if not heads:
        return {}
    beside = Path(adapter.location) / "config.json"
    named = json.loads(beside.read_text(encoding="utf-8")).get("id2label", {}) if beside.is_file() else base.id2label
    names = {int(number): str(label) for number, label in named.items()}
    if len(names) != len(heads[0]):
        names = {number: f"LABEL_{number}" for number in range(len(heads[0]))}
    return {"id2label": names, "label2id": {label: number for number, label in names.items()}}


def with_adapter(
    model: PreTrainedModel, missing: list[str], adapter: Adapter, *, merged: bool
) -> tuple[PreTrainedModel, list[str]]:
    """Return the base model with the adapter in its layers, and the weights that neither of the two checkpoints holds.

    What comes back is the base model's own class; its layers add what the adapter does, or have it in their weights.

    Args:
        missing: names of weights that the base model's checkpoint lacks.
        merged: whether the adapter is added to the weights, so that these can be trained further, under a head of their
            own.

    Raises:
        ModelError: the adapter does not fit, or changes what the model reads instead of its weights.
    """
    from peft import PeftModel

    try:
        adapted: Any = PeftModel.from_pretrained(
            model, adapter.location, revision=adapter.revision, ignore_mismatched_sizes=merged
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"The adapter '{adapter.location}' does not fit its base model '{adapter.base}': {reason}"
        ) from error
    if adapted.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"The adapter '{adapter.location}' puts virtual tokens before the text, so positions are not the text's. "
            "Expected one that changes weights, such as LoRA."
        )
    held = weights_of(adapter)
    found = adapted.merge_and_unload() if merged else adapted.get_base_model()
    return found.eval(), [name for name in missing if name not in held]


def _refuse_without_peft(what: str) -> None:
    sentence = to_install(f"The adapter in '{what}'", "peft")
    if sentence is not None:
        raise ConfigError(f"{sentence}.")
