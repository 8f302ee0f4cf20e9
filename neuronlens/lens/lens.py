"""What a run learned about its concepts as a portable artifact: erases one of them in a running model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from neuronlens.config.compose import narrowed
from neuronlens.config.plan import grid
from neuronlens.config.schema import TOKEN_POSITIONS, Config
from neuronlens.config.schema_data import PromptExample
from neuronlens.edits.base import EditBatch
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.fitting import Fitted, failure, fit_ranges, rank
from neuronlens.errors import ActivationError, ConfigError, ModelError, OutputError, unknown
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.masks import BUT_FIRST, EDITED
from neuronlens.hooks.reads import position_read
from neuronlens.lens.shape import check_shape
from neuronlens.lens.sites import asked_sites
from neuronlens.models.load import Stage, load
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.source import locate
from neuronlens.records import ActivationSet, Knobs, Site
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest, Prompt
from neuronlens.storage.cache import Store
from neuronlens.storage.files import json_types


class ConceptLens:
    """Everything that a run fitted, and the edits that can be made of it; needs the run folder alone.

    A knob left out has the run's own value (`saliency`, `range`, `intervention` and `range.tau` of its config). A knob that
    the run did not sweep is fitted when it is first asked for, from the stored activations, as the run would have.

    Attributes:
        config: the run's.
        concepts: their names, in the order of the model's labels.
        sites: where the run fitted, in the order of the model.
        model_folder: the model it was fitted on, or None for a hub id.
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
        examples: Sequence[PromptExample] = (),
        fitting: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what was fitted per site, and the shape of the model it was fitted on.

        Args:
            select: activations of the select split, on which a gate may choose its threshold.
            examples: shown in a language model's prompt.
            fitting: on which positions it was fitted, as the run's manifest has it.
        """
        self._fitting = dict(fitting or {})
        self.config, self.model_folder, self.examples = config, model_folder, tuple(examples)
        self._fitted, self._select = dict(fitted), dict(select or {})
        self._model_type, self._layer_count = model_type, layer_count
        self._builders: dict[Site, EditBuilder] = {}
        self.sites = tuple(sorted(fitted))
        self.concepts = self._fitted[self.sites[0]].activations.concepts

    @classmethod
    def load(cls, run_folder: Path | str) -> ConceptLens:
        """Return the lens of a finished run.

        Raises:
            OutputError: not the folder of a finished run, or one of a version that kept less.
            ConfigError: its config does not hold in this version.
        """
        folder = RunFolder(Path(run_folder))
        manifest = folder.read_manifest()
        fitted, select = folder.restore_fitted()
        if manifest.model_type is None or manifest.layer_count is None:
            absent = "model_type" if manifest.model_type is None else "layer_count"
            raise OutputError(f"The manifest of '{run_folder}' has no '{absent}'. Next: neuronlens run, once more.")
        return cls(
            manifest.config,
            fitted,
            select=select,
            model_type=manifest.model_type,
            layer_count=manifest.layer_count,
            model_folder=_found_from(folder.path, manifest.model_folder),
            examples=manifest.prompt.examples if manifest.prompt is not None else (),
            fitting=manifest.fitting,
        )

    def save(self, folder: Path | str) -> None:
        """Write the lens alone: what `load` reads, and none of a run's results.

        Raises:
            OutputError: the folder cannot be written.
        """
        target = RunFolder(Path(folder))
        target.write_fitted(self._fitted, self._select)
        place = self.model_folder
        place = str(Path(place).resolve()) if place is not None and Path(place).is_dir() else place
        manifest = Manifest(
            stored_config=json_types(self.config),
            seed=self.config.seed,
            concepts=self.concepts,
            model_type=self._model_type,
            layer_count=self._layer_count,
            model_folder=place,
            prompt=Prompt(examples=self.examples) if self.examples else None,
            fitting=self._fitting,
        )
        target.write_manifest(manifest)

    def load_model(self, folder: Path | str | None = None) -> LoadedModel:
        """Return the model that the lens was fitted on with its tokenizer, by the package's own loader.

        Args:
            folder: where it is now, if it has moved.

        Raises:
            ModelError: it is not there, or its labels are not the lens's concepts.
        """
        place = self.model_folder if folder is None else str(folder)
        wanted = self.config.model
        if place is not None:
            if not Path(place).is_dir():
                raise ModelError(f"The model folder '{place}' is not here. Next: lens.load_model(<folder>).")
            wanted = replace(wanted, path=place, gguf=None)
        source = locate(wanted, Store(Path(self.config.paths.cache_dir)))
        prompt = replace(self.config.dataset.prompt, examples=list(self.examples))
        stage: Stage = "ready" if wanted.finetune.blocks is None else "trained"
        return load(wanted, source, self.concepts, stage=stage, prompt=prompt)

    @contextmanager
    def erase(
        self,
        model: nn.Module,
        concept: str,
        *,
        positions: str | None = None,
        tau: float | None = None,
        gate: str | None = None,
        edit: str | None = None,
        strength: float | None = None,
        top_fraction: float | None = None,
        top_count: int | None = None,
        saliency: str | None = None,
        range: str | None = None,
        layer: int | Sequence[int] | None = None,
        site: Site | str | None = None,
    ) -> Iterator[nn.Module]:
        """Erase a concept in every `model(...)` and `model.generate(...)` of the block, and leave the model as it was.

        Args:
            positions: where: `record`, the position the run recorded, or what `nl.edited` takes; the run's
                `edit_positions` by default. See `edit` for the rest.

        Raises:
            ModelError: the model is not shaped as the one that the lens was fitted on.
            NeuronLensError: as `edit` does.
        """
        edits = self.edit(
            concept,
            tau=tau,
            gate=gate,
            edit=edit,
            strength=strength,
            top_fraction=top_fraction,
            top_count=top_count,
            saliency=saliency,
            range=range,
            layer=layer,
            site=site,
        )
        widths = {site: self._fitted[site].activations.values.shape[1] for site in edits}
        check_shape(model, model_type=self._model_type, layer_count=self._layer_count, widths=widths)
        where = self._position(model, positions or self.config.intervention.edit_positions)
        if positions is None and self._fitting.get("skips_first"):
            where = BUT_FIRST.get(where, where)
        with edited(model, edits, positions=where):
            yield model

    def edit(
        self,
        concept: str,
        *,
        tau: float | None = None,
        gate: str | None = None,
        edit: str | None = None,
        strength: float | None = None,
        top_fraction: float | None = None,
        top_count: int | None = None,
        saliency: str | None = None,
        range: str | None = None,
        layer: int | Sequence[int] | None = None,
        site: Site | str | None = None,
    ) -> dict[Site, EditBatch]:
        """Return the edits of one cell by site, float32, on the CPU: what `nl.edited` takes.

        Args:
            tau, gate, edit, strength, top_fraction, top_count, saliency, range: the knobs of a cell; None for the run's.
            layer: which layers, negatives from the end, edited at once. None for all that the run edited at once.
            site: one site instead, as a `Site` or in its written form `resid_post.5`.

        Raises:
            ConfigError: an unknown concept or knob, a value out of its range, or one that plays no part in this cell.
            SiteError: a site that was not fitted.
            ActivationError: the cell cannot be fitted.
        """
        if concept not in self.concepts:
            raise ConfigError(unknown("concept", str(concept), self.concepts))
        sites = asked_sites(self.sites, layer, site, mode=self.config.layers.mode, layer_count=self._layer_count)
        given = {"tau": tau, "gate": gate, "edit": edit, "strength": strength, "top_fraction": top_fraction}
        given |= {"top_count": top_count, "saliency": saliency, "range": range}
        own, knobs = self._cell({name: value for name, value in given.items() if value is not None})
        self._complete(own, knobs, self.sites if self.config.intervention.scope == "model" else sites)
        cell = knobs, self.concepts.index(concept)
        builders = {place: self._builder(place) for place in sites}
        for place, builder in builders.items():
            reason = builder.skip_reason(cell)
            if reason:
                raise ActivationError(f"'{concept}' cannot be erased so at {place}: {reason}.")
        return {place: builder.batch([cell]) for place, builder in builders.items()}

    def _cell(self, given: Mapping[str, Any]) -> tuple[Config, Knobs]:
        """Return the config of one cell and its knobs, as a sweep of that one cell has them."""
        for name, value in given.items():
            words = name in ("gate", "edit", "saliency", "range")
            if not isinstance(value, str if words else Real) or isinstance(value, bool):
                raise ConfigError(f"{name} is {value!r}, expected a {'name' if words else 'number'}.")
        own = narrowed(self.config, given)
        (knobs,) = grid(own)
        for name, value in given.items():
            if getattr(knobs, name) is None:
                raise ConfigError(
                    f"{name}={value!r} plays no part with gate '{knobs.gate}', edit '{knobs.edit}'"
                    f"{f' and range {knobs.range!r}' if knobs.range else ''}. Next: leave it out."
                )
        return own, knobs

    def _complete(self, own: Config, knobs: Knobs, sites: Sequence[Site]) -> None:
        """Fit what a cell needs and the run did not sweep."""
        for site in sites:
            found = self._fitted[site]
            name = knobs.saliency
            if name is not None and name not in found.rankings and failure("saliency", name) not in found.failed:
                rankings, failed = rank(own, found.activations)
                found = replace(found, rankings={**found.rankings, **rankings}, failed={**found.failed, **failed})
            name = knobs.range
            known = name is None or failure("range", name) in found.failed or (name, knobs.tau) in found.ranges
            if not known:
                ranges, failed = fit_ranges(own, found.activations)
                found = replace(found, ranges={**found.ranges, **ranges}, failed={**found.failed, **failed})
            if found is not self._fitted[site]:
                self._fitted[site] = found
                self._builders.clear()  # a builder may rank several sites as one

    def _builder(self, site: Site) -> EditBuilder:
        if site not in self._builders:
            config = self.config
            by_layer = {"none": {place.layer: found for place, found in self._fitted.items()}}
            self._builders[site] = EditBuilder(
                config,
                {"none": self._fitted[site]},
                select=self._select.get(site),
                ranked_with=by_layer if config.intervention.scope == "model" else None,
            )
        return self._builders[site]

    def _position(self, model: nn.Module, positions: str) -> str:
        if positions != "record":
            if positions not in EDITED:
                raise ConfigError(unknown("edit position", positions, ["record", *EDITED]))
            return positions
        record = self.config.model.record_position or position_read(model)
        if record not in TOKEN_POSITIONS:
            raise ConfigError(f"The run recorded '{record}', which is not one position. Next: positions='all'.")
        return record


def _found_from(run_folder: Path, model_folder: str | None) -> str | None:
    """Return the model's folder, looked for from the run folder upwards where it was written relative to elsewhere."""
    if model_folder is None or Path(model_folder).is_dir():
        return model_folder
    places = [parent / model_folder for parent in run_folder.resolve().parents]
    return str(next((place for place in places if place.is_dir()), model_folder))
