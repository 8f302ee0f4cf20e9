"""What was learned about some concepts, as a portable artifact: erases them in a running model and shows what it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from torch import nn

from neuronlens.config.recipe import from_recipe
from neuronlens.config.schema import Config
from neuronlens.config.schema_data import PromptExample
from neuronlens.edits.base import EditBatch
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import ConfigError, OutputError, unknown
from neuronlens.hooks.contexts import edited
from neuronlens.lens import hub
from neuronlens.lens.attach import AttachedModel
from neuronlens.lens.card import card_of
from neuronlens.lens.cells import CellKnobs, Cells
from neuronlens.lens.file import Card, Content, read_lens, write_lens
from neuronlens.lens.order import InOrder, in_order
from neuronlens.lens.own_model import OwnModel, bound
from neuronlens.lens.positions import asked_positions, edited_positions
from neuronlens.lens.shown import Shown
from neuronlens.models.identity import Sample
from neuronlens.records import ActivationSet, Site
from neuronlens.storage.files import json_types

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from neuronlens.models.loaded import LoadedModel


class Lens(Shown):
    """Everything that was fitted for some concepts in one model, and the edits that can be made of it.

    It comes from a model in hand (`nl.fit`), from a finished run (`Lens.from_run`), or from a file or hub id
    (`Lens.load`). A knob left out has the lens's own value: that of the run's config, or of the call of `nl.fit`. What was
    not fitted before is fitted when it is first asked for, from the stored activations.

    Attributes:
        cells: what was fitted per site.
        concepts: their names, in the order of the model's labels.
        sites: where it was fitted, in the order of the model.
        own: the model that it was fitted on, as far as the lens knows it.
        figures: rows of measures with their intervals, one per concept; see `evaluate`.
    """

    def __init__(
        self,
        config: Config,
        fitted: Mapping[Site, Fitted],
        *,
        select: Mapping[Site, ActivationSet] | None = None,
        model_type: str,
        layer_count: int,
        model_folder: str | None = None,
        kind: str | None = None,
        examples: Sequence[PromptExample] = (),
        weights: Sample | None = None,
        figures: Sequence[Mapping[str, Any]] = (),
        versions: Mapping[str, str] | None = None,
        fitting: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what was fitted per site, and the shape of the model it was fitted on.

        Args:
            select: activations of the select split, on which a gate may choose its threshold.
            kind: the class of a model in hand, by which it is loaded again; None for a run's model.
            examples: shown in a language model's prompt.
            weights: a few values of the model's weights; None where nobody recorded them.
            versions: of the libraries that it was made with; None for those of this process.
            fitting: on which positions it was fitted, as a run's manifest has it.
        """
        self.own = OwnModel(model_type, layer_count, model_folder, kind, tuple(examples), weights)
        self.figures, self.versions, self.fitting = tuple(figures), versions, dict(fitting or {})
        self.cells = Cells(config, fitted, select, layer_count)
        self._loaded: LoadedModel | None = None
        self.sites, self.concepts = self.cells.sites, self.cells.concepts

    @property
    def config(self) -> Config:
        """The run's config, or what the call of `nl.fit` comes to."""
        return self.cells.config

    @property
    def model_folder(self) -> str | None:
        """Where the model was loaded from or kept; None for a hub id or a model in hand."""
        return self.own.folder

    @property
    def card(self) -> Card:
        """What the lens says of itself: its model, texts, definitions, figures and versions."""
        return card_of(self.own, self.cells, self.figures, self.versions, self.fitting)

    @classmethod
    def load(cls, place: Path | str, *, revision: str | None = None) -> Lens:
        """Return the lens of a file, of a finished run's folder, or of a hub repository.

        Args:
            place: what `save` wrote, a run folder, or a hub id `owner/name`.
            revision: of the hub repository.

        Raises:
            OutputError: none of these, damaged, or of a newer version.
            ConfigError: it holds what this version does not know.
        """
        path = Path(place)
        if path.is_dir():
            return cls.from_run(path)
        if not path.exists() and hub.is_hub_id(str(place)):
            path = hub.download(str(place), revision)
        if not path.is_file():
            raise OutputError(
                f"There is no lens '{place}'. Expected a file of lens.save, a run folder, or a hub id owner/name."
            )
        content = read_lens(path)
        card = content.card
        return cls(
            from_recipe(card.recipe),
            content.fitted,
            select=content.select,
            model_type=card.model["type"],
            layer_count=card.model["layers"],
            model_folder=card.model["folder"],
            kind=card.model["class"],
            examples=card.examples,
            weights=content.weights,
            figures=card.figures,
            versions=card.versions,
            fitting=card.fitted_on["fitting"],
        )

    @classmethod
    def from_run(cls, run_folder: Path | str) -> Lens:
        """Return the lens of a finished run.

        Raises:
            OutputError: not the folder of a finished run, or one of a version that kept less.
            ConfigError: its config does not hold in this version.
        """
        from neuronlens.lens.run import (
            parts_of_run,  # reads tables and the whole config, which a lens file does without
        )

        return cls(**parts_of_run(Path(run_folder)))

    def save(self, file: Path | str) -> Path:
        """Write the lens as one safetensors file with a readable card, and return its path.

        Raises:
            OutputError: it is a folder, or cannot be written.
        """
        path = Path(file)
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder, and a lens is one file. Next: lens.save('{path / 'mine.lens'}').")
        write_lens(path, Content(self.card, self.cells.fitted, self.cells.select, self.own.weights))
        return path

    def push_to_hub(self, repository: str, *, private: bool = False, revision: str | None = None) -> str:
        """Put the lens into a repository of the Hugging Face hub and return its address; `Lens.load` takes its id.

        Args:
            repository: `owner/name`; made where it is not there.

        Raises:
            OutputError: no id of a repository, or the hub refuses.
        """
        from tempfile import TemporaryDirectory

        if not hub.is_hub_id(repository):
            raise OutputError(f"'{repository}' is no hub id. Expected owner/name.")
        with TemporaryDirectory() as folder:
            file = self.save(Path(folder) / hub.FILE)
            page = hub.page_of(json_types(self.card), repository)
            return hub.upload(file, repository, page, private=private, revision=revision)

    def bind(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> Lens:
        """Take the model and tokenizer that `explain` and `evaluate` read texts with, and return the lens.

        Raises:
            ModelError: it is not the model that the lens was fitted on, or the tokenizer has no pad token.
        """
        self._refuse_another(model, self.sites, other_model=False)
        self._loaded = bound(self.config, model, tokenizer)
        return self

    def load_model(self, folder: Path | str | None = None) -> LoadedModel:
        """Return the model that the lens was fitted on with its tokenizer, by the package's own loader.

        Args:
            folder: where it is now, if it has moved.

        Raises:
            ModelError: it is not there, or its labels are not the lens's concepts.
        """
        return self.own.load(self.config, self.concepts, folder)

    @property
    def loaded(self) -> LoadedModel:
        """The model that texts are read with: that of `nl.fit` or `bind`, else loaded when it is first needed."""
        if self._loaded is None:
            self._loaded = self.load_model()
        return self._loaded

    @contextmanager
    def erase(
        self,
        model: nn.Module,
        *concepts: str,
        positions: str | None = None,
        other_model: bool = False,
        **knobs: Unpack[CellKnobs],
    ) -> Iterator[nn.Module]:
        """Erase concepts in every `model(...)` and `model.generate(...)` of the block, and leave the model as it was.

        Several concepts are erased one after the other, in the order given: each edit sees what those before it made, and
        one that mixes neurons is fitted on that.

        Args:
            positions: where: `record`, the position the lens was fitted at, or what `nl.edited` takes; the lens's
                `edit_positions` by default.
            other_model: edit a model with other weights than the lens's own, too.
            knobs: see `edit`.

        Raises:
            ModelError: the model is not the one that the lens was fitted on.
            NeuronLensError: as `edit` does.
        """
        asked = asked_positions(self.config, positions, self.fitting)
        edits = self._edits(model, concepts, other_model, knobs)
        with edited(model, edits, positions=edited_positions(self.config, model, asked)):
            yield model

    def edit(self, concept: str, **knobs: Unpack[CellKnobs]) -> dict[Site, EditBatch]:
        """Return the edits of one cell by site, float32, on the CPU: what `nl.edited` takes.

        Args:
            knobs: `tau`, `gate`, `edit`, `strength`, `top_fraction` or `top_count`, `saliency`, `range`: of a cell; None
                for the lens's own. `layer`: which layers, negatives from the end, edited at once; None for all that were
                fitted to be edited at once. `site`: one site instead, as a `Site` or written `resid_post.5`.

        Raises:
            ConfigError: an unknown concept or knob, a value out of its range, or one that plays no part in this cell.
            SiteError: a site that was not fitted.
            ActivationError: the cell cannot be fitted.
        """
        return self.cells.edit(concept, knobs)

    def attach(
        self,
        model: nn.Module,
        *concepts: str,
        positions: str | None = None,
        other_model: bool = False,
        **knobs: Unpack[CellKnobs],
    ) -> AttachedModel:
        """Return a module of the model with the concepts erased, whose weights are saved and moved with the edits.

        Args as for `erase`. Unlike there the edits last: as long as the module is attached (`AttachedModel.detach`).

        Raises:
            NeuronLensError: as `erase` does.
        """
        asked = asked_positions(self.config, positions, self.fitting)
        edits = self._edits(model, concepts, other_model, knobs)
        return AttachedModel(model, edits, edited_positions(self.config, model, asked))

    def _edits(
        self, model: nn.Module, concepts: Sequence[str], other_model: bool, knobs: CellKnobs
    ) -> dict[Site, InOrder]:
        if not concepts:
            raise ConfigError(unknown("concept", "", self.concepts, "name one concept or several."))
        edits = in_order(self.cells.edits(concepts, knobs))
        self._refuse_another(model, tuple(edits), other_model=other_model)
        return edits

    def _refuse_another(self, model: nn.Module, sites: Sequence[Site], *, other_model: bool) -> None:
        widths = {site: self.cells.fitted[site].activations.values.shape[1] for site in sites}
        self.own.refuse_another(model, widths, fitted=self.sites, other_model=other_model)
