"""Tiny random models of every text model type that transformers registers: its own config class, with small numbers.

One table of field names says how small each kind of number becomes, whatever the type; per-layer lists are cut so that
every kind of layer stays. The few types that this does not fit have their own numbers in `SPECIAL`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

HEADS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "seq_cls": (AutoModelForSequenceClassification, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    "causal": (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
}
LAYERS, VOCABULARY = 3, 96
MOST_PARAMETERS = 4_000_000
"""A model past this is not tiny: some number of its config was not made small."""

SIZES: Mapping[str, int] = {
    r"(.*_)?vocab_size(_per_layer_input)?": VOCABULARY,
    r"num_hidden_layers|n_layers?|num_layers|num_(en|de)coder_layers|(en|de)coder_layers|num_blocks": LAYERS,
    r"(backbone_|true_|input_embedding_|output_embedding_|pooler_)?hidden_size|embedding_size": 32,
    r"d_model|n_embd|dim|emb_dim|embedding_dim|word_embed_proj_dim|hidden_size_per_layer_input": 32,
    r"attention_hidden_size|d_latents|lru_width|(in|out)put_embedding_size|embed_dim|out_hidden_size": 32,
    r"(.*_)?(intermediate_size|ffn_dim|ffn_hidden_size)(_mlp)?|d_ff|hidden_dim|dim_ff|dff|d_inner|feed_forward_size": 48,
    r"(.*_)?(num_)?attention_heads|n_heads?|num_heads|.*_n_heads|(linear|mamba)_num_(value_)?heads": 4,
    r"(.*_)?num_key_value_heads|num_kv_heads|num_query_groups|linear_num_key_heads": 2,
    r"qk_head_dim": 16,
    r"(.*_)?head_dim|d_head|d_kv|dim_head|kv_channels|attention_head_size|mamba_d_head|mamba_headdim|rotary_dim": 8,
    r".*_lora_rank|lora_rank|.*_lowrank|laurel_rank|mamba_dt_rank|time_step_rank|adapter_rank|gated_norm_rank|d_rel": 8,
    r"num_(local_)?experts|n_routed_experts|moe_num_experts|zero_expert_num": 4,
    r"num_experts_per_tok(en)?|moe_topk|moe_k|moe_top_k": 2,
    r"n_shared_experts|num_shared_experts|moe_num_shared_experts|first_k_dense_replace|num_dense_layers": 1,
    r"n_group|topk_group|num_expert_group|.*n_groups|mamba_ngroups|num_nextn_predict_layers|mamba_n_groups": 1,
    r".*state_size|mamba_d_state|.*chunk_size": 16,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|context_length|max_(source|target)_positions": 128,
    r"sliding_window(_size)?|local_attention|window_size|attention_window_size|attention_chunk_size": 4,
    r"index_topk": 4,
    r"image_size": 28,
    r"patch_size": 14,
}
_INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4}
_SHARED = {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"]}
SPECIAL: Mapping[str, dict[str, Any]] = {
    "bamba": {"mamba_d_head": 16, "attn_layer_indices": [1]},
    "blenderbot": {"num_hidden_layers": LAYERS},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "esm": {"vocab_size": VOCABULARY, "mask_token_id": 3},
    "esmc": {"num_key_value_heads": 4, "vocab_size": VOCABULARY},
    "falcon_h1": {"mamba_d_head": 16, "mamba_d_ssm": 64},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma4": {"text_config": {"per_layer_config": {}}},
    "gemma4_text": {"per_layer_config": {}},
    "gemma4_unified": {"text_config": {"per_layer_config": {}}},
    "gemma4_unified_text": {"per_layer_config": {}},
    "granitemoehybrid": {"mamba_d_head": 16, "layer_types": ["linear_attention", "full_attention", "linear_attention"]},
    "jamba": {"attn_layer_period": 3, "attn_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "lilt": {"hidden_size": 48, "max_2d_position_embeddings": 64},
    "mamba2": {"head_dim": 16},
    "mistral4": {"rope_parameters": None, "head_dim": 16, "qk_head_dim": 16},
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 32},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": {"text_config": {**_INDEXER, "indexer_compress_ratio": 2}},
    "qwen4_exp_text": {**_INDEXER, "indexer_compress_ratio": 2},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16]},
    "t5": {"decoder_start_token_id": 0},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 64, "attention_head_dim": 16, **_SHARED},
    "zamba2": {"attention_hidden_size": 64, "attention_head_dim": 16, **_SHARED},
}


def tiny_config(model_type: str, **more: Any) -> Any:
    """Return a small config of a type, its vocabulary of `VOCABULARY` tokens, pad 0.

    Raises:
        Exception: whatever the type's own config class raises.
    """
    kind = CONFIG_MAPPING[model_type]
    small = _shrunk(kind(), SPECIAL.get(model_type, {}))
    return kind(**{**small, **more})


def _shrunk(config: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    values = config.to_dict()
    subs = {name for name, value in vars(config).items() if hasattr(value, "to_dict")}
    layers = next((values[name] for name in values if _size(name) == LAYERS and isinstance(values[name], int)), None)
    kept = _layers_kept([v for v in values.values() if isinstance(v, list) and len(v) == layers], layers)
    for name, value in values.items():
        if name in subs:
            found[name] = _shrunk(getattr(config, name), own.get(name, {}))
        elif name == "head_dim" and value is None:
            found[name] = 8
        elif isinstance(value, bool) or value is None or name == "model_type":
            continue
        elif isinstance(value, int) and (size := _size(name)) is not None:
            found[name] = len(kept) if size == LAYERS and kept else min(size, value) if value >= 0 else value
        elif name.endswith(("_token_id", "_token_index")) and not isinstance(value, list):
            found[name] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}.get(name, 3)
        elif name == "eos_token_id":
            found[name] = 2
        elif isinstance(value, list) and layers is not None and len(value) == layers:
            cut = [value[place] for place in kept]
            size = _size(name.removesuffix("_per_layer"))
            found[name] = [min(size, v) if size and isinstance(v, int) else v for v in cut]
    if "kv_lora_rank" in found:  # latent attention: every head has keys of its own
        found["num_key_value_heads"] = 4
    found["pad_token_id"] = 0
    found |= {name: value for name, value in own.items() if name not in subs}
    return found


def _size(name: str) -> int | None:
    return next((size for pattern, size in SIZES.items() if re.fullmatch(pattern, name)), None)


def _layers_kept(lists: list[list[Any]], layers: int | None) -> list[int]:
    """Return which layers stay: the first of each kind, up to four, and at least `LAYERS` where there are as many."""
    if not layers or not lists:
        return []
    kinds: dict[str, int] = {}
    for place in range(layers):
        kinds.setdefault(str([entries[place] for entries in lists]), place)
    kept = list(kinds.values())[: LAYERS + 1]
    kept += [place for place in range(layers) if place not in kept][: max(0, LAYERS - len(kept))]
    return sorted(kept)


def tiny_model(model_type: str, head: str, seed: int = 0) -> Any:
    """Return a random model of a type in eval mode, its weights spread out enough that an edit moves its logits.

    Args:
        head: `seq_cls` or `causal`.
    Raises:
        Exception: whatever the type's own classes raise; ValueError where the model would not be tiny.
    """
    auto_class, _ = HEADS[head]
    with quiet():
        with torch.device("meta"):
            count = sum(tensor.numel() for tensor in auto_class.from_config(_config(model_type, head)).parameters())
        if count > MOST_PARAMETERS:
            raise ValueError(f"{count} parameters")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = auto_class.from_config(_config(model_type, head))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    return model.eval()


def _config(model_type: str, head: str) -> Any:
    config = tiny_config(model_type, **({"num_labels": 4} if head == "seq_cls" else {}))
    if head == "causal" and getattr(config, "is_decoder", None) is False:
        config.is_decoder = True  # an encoder's own class with a causal mask
    return config


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what transformers says about odd configs off the console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
