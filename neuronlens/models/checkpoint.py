"""Reads a model's weights and its tokenizer from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer

from neuronlens.config.schema import ModelConfig
from neuronlens.errors import ModelError
from neuronlens.models.soundness import refuse_larger_tokenizer, refuse_not_finite, refuse_unexpected
from neuronlens.models.source import ModelSource, unreadable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass


def read_checkpoint(
    config: ModelConfig, source: ModelSource, auto_class: type[_BaseAutoModelClass], **options: Any
) -> tuple[PreTrainedModel, list[str]]:
    """Return a model in eval mode, and the names of its weights that the checkpoint lacks or holds in another shape.

    Args:
        auto_class: which head the model gets, such as `AutoModelForCausalLM`.
        options: what else `from_pretrained` takes.

    Raises:
        ModelError: transformers cannot load it.
    """
    if config.attn_implementation:
        options["attn_implementation"] = config.attn_implementation
    if source.folder is None:
        options["revision"] = config.revision
    try:
        model, info = auto_class.from_pretrained(
            source.location, dtype=getattr(torch, config.dtype), output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise unreadable(source.location, source.folder, error) from error
    refuse_unexpected(info, config.name)
    refuse_not_finite(model, config.name)
    return model.eval(), sorted({*info["missing_keys"], *(str(entry[0]) for entry in info["mismatched_keys"])})


def refuse_missing(config: ModelConfig, missing: list[str], next_step: str) -> None:
    """Refuse a checkpoint that lacks weights, which would be random (TRAPS 15).

    Raises:
        ModelError: it does.
    """
    if missing:
        raise ModelError(
            f"The checkpoint of model '{config.name}' lacks {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; "
            f"they would be random. Next: {next_step}"
        )


def read_tokenizer(config: ModelConfig, source: ModelSource, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """Return a model's tokenizer, which pads on the right; the model's config takes over its pad token.

    A tokenizer without a pad token pads with its end or unknown token; attention masks keep pads out either way.

    Raises:
        ModelError: unreadable, without any token to pad with, or fewer positions than `model.max_length`.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.location, revision=config.revision if not source.folder else None
        )
    except (OSError, ValueError) as error:
        raise unreadable(source.location, source.folder, error) from error
    if tokenizer.pad_token_id is None:
        spare = tokenizer.eos_token or tokenizer.unk_token
        if spare is None:
            raise ModelError(
                f"The tokenizer of model '{config.name}' has no pad, end or unknown token, so batches cannot be padded. "
                "Next: set its pad_token and save it beside the model."
            )
        tokenizer.pad_token = spare
    refuse_larger_tokenizer(tokenizer, model, config.name)
    tokenizer.padding_side = "right"  # an encoder's head reads position 0; decoders give the same on either side
    model.config.pad_token_id = tokenizer.pad_token_id
    longest = usable_positions(model)
    if longest and config.max_length > longest:
        raise ModelError(f"model.max_length is {config.max_length}; '{config.name}' has {longest} positions.")
    return tokenizer


def usable_positions(model: PreTrainedModel) -> int | None:
    """Return how many tokens a text may have, or None where the model's config sets no limit.

    RoBERTa numbers its tokens from one past the padding index, so that many of its position embeddings are never used.
    """
    count: int | None = getattr(model.config, "max_position_embeddings", None)
    if count and model.config.model_type == "roberta":
        count -= model.get_input_embeddings().padding_idx + 1
    return count


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer puts before and after a text of its own accord.

    Raises:
        ModelError: the tokens of a text with special tokens do not hold those of the text without.
    """
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return list(whole[:start]), list(whole[start + len(bare) :])
    raise ModelError(
        f"The tokenizer turns 'a' into {whole} with its special tokens and into {bare} without: expected these within."
    )
