"""Reads a model's weights and its tokenizer from their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from neuronlens.config.schema import ModelConfig
from neuronlens.errors import ModelError
from neuronlens.models.adapter import labels_of, with_adapter
from neuronlens.models.source import ModelSource, reading_model
from neuronlens.models.weights import refuse_left_over, refuse_not_finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass


def read_checkpoint(
    config: ModelConfig,
    source: ModelSource,
    auto_class: type[_BaseAutoModelClass],
    *,
    to_train: bool = False,
    another_head: bool = False,
    **options: Any,
) -> tuple[PreTrainedModel, list[str]]:
    """Return a model in eval mode, and the names of its weights that the checkpoint lacks or holds in another shape.

    Args:
        auto_class: which head the model gets, such as `AutoModelForCausalLM`.
        to_train: whether the weights are trained further: an adapter is then merged into them.
        another_head: whether the checkpoint may hold a head that is not used.
        options: what else `from_pretrained` takes.

    Raises:
        ModelError: transformers cannot load it, it has no place for some weight, or one holds NaN or infinity.
    """
    if config.attn_implementation:
        options["attn_implementation"] = config.attn_implementation
    if source.revision:
        options["revision"] = config.revision
    if source.adapter is not None and "num_labels" not in options and auto_class is AutoModelForSequenceClassification:
        options |= labels_of(source.adapter, AutoConfig.from_pretrained(source.location))
    with reading_model(source.location, source.folder):
        model, info = auto_class.from_pretrained(
            source.location,
            dtype=getattr(torch, config.dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are missing, below: transformers' own error names none
            **options,
        )
    missing = sorted({*info["missing_keys"], *(str(entry[0]) for entry in info["mismatched_keys"])})
    another_head = another_head or source.adapter is not None
    if another_head or not missing:  # else the caller refuses those first
        refuse_left_over(config.name, model, info, another_head=another_head)
    if source.adapter is not None:
        model, missing = with_adapter(model, missing, source.adapter, merged=to_train)
    unread = set(missing)  # random, and refused or trained by the caller
    weights = {entry: tensor for entry, tensor in model.state_dict().items() if entry not in unread}
    step = f"copy it again, or another model.dtype than {config.dtype} where that is too narrow."
    refuse_not_finite(config.name, weights, step)
    return model.eval(), missing


def refuse_missing(config: ModelConfig, missing: list[str], next_step: str) -> None:
    """Refuse a checkpoint that lacks weights, which would be random (TRAPS 15).

    Raises:
        ModelError: it does.
    """
    if missing:
        raise ModelError(
            f"The checkpoint of model '{config.name}' lacks {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; "
            f"they would be random (they are not there, or of another shape). Next: {next_step}"
        )


def text_reader(config: ModelConfig, source: ModelSource) -> Callable[[Sequence[str]], list[tuple[int, ...]]]:
    """Return what gives the tokens that the model reads of texts: those within `model.max_length`.

    Of a language model that is asked in words the prompt takes some of that length, so texts may be the same to it that are
    not here.
    """
    tokenizer = _tokenizer(config, source)

    def reads(texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the tokens of each text, cut."""
        if not texts:
            return []
        found = tokenizer(list(texts), truncation=True, max_length=config.max_length, verbose=False)
        return [tuple(ids) for ids in found["input_ids"]]

    return reads


def _tokenizer(config: ModelConfig, source: ModelSource) -> PreTrainedTokenizerBase:
    with reading_model(source.location, source.folder):
        return AutoTokenizer.from_pretrained(source.words, revision=config.revision if source.revision else None)


def read_tokenizer(config: ModelConfig, source: ModelSource, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """Return a model's tokenizer, which pads on the right; the model's config takes over its pad token.

    A tokenizer without a pad token pads with its end or unknown token; attention masks keep pads out either way.

    Raises:
        ModelError: unreadable, without any token to pad with, of more tokens than the model has embeddings, or fewer
            positions than `model.max_length`.
    """
    tokenizer = _tokenizer(config, source)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"The tokenizer of model '{config.name}' has {len(tokenizer)} tokens and the model {rows} embeddings, expected "
            "as many at least. Next: the tokenizer that belongs to the checkpoint, saved in its folder."
        )
    if tokenizer.pad_token_id is None:
        spare = tokenizer.eos_token or tokenizer.unk_token
        if spare is None:
            raise ModelError(
                f"The tokenizer of model '{config.name}' has no pad, end or unknown token, so batches cannot be padded. "
                "Next: set its pad_token and save it beside the model."
            )
        tokenizer.pad_token = spare
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
