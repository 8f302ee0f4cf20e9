"""What of a run's inputs can be refused before torch and transformers are imported: the files on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.knobs import layers_of
from neuronlens.config.schema import Config
from neuronlens.data.concepts import load_concepts
from neuronlens.data.documents import load_documents
from neuronlens.data.questions import load_questions
from neuronlens.data.source import place_of
from neuronlens.data.wheels import folder_of
from neuronlens.errors import NeuronLensError
from neuronlens.models.folder import refuse_unusable, shape_in
from neuronlens.storage.cache import Store

READ_AT_MOST = 2**26
"""Bytes of a dataset that are read once more before the run; of a larger one the run itself reports what is wrong."""


def refuse_inputs(config: Config, *, data: bool = True) -> None:
    """Refuse local files that a run could not read, all of them at once.

    Args:
        data: whether texts, documents and questions are read too; a check of the model needs none.

    Raises:
        NeuronLensError: a sentence per file or folder, a line each.
    """
    found: list[str] = []
    checks = [_model, *([_texts, _prose, _questions] if data else [])]
    for check in checks:
        try:
            check(config)
        except NeuronLensError as error:
            found.append(str(error))
    if found:
        raise NeuronLensError("\n".join(found))


def refuse_inputs_of(configs: Sequence[Config]) -> None:
    """Refuse local files that one of several jobs could not read; jobs that read the same are asked once.

    Raises:
        NeuronLensError: as `refuse_inputs` does.
    """
    different = {fingerprint([one.model, one.dataset, one.evaluation.general]): one for one in configs}
    for config in different.values():
        refuse_inputs(config)


def _model(config: Config) -> None:
    place_of(config.model, f"Model '{config.model.name}'", "model")
    if config.model.path and not config.model.gguf:
        refuse_unusable(Path(config.model.path))
        _refuse_layers(config, Path(config.model.path))
    elif config.model.wheel and config.model.folder and config.model.sha256:
        store = Store(Path(config.paths.cache_dir))
        kept = folder_of(config.model.wheel, config.model.sha256, [config.model.folder], store)
        _refuse_layers(config, kept / config.model.folder)


def _refuse_layers(config: Config, folder: Path) -> None:
    layers, width = shape_in(folder)
    if layers is not None:
        layers_of(config, layers, width)


def _texts(config: Config) -> None:
    place_of(config.dataset, f"Dataset '{config.dataset.name}'", "dataset")
    if config.dataset.path and _bytes(Path(config.dataset.path)) <= READ_AT_MOST:
        load_concepts(config.dataset, Store(Path(config.paths.cache_dir)))


def _prose(config: Config) -> None:
    asked = config.evaluation.general
    if asked.perplexity and asked.documents.path and _bytes(Path(asked.documents.path)) <= READ_AT_MOST:
        load_documents(asked.documents, Store(Path(config.paths.cache_dir)))


def _questions(config: Config) -> None:
    asked = config.evaluation.general
    if asked.mmlu and asked.questions.path and _bytes(Path(asked.questions.path)) <= READ_AT_MOST:
        load_questions(asked.questions, Store(Path(config.paths.cache_dir)))


def _bytes(place: Path) -> int:
    """Return the size of a file, or of the files right in a folder."""
    files = place.iterdir() if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())
