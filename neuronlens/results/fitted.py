"""Writes and reads what a run fitted: rankings, ranges, statistics, and the activations that they were fitted on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronlens.activations.moments import read_scatter, scatter_arrays, statistics_of
from neuronlens.config.fingerprint import fingerprint
from neuronlens.edits.fitting import Fitted
from neuronlens.errors import OutputError
from neuronlens.records import MOMENTS, ActivationRanges, ActivationSet, ConceptStatistics, Site
from neuronlens.saliency.dprime import with_second_score
from neuronlens.saliency.ranking import NeuronRanking
from neuronlens.storage.files import read_tensors, write_json, write_tensors

ACTIVATIONS = "activations.safetensors"
SHOWN_NEURONS = 8
"""Salient neurons per concept whose values stand in `neurons.safetensors`, for the histograms."""
COMPONENTS = ("weights", "means", "stds")
LAYOUT = {
    "lower, upper": "[concept, interval, neuron]",
    "count": "[concept]",
    "mean, variance, mean_abs": "[concept, neuron]",
    "weights, means, stds": "[concept, component, neuron]",
}
Arrays = dict[str, NDArray[Any]]


class FittedFiles(NamedTuple):
    """The arrays of a run's rankings, ranges and shown neurons by name, and the content of `ranges.json`."""

    ranking: Arrays
    ranges: Arrays
    neurons: Arrays
    about: dict[str, Any]


def write_fitted(
    folder: Path, fitted: Mapping[Site, Fitted], select: Mapping[Site, ActivationSet] | None = None
) -> None:
    """Write rankings, ranges with their statistics, and the fit values of every concept's most salient neurons.

    `activations.safetensors` holds all values fitted on, and those of the select split: with them every gate and edit can
    be made again (`restore_fitted`).
    """
    files, values = arrays_of(fitted, select)
    write_tensors(folder / "ranking.safetensors", files.ranking)
    write_tensors(folder / "ranges.safetensors", files.ranges)
    write_tensors(folder / "neurons.safetensors", files.neurons)
    write_tensors(folder / ACTIVATIONS, values)
    write_json(folder / "ranges.json", files.about)


def arrays_of(
    fitted: Mapping[Site, Fitted], select: Mapping[Site, ActivationSet] | None = None
) -> tuple[FittedFiles, Arrays]:
    """Return what a run fitted as arrays by name with their description, and the activations that it was fitted on.

    The shown neurons' example ids stand beside their values as UTF-8 bytes `[sample, byte]` (`example_ids` reads them).
    """
    rankings: Arrays = {}
    bounds: Arrays = {}
    shown: Arrays = {}
    values: Arrays = {}
    described = []
    for site, found in fitted.items():
        rankings |= {f"{site}/{name}": ranking.scores for name, ranking in found.rankings.items()}
        for (range_name, tau), ranges in found.ranges.items():
            name = f"{site}/{range_name}" + ("" if tau is None else f"/tau={tau}")
            bounds |= {f"{name}/lower": ranges.lower, f"{name}/upper": ranges.upper}
            bounds |= {f"{site}/{range_name}/{part}": array for part, array in ranges.components.items()}
            skipped = {ranges.concepts[concept]: reason for concept, reason in ranges.skipped.items()}
            described.append({"name": name, "site": str(site), "range": range_name, "tau": tau, "skipped": skipped})
        moments = found.activations.statistics
        bounds |= {f"{site}/{moment}": getattr(moments, moment) for moment in MOMENTS}
        shown |= _shown(site, found)
        for split, recorded in (("fit", found.activations), ("select", (select or {}).get(site))):
            if recorded is not None:
                values |= {f"{site}/{split}": recorded.values, f"{site}/{split}_labels": recorded.labels}
                values |= _of_all_tokens(f"{site}/{split}", recorded)
    concepts = next(iter(fitted.values())).activations.concepts
    sites = [{"layer": site.layer, "name": site.name, "failed": found.failed} for site, found in fitted.items()]
    about = {"concepts": concepts, "ranges": described, "layout": LAYOUT, "sites": sites}
    return FittedFiles(rankings, bounds, shown, about), values


def _of_all_tokens(where: str, recorded: ActivationSet) -> Arrays:
    """Return the moments of all tokens that `recorded.values` are a sample of; nothing where these are all there is."""
    if recorded.statistics.count.sum() == len(recorded.values):
        return {}
    moments: Arrays = {f"{where}_{name}": getattr(recorded.statistics, name) for name in MOMENTS}
    return moments | scatter_arrays(recorded.streamed, f"{where}_scatter")


def _shown(site: Site, found: Fitted) -> Arrays:
    """Return the fit values of every concept's most salient neurons, with their labels and example ids."""
    orders = [ranking.order[:, :SHOWN_NEURONS] for ranking in found.rankings.values()]
    neurons = np.unique(np.concatenate(orders, axis=1)) if orders else np.arange(0)
    recorded = found.activations
    values = {f"{site}/values": recorded.values[:, neurons], f"{site}/neurons": neurons}
    return values | {f"{site}/labels": recorded.labels, f"{site}/ids": _ids_as_bytes(recorded.ids)}


