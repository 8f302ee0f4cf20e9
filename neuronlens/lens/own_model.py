"""The model that a lens was fitted on: how another one is refused, and how it is loaded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from neuronlens.config.schema import Config
from neuronlens.config.schema_data import PromptExample
from neuronlens.errors import ModelError
from neuronlens.lens.shape import check_shape, check_weights, check_widths
from neuronlens.models.identity import Sample
from neuronlens.records import Site

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from neuronlens.models.loaded import LoadedModel


@dataclass(frozen=True)
class OwnModel:
    """What a lens knows of its model.

    Attributes:
        model_type: the family, as transformers calls it.
        layer_count: how many blocks.
        folder: where it was loaded from or kept; None for a hub id, or a model in hand.
        kind: the class of a model in hand, as transformers calls it; None for a run's model.
        examples: shown in a language model's prompt.
        weights: a few values of its weights; None where nobody recorded them.
    """

    model_type: str
    layer_count: int
    folder: str | None = None
    kind: str | None = None
    examples: tuple[PromptExample, ...] = ()
    weights: Sample | None = None

    def refuse_another(
        self, model: nn.Module, widths: Mapping[Site, int], *, fitted: Sequence[Site], other_model: bool
    ) -> None:
        """Refuse a model that is not this one.

        Args:
            widths: neurons at the sites that are edited.
            fitted: all sites that were fitted at.
            other_model: let another model pass where the edits fit it.

        Raises:
            ModelError: it has another shape or other weights.
        """
        if other_model:
            check_widths(model, widths)
            return
        check_shape(model, model_type=self.model_type, layer_count=self.layer_count, widths=widths)
        if self.weights is not None:
            check_weights(model, self.weights, deepest=max(site.layer for site in fitted))

    def load(self, config: Config, concepts: Sequence[str], folder: Path | str | None) -> LoadedModel:
        """Return the model with its tokenizer, head and prompt, by the package's own loader.

        Args:
            folder: where it is now, if it has moved.

        Raises:
            ModelError: it is not there, or its labels are not the lens's concepts.
        """
        from neuronlens.models.in_hand import read_again
        from neuronlens.models.load import Stage, load
        from neuronlens.models.source import locate
        from neuronlens.storage.cache import Store

        place = self.folder if folder is None else str(folder)
        wanted = config.model
        if place is not None:
            if not Path(place).is_dir():
                raise ModelError(f"The model folder '{place}' is not here. Next: lens.load_model(<folder>).")
            wanted = replace(wanted, path=place, gguf=None)
        elif not (wanted.path or wanted.wheel or wanted.hub):
            raise ModelError(
                f"The lens was fitted on a model in hand, '{wanted.name}', and knows no place to load it from. Next: "
                "lens.bind(model, tokenizer), or lens.load_model(<folder>)."
            )
        if self.kind is not None:
            return bound(config, *read_again(str(wanted.path or wanted.hub), self.kind))
        source = locate(wanted, Store(Path(config.paths.cache_dir)))
        prompt = replace(config.dataset.prompt, examples=list(self.examples))
        stage: Stage = "ready" if wanted.finetune.blocks is None else "trained"
        return load(wanted, source, concepts, stage=stage, prompt=prompt)


def bound(config: Config, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """Return a model in hand as a lens reads texts with it.

    Raises:
        ModelError: the tokenizer has no pad token.
    """
    from neuronlens.models.in_hand import in_hand

    own = config.model
    return in_hand(
        model, tokenizer, record_position=own.record_position, max_length=own.max_length, batch_size=own.batch_size
    )
