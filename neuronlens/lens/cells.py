"""The edits of single cells from what was fitted: a knob that was not swept is fitted when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, TypedDict

import numpy as np
import torch

from neuronlens.activations.subsets import with_values
from neuronlens.config.plan import grid
from neuronlens.config.recipe import narrowed
from neuronlens.config.schema import Config
from neuronlens.edits.base import EditBatch
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.fitting import Fitted, failure, fit_ranges, rank
from neuronlens.errors import ConfigError, unknown
from neuronlens.lens.sites import asked_sites
from neuronlens.records import ActivationSet, Cell, Knobs, Site


class CellKnobs(TypedDict, total=False):
    """What an edit is asked for by; a knob left out has the lens's own value.

    Attributes:
        tau: width of the range in standard deviations.
        gate, edit, saliency, range: names of options.
        strength: how far a value moves to its target.
        top_fraction, top_count: how many of the most salient neurons; one of the two.
        layer: which layers, negatives from the end, edited at once; None for all that were fitted to be edited at once.
        site: one site instead, as a `Site` or in its written form `resid_post.5`.
    """

    tau: float | None
    gate: str | None
    edit: str | None
    strength: float | None
    top_fraction: float | None
    top_count: int | None
    saliency: str | None
    range: str | None
    layer: int | Sequence[int] | None
    site: Site | str | None


NAMES = ("gate", "edit", "saliency", "range")
PLACES = ("layer", "site")


class Cells:
    """Everything that was fitted at some sites, and the edits of any cell there.

    Attributes:
        config: what a knob left out is taken from.
        fitted: per site.
        select: activations of the select split, on which a gate may choose its threshold.
    """

    def __init__(
        self,
        config: Config,
        fitted: Mapping[Site, Fitted],
        select: Mapping[Site, ActivationSet] | None,
        layer_count: int,
    ) -> None:
        """Take what was fitted per site."""
        self.config, self.fitted, self.select = config, dict(fitted), dict(select or {})
        self.sites = tuple(sorted(fitted))
        self.concepts = self.fitted[self.sites[0]].activations.concepts
        self._layer_count = layer_count
        self._builders: dict[Site, EditBuilder] = {}

    def index(self, concept: str) -> int:
        """Return a concept's place among the concepts.

        Raises:
            ConfigError: no such concept, with the nearest one.
        """
        if concept not in self.concepts:
            raise ConfigError(unknown("concept", str(concept), self.concepts))
        return self.concepts.index(concept)

    def edit(self, concept: str, asked: CellKnobs) -> dict[Site, EditBatch]:
        """Return the edits of one cell by site, float32, on the CPU.

        Raises:
            ConfigError: an unknown concept or knob, a value out of its range, or one that plays no part in this cell.
            SiteError: a site that was not fitted.
            ActivationError: the cell cannot be fitted.
        """
        cell, builders = self.builders(concept, asked)
        for builder in builders.values():
            builder.refuse_skipped(cell)
        return {place: builder.batch([cell]) for place, builder in builders.items()}

    def edits(self, concepts: Sequence[str], asked: CellKnobs) -> list[dict[Site, EditBatch]]:
        """Return the edits of several concepts, to be made in this order.

        An edit that mixes neurons is fitted on what the ones before it leave: only then is every concept erased (the
        projections of LEACE do not commute, and cov(x, z) = 0 stays 0 under any further linear map). Other edits are
        those of the concept alone.

        Raises:
            NeuronLensError: as `edit` does.
        """
        found: list[dict[Site, EditBatch]] = []
        cells = self
        for concept in concepts:
            if found and self.mixes(concept, asked):
                cells = cells.after(found[-1])
            found.append(cells.edit(concept, asked))
        return found

    def mixes(self, concept: str, asked: CellKnobs) -> bool:
        """Return whether a cell's edit mixes neurons."""
        cell, builders = self.builders(concept, asked)
        return next(iter(builders.values())).mixes_neurons(cell)

    def after(self, edits: Mapping[Site, EditBatch]) -> Cells:
        """Return the cells of the activations that these edits leave; rankings and ranges stay what they are."""
        fitted = {
            site: replace(found, activations=_edited(found.activations, edits.get(site)))
            for site, found in self.fitted.items()
        }
        select = {site: _edited(activations, edits.get(site)) for site, activations in self.select.items()}
        return Cells(self.config, fitted, select, self._layer_count)

    def builders(self, concept: str, asked: CellKnobs) -> tuple[Cell, dict[Site, EditBuilder]]:
        """Return a cell and who builds its edits, by site; what the cell needs is fitted.

        Raises:
            NeuronLensError: as `edit` does.
        """
        known = CellKnobs.__annotations__
        for name in asked:
            if name not in known:
                raise ConfigError(unknown("knob", name, known))
        number = self.index(concept)
        sites = asked_sites(
            self.sites,
            asked.get("layer"),
            asked.get("site"),
            mode=self.config.layers.mode,
            layer_count=self._layer_count,
        )
        given = {name: value for name, value in asked.items() if name not in PLACES and value is not None}
        own, knobs = self._cell(given)
        self._complete(own, knobs, self.sites if self.config.intervention.scope == "model" else sites)
        return (knobs, number), {place: self._builder(place) for place in sites}

    def _cell(self, given: Mapping[str, Any]) -> tuple[Config, Knobs]:
        """Return the config of one cell and its knobs, as a sweep of that one cell has them."""
        for name, value in given.items():
            words = name in NAMES
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
        """Fit what a cell needs and was not fitted before."""
        for site in sites:
            found = self.fitted[site]
            name = knobs.saliency
            if name is not None and name not in found.rankings and failure("saliency", name) not in found.failed:
                rankings, failed = rank(own, found.activations)
                found = replace(found, rankings={**found.rankings, **rankings}, failed={**found.failed, **failed})
            name = knobs.range
            known = name is None or failure("range", name) in found.failed or (name, knobs.tau) in found.ranges
            if not known:
                ranges, failed = fit_ranges(own, found.activations)
                found = replace(found, ranges={**found.ranges, **ranges}, failed={**found.failed, **failed})
            if found is not self.fitted[site]:
                self.fitted[site] = found
                self._builders.clear()  # a builder may rank several sites as one

    def _builder(self, site: Site) -> EditBuilder:
        if site not in self._builders:
            by_layer = {"none": {place.layer: found for place, found in self.fitted.items()}}
            self._builders[site] = EditBuilder(
                self.config,
                {"none": self.fitted[site]},
                select=self.select.get(site),
                ranked_with=by_layer if self.config.intervention.scope == "model" else None,
            )
        return self._builders[site]


def _edited(activations: ActivationSet, edit: EditBatch | None) -> ActivationSet:
    if edit is None:
        return activations
    hidden = torch.from_numpy(np.ascontiguousarray(activations.values))[None, :, None]
    return with_values(activations, edit(hidden)[0, :, 0].numpy(), "edited")
