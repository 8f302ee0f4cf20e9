"""Finds a model's files, reads its shape before anything heavy, and loads it with its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema import ModelConfig
from neuronlens.data.source import sha256_of, wheel_files
from neuronlens.errors import ModelError
from neuronlens.hooks.blocks import layer_count
from neuronlens.hooks.reads import position_read
from neuronlens.models.gguf import dequantised
from neuronlens.models.heads.heads import Head, SequenceClassification, check_labels
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.prompts import PromptBuilder
from neuronlens.storage.cache import Store


@dataclass(frozen=True)
class ModelSource:
    """A model's files before they are loaded.

    Attributes:
        location: folder or hub id, as `from_pretrained` takes it.
        identity: what its fingerprint rests on: wheel checksum, hub revision, or the hash of the folder's files.
        model_type, layer_count, width: from its config; width is the residual stream's, in neurons.
        folder: None for a hub id.
        is_encoder: whether it reads texts in both directions, as a masked language model does.
    """

    location: str
    identity: Mapping[str, Any]
    model_type: str
    layer_count: int
    width: int
    folder: str | None
    is_encoder: bool = False


def locate(config: ModelConfig, store: Store) -> ModelSource:
    """Return where the model is and what shape it has, its wheel fetched and its GGUF file dequantised if it has one.

    Raises:
        ModelError: no source, no such folder or hub id, not a transformers model or GGUF file.
        DataError: the wheel cannot be fetched or is not the one expected.
    """
    if config.path:
        folder = Path(config.path)
        if config.gguf:
            return _from_gguf(config, folder / config.gguf, {}, store)
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"model.path '{folder}' holds no config.json. Expected a folder written by save_pretrained."
            )
        return _describe(str(folder), config, {"files": _hashes(folder)}, str(folder))
    if config.wheel:
        member = config.gguf or config.folder
        if not member or (config.gguf and config.folder):
            raise ModelError(
                f"model.wheel is set with model.folder={config.folder} and model.gguf={config.gguf}. Expected one of the "
                "two: the model's folder inside the wheel, or its GGUF file there."
            )
        root = wheel_files(config.wheel, config.sha256 or "", [member], store)
        if config.gguf:
            return _from_gguf(config, root / member, {"wheel": config.sha256, "gguf": member}, store)
        folder = root / member
        return _describe(str(folder), config, {"wheel": config.sha256, "folder": config.folder}, str(folder))
    if config.gguf:
        raise ModelError("model.gguf names a file, but neither model.path nor model.wheel says where. Next: set one.")
    if config.hub:
        return _describe(config.hub, config, None, None)
    raise ModelError(f"Model '{config.name}' names no source. Expected one of model.path, model.wheel, model.hub.")


def _from_gguf(config: ModelConfig, file: Path, identity: Mapping[str, Any], store: Store) -> ModelSource:
    if not file.is_file():
        near = ", ".join(sorted(path.name for path in file.parent.glob("*.gguf"))) or "none"
        raise ModelError(f"model.gguf '{file}' is not there. GGUF files in its folder: {near}.")
    folder, known = dequantised(file, identity or {"gguf": sha256_of(file)}, store)
    return _describe(str(folder), config, known, str(folder))


def _describe(location: str, config: ModelConfig, identity: dict[str, Any] | None, folder: str | None) -> ModelSource:
    try:
        described = AutoConfig.from_pretrained(location, revision=config.revision if folder is None else None)
    except (OSError, ValueError) as error:
        raise _unreadable(location, folder, error) from error
    layers = layer_count(described)
    if layers is None:
        raise ModelError(
            f"The config of model '{location}' counts no layers. Expected a text model's, num_hidden_layers in it."
        )
    if identity is None:
        identity = {"hub": location, "revision": getattr(described, "_commit_hash", None) or config.revision}
    width = int(described.get_text_config().hidden_size)
    masked = described.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    is_encoder = masked and not (getattr(described, "is_decoder", False) or described.is_encoder_decoder)
    return ModelSource(location, identity, described.model_type, layers, width, folder, is_encoder)


def _unreadable(location: str, folder: str | None, error: Exception) -> ModelError:
    hint = "" if folder else " Next: check the network, or model.path=<folder> for a local copy."
    return ModelError(f"Cannot load model '{location}': {' '.join(str(error).split())[:300]}{hint}")


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: sha256_of(path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".bin", ".json")
    }


def load_model(
    config: ModelConfig, source: ModelSource, concepts: Sequence[str]
) -> tuple[LoadedModel, tuple[str, ...]]:
    """Return a model whose classification head is in its checkpoint, and its labels in logit order.

    Raises:
        ModelError: unreadable, weights missing from the checkpoint (TRAPS 15), labels that are not the concepts.
    """
    model, missing = _from_pretrained(config, source, AutoModelForSequenceClassification)
    if missing:
        raise ModelError(
            f"The checkpoint of model '{config.name}' lacks {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; "
            "they would be random. Next: model.finetune.blocks=2 to train them, or a checkpoint that holds them."
        )
    labels = check_labels(model.config.id2label, concepts, config.name)
    return wrap(model, _tokenizer(config, source, model), config, source), labels


def load_causal(config: ModelConfig, source: ModelSource) -> tuple[Any, Any]:
    """Return a causal language model in eval mode and its tokenizer, which pads on the left.

    A tokenizer without a pad token pads with its end or unknown token; attention masks keep pads out either way, and the
    model's generation settings stay as they came.

    Raises:
        ModelError: an encoder, unreadable, weights missing from the checkpoint (TRAPS 15; an output matrix tied to the
            embeddings is not missing), a tokenizer without any token to pad with, or one of more tokens than the model.
    """
    if source.is_encoder:
        raise ModelError(
            f"Model '{config.name}' is a {source.model_type}, an encoder, and head '{config.head}' needs a causal language "
            "model. Next: model.head=seq_cls, or a decoder such as model=smollm2."
        )
    model, missing = _from_pretrained(config, source, AutoModelForCausalLM)
    if missing:
        raise ModelError(
            f"The checkpoint of model '{config.name}' lacks {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}; "
            "they would be random. Next: a checkpoint saved with its language-model head."
        )
    tokenizer = _tokenizer(config, source, model)
    tokenizer.padding_side = "left"  # generation continues at the right end
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"The tokenizer of model '{config.name}' has {len(tokenizer)} tokens and the model {rows} embeddings, expected "
            "as many at least. Next: the tokenizer that belongs to the checkpoint, saved in its folder."
        )
    return model, tokenizer


def load_masked(config: ModelConfig, source: ModelSource, loaded: LoadedModel) -> LoadedModel:
    """Return an encoder's body under the masked-language-model head of its checkpoint, for pseudo-perplexity.

    The body is the classifier's own, fine-tuned or not, and shared with it: what is edited is what was measured.

    Raises:
        ModelError: a decoder under a classification head, or a checkpoint without a masked-language-model head.
    """
    if not source.is_encoder:
        raise ModelError(
            f"Model '{config.name}' is a decoder under head '{config.head}', which says no words. Next: "
            "model.head=label_token, or evaluation.general.perplexity=false."
        )
    model, missing = _from_pretrained(config, source, AutoModelForMaskedLM)
    if missing:
        raise ModelError(
            f"The checkpoint of model '{config.name}' has no masked-language-model head ({', '.join(missing[:2])} would be "
            "random), so it has no pseudo-perplexity. Next: evaluation.general.perplexity=false."
        )
    setattr(model, model.base_model_prefix, loaded.model.base_model)
    return replace(loaded, model=model)


def load_untrained(config: ModelConfig, source: ModelSource, concepts: Sequence[str], seed: int) -> LoadedModel:
    """Return the pretrained model under a fresh head with one label per concept, to be trained.

    Raises:
        ModelError: unreadable, or the body's own weights are missing from the checkpoint.
    """
    labels = {"num_labels": len(concepts), "id2label": dict(enumerate(concepts))}
    labels["label2id"] = {name: number for number, name in enumerate(concepts)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, missing = _from_pretrained(
            config, source, AutoModelForSequenceClassification, ignore_mismatched_sizes=True, **labels
        )
    body = [name for name in missing if name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name]
    if body:
        raise ModelError(f"The checkpoint of model '{config.name}' lacks {', '.join(body[:4])}; they would be random.")
    return wrap(model, _tokenizer(config, source, model), config, source)


def _from_pretrained(
    config: ModelConfig, source: ModelSource, auto_class: Any, **options: Any
) -> tuple[Any, list[str]]:
    if config.attn_implementation:
        options["attn_implementation"] = config.attn_implementation
    if source.folder is None:
        options["revision"] = config.revision
    try:
        model, info = auto_class.from_pretrained(
            source.location, dtype=getattr(torch, config.dtype), output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(source.location, source.folder, error) from error
    return model.eval(), sorted({*info["missing_keys"], *(str(entry[0]) for entry in info["mismatched_keys"])})


def _tokenizer(config: ModelConfig, source: ModelSource, model: Any) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.location, revision=config.revision if not source.folder else None
        )
    except (OSError, ValueError) as error:
        raise _unreadable(source.location, source.folder, error) from error
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


def usable_positions(model: Any) -> int | None:
    """Return how many tokens a text may have, or None where the model's config sets no limit.

    RoBERTa numbers its tokens from one past the padding index, so that many of its position embeddings are never used.
    """
    count = getattr(model.config, "max_position_embeddings", None)
    if count and model.config.model_type == "roberta":
        count -= model.get_input_embeddings().padding_idx + 1
    return count


def wrap(
    model: Any,
    tokenizer: Any,
    config: ModelConfig,
    source: ModelSource,
    head: Head | None = None,
    prompt: PromptBuilder | None = None,
) -> LoadedModel:
    """Return the record of a model in eval mode with its fingerprint.

    Args:
        head: how predictions are read; None for the classification head.
        prompt: of a language model.
    """
    head = head or SequenceClassification(reads=position_read(model))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    identity = {
        "model": source.identity,
        "tokenizer": fingerprint(vocabulary),
        "head": config.head,
        "dtype": config.dtype,
        "attention": model.config._attn_implementation,
        "max_length": config.max_length,
        "record_position": config.record_position or head.reads,
    }
    if prompt is not None:
        identity["prompt"] = [prompt.fingerprint, config.confidence, config.parse, config.max_new_tokens]
    return LoadedModel(
        name=config.name,
        model=model.eval(),
        tokenizer=tokenizer,
        head=head,
        record_position=config.record_position or head.reads,
        max_length=config.max_length,
        batch_size=config.batch_size,
        fingerprint=fingerprint(identity),
        folder=source.folder,
        prompt=prompt,
    )