def read_fitted(folder: Path) -> FittedFiles:
    """Return the arrays of rankings, ranges and shown neurons, and their description.

    Raises:
        OutputError: a file is missing or broken.
    """
    ranking, ranges, neurons = (
        read_tensors(folder / f"{name}.safetensors") for name in ("ranking", "ranges", "neurons")
    )
    return FittedFiles(ranking, ranges, neurons, json.loads((folder / "ranges.json").read_text()))


def rankings_of(files: FittedFiles, site: str) -> dict[str, NeuronRanking]:
    """Return a site's rankings by saliency name, neurons of equal score in the order that the run had them in.

    The second score is not in the files: it follows from the moments, which are.
    """
    start = f"{site}/"
    concepts = tuple(files.about["concepts"])
    moments = _moments(files, site)
    return {
        name.removeprefix(start): with_second_score(NeuronRanking(name.removeprefix(start), own, concepts), moments)
        for name, own in files.ranking.items()
        if name.startswith(start)
    }


def _moments(files: FittedFiles, site: str) -> ConceptStatistics:
    return ConceptStatistics(*(files.ranges[f"{site}/{moment}"] for moment in MOMENTS))


def restore_fitted(folder: Path) -> tuple[dict[Site, Fitted], dict[Site, ActivationSet]]:
    """Return what `write_fitted` was given: see `fits_of`.

    Raises:
        OutputError: not the folder of a finished run, or of one that kept no activations.
    """
    if not (folder / ACTIVATIONS).is_file():
        raise OutputError(
            f"'{folder}' holds no activations.safetensors. Expected the folder of a finished run of this version. "
            "Next: neuronlens run."
        )
    return fits_of(read_fitted(folder), read_tensors(folder / ACTIVATIONS))


def fits_of(files: FittedFiles, values: Arrays) -> tuple[dict[Site, Fitted], dict[Site, ActivationSet]]:
    """Return what `arrays_of` was given: per site the fits, and the select split's activations where recorded.

    Samples have their row numbers for ids, and ranges no `law`.
    """
    concepts = tuple(files.about["concepts"])
    fitted: dict[Site, Fitted] = {}
    select: dict[Site, ActivationSet] = {}
    for entry in files.about["sites"]:
        site = Site(entry["layer"], entry["name"])
        moments = _moments(files, str(site))
        recorded = _activations(site, "fit", values, concepts, moments)
        if f"{site}/select" in values:
            select[site] = _activations(site, "select", values, concepts)
        rankings = rankings_of(files, str(site))
        described = [one for one in files.about["ranges"] if one["site"] == str(site)]
        restored = [_ranges(site, one, files.ranges, concepts, moments) for one in described]
        ranges = {(own.name, own.tau): own for own in restored}
        fitted[site] = Fitted(recorded, rankings, ranges, entry["failed"])
    return fitted, select


def _ranges(
    site: Site, entry: Mapping[str, Any], arrays: Arrays, concepts: tuple[str, ...], moments: ConceptStatistics
) -> ActivationRanges:
    """Return the ranges that an entry of `ranges.json` describes."""
    name, tau = entry["range"], entry["tau"]
    parts = {part: f"{site}/{name}/{part}" for part in COMPONENTS}
    return ActivationRanges(
        name,
        None if tau is None else float(tau),  # JSON keeps an infinite one as text
        arrays[f"{entry['name']}/lower"],
        arrays[f"{entry['name']}/upper"],
        concepts,
        moments,
        {concepts.index(concept): reason for concept, reason in entry["skipped"].items()},
        components={part: arrays[place] for part, place in parts.items() if place in arrays},
    )


def _activations(
    site: Site, split: str, arrays: Arrays, concepts: tuple[str, ...], moments: ConceptStatistics | None = None
) -> ActivationSet:
    values, labels = arrays[f"{site}/{split}"], arrays[f"{site}/{split}_labels"]
    if f"{site}/{split}_count" in arrays:
        moments = ConceptStatistics(*(arrays[f"{site}/{split}_{name}"] for name in MOMENTS))
    second = read_scatter(arrays, f"{site}/{split}_scatter")
    moments = moments or statistics_of(values, labels, len(concepts))
    ids = tuple(f"{split} {row}" for row in range(len(labels)))
    identity = fingerprint([str(site), split, values.shape])
    return ActivationSet(site, values, labels, concepts, ids, moments, identity, streamed=second)


def _ids_as_bytes(ids: Sequence[str]) -> NDArray[np.uint8]:
    encoded = np.array([name.encode() for name in ids], dtype=np.bytes_)
    return encoded.view(np.uint8).reshape(len(ids), encoded.itemsize)


def example_ids(encoded: NDArray[np.uint8]) -> list[str]:
    """Return the ids that a safetensors file holds as UTF-8 bytes `[sample, byte]`, padded with zeros.

    >>> example_ids(np.array([[97, 98], [99, 0]], dtype=np.uint8))
    ['ab', 'c']
    """
    return [row.tobytes().rstrip(b"\0").decode() for row in encoded]
