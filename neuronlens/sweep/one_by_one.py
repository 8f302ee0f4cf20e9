"""Fits every cell at one site after the other, on activations under the cell's own edits at the earlier sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from neuronlens.activations.extract import Extraction
from neuronlens.activations.subsets import only_correct
from neuronlens.activations.tokens import RESERVOIR, token_plans
from neuronlens.config.schema import Config, SweepConfig
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.fitting import fit_site
from neuronlens.errors import ActivationError
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Cell, Knobs, Site
from neuronlens.sweep.controls import with_controls
from neuronlens.sweep.evaluator import BuildsEdits
from neuronlens.sweep.incremental import activations_under, fit_in_order

CELLS_AT_ONCE = 64
"""Cells whose activations under earlier edits are held at once."""
MOST_SCATTER = 1 << 26
"""Values of their covariances over tokens that are, 512 MiB in float64."""


def _own_config(config: Config, knobs: Knobs) -> Config:
    """Return the config narrowed to one cell's ranking, range and control, so that nothing else is fitted for it."""
    narrow = SweepConfig(
        saliency=None if knobs.saliency is None else [knobs.saliency],
        range=None if knobs.range is None else [knobs.range],
        tau=None if knobs.tau is None else [knobs.tau],
        control=[knobs.control or "none"],
    )
    return replace(config, sweep=narrow)


def fit_incrementally(
    config: Config,
    loaded: LoadedModel,
    sites: tuple[Site, ...],
    cells: Sequence[Cell],
    first: EditBuilder,
    fit_split: Extraction,
    select_split: Extraction | None,
) -> tuple[dict[Site, BuildsEdits], dict[Cell, str]]:
    """Return builders by site, each cell's own at every site after the first, and why some cells have none.

    Args:
        first: the first site's builder, fitted on the unedited model.
    """
    start = loaded.paths.start_of(sites[0])
    options = {"edit_positions": config.intervention.edit_positions}
    budget = config.evaluation.tokens_per_forward
    plans = token_plans(config, loaded, size=RESERVOIR // 8)
    correct = config.evaluation.fit_on == "correct" and not plans
    width = fit_split.activations[sites[0]].values.shape[1]
    most = max(1, min(CELLS_AT_ONCE, MOST_SCATTER // width**2)) if plans else CELLS_AT_ONCE

    def fit(
        builders: Mapping[Site, BuildsEdits], site: Site, left: Sequence[Cell]
    ) -> tuple[dict[Cell, EditBuilder], dict[Cell, str]]:
        """Return the site's builder of every cell under the earlier edits, and why some cells have none."""
        found: dict[Cell, EditBuilder] = {}
        refused: dict[Cell, str] = {}
        for at in range(0, len(left), most):
            some = left[at : at + most]
            seen = {
                name: activations_under(
                    loaded,
                    split.states[start],
                    builders,
                    some,
                    split.activations[site],
                    tokens_per_forward=budget,
                    trainer=config.trainer,
                    tokens=plans.get(name),
                    **options,
                )
                for name, split in (("fit", fit_split), ("select", select_split))
                if split is not None
            }
            for cell in some:
                try:
                    fit_values, *select = (entry[cell]() for entry in seen.values())
                except ActivationError as error:
                    refused[cell] = f"{site}: {error}"
                    continue
                own = _own_config(config, cell[0])
                fitted = {site: fit_site(own, only_correct(fit_values) if correct else fit_values)}
                fits = {control: group[site] for control, group in with_controls(own, fitted).items()}
                found[cell] = EditBuilder(own, fits, select=select[0] if select else None)
        return found, refused

    return fit_in_order(sites, cells, first, fit)
