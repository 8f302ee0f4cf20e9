"""What the neuron explorer of the report page needs: values, laws, intervals and texts, from a run folder's files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuronlens.records import IntArray
from neuronlens.report.page.values import Json, rounded
from neuronlens.results.fitted import COMPONENTS, SHOWN_NEURONS, example_ids, rankings_of
from neuronlens.results.folder import RunFolder
from neuronlens.saliency.ranking import NeuronRanking

Rankings = Mapping[str, Mapping[str, NeuronRanking]]
"""By site and saliency name."""
VALUE_BYTES = 1_300_000
"""Most that the activations may take in the page, as base64 text."""
TEXT_CHARACTERS = 600_000
"""Most that all texts may take; each has at most `LONGEST_TEXT`."""
LONGEST_TEXT = 300
SHORTEST_TEXT = 60
FEWEST_SAMPLES = 20  # per concept, below which fewer neurons and then fewer sites are shown instead


def explorer_data(folder: RunFolder, left_out: list[str]) -> Json:
    """Return sites, their salient neurons' values on the fit split with laws and intervals, and the samples' texts.

    Samples are matched with their texts by example id. Values are float32, bounds are rounded to float32 as the edit
    compares them, both as base64 of little-endian bytes; nothing is quantised. Where a run is too large for a page, fewer
    neurons, samples and sites are taken.

    Args:
        left_out: gets a sentence for each thing that did not fit or is not in the folder.

    Returns:
        `sites`, `samples` (label number and text); both empty where nothing was fitted.
    """
    files = folder.read_fitted()
    _, ranges, shown, about = files
    names = [
        name for name in dict.fromkeys(key.rpartition("/")[0] for key in files.ranking) if f"{name}/values" in shown
    ]
    rankings = {name: rankings_of(files, name) for name in names}
    if not names:
        return {"sites": [], "samples": {"label": [], "text": []}}
    names = _of_the_same_samples(names, shown, left_out)
    plan = _plan(names, rankings, shown)
    _name_the_rest(plan, names, shown, left_out)
    rows = _kept_rows(shown[f"{names[0]}/labels"], plan["samples"])
    sites = [_site(name, rankings, ranges, shown, about, plan["neurons"], rows) for name in plan["sites"]]
    return {"sites": sites, "samples": _samples(folder, shown, names[0], about["concepts"], rows, left_out)}


def _of_the_same_samples(names: list[str], shown: Mapping[str, NDArray[Any]], left_out: list[str]) -> list[str]:
    """Return the sites that show the same samples, most of them; below the last layer these may be tokens."""
    groups: dict[bytes, list[str]] = {}
    for name in names:
        parts = [shown[key].tobytes() for key in (f"{name}/labels", f"{name}/ids") if key in shown]
        groups.setdefault(b"".join(parts), []).append(name)
    kept = max(reversed(groups.values()), key=len)
    if len(kept) < len(names):
        missing = ", ".join(name for name in names if name not in kept)
        left_out.append(
            f"From the neuron explorer: the sites {missing}, which were fitted on other tokens than the rest."
        )
    return kept


def _places(rankings: Rankings, site: str, count: int) -> dict[str, IntArray]:
    """Return each ranking's most salient neurons `[concept, place]`."""
    return {name: found.order[:, :count] for name, found in rankings[site].items()}


def _plan(names: Sequence[str], rankings: Rankings, shown: Mapping[str, NDArray[Any]]) -> Json:
    """Return which sites, how many neurons of each concept and how many samples of each concept fit into the page."""
    largest = int(np.bincount(shown[f"{names[0]}/labels"]).max(initial=1))
    concepts = len(np.unique(shown[f"{names[0]}/labels"]))
    kept, neurons, fits = list(names), SHOWN_NEURONS, 0
    while True:
        columns = sum(len(_union(_places(rankings, name, neurons))) for name in kept)
        fits = int(VALUE_BYTES * 3 / 4 / 4 / max(columns * concepts, 1))
        if fits >= min(largest, FEWEST_SAMPLES):
            break
        if neurons > 2:
            neurons //= 2
        elif len(kept) > 1:  # every other one from the end, so that the last site stays
            kept = kept[::-1][::2][::-1]
        else:
            break
    return {"sites": kept, "neurons": neurons, "samples": min(max(fits, 1), largest)}


def _union(places: Mapping[str, IntArray]) -> IntArray:
    return np.unique(np.concatenate([order.ravel() for order in places.values()]))


def _name_the_rest(plan: Json, names: Sequence[str], shown: Mapping[str, NDArray[Any]], left_out: list[str]) -> None:
    if len(plan["sites"]) < len(names):
        missing = ", ".join(name for name in names if name not in plan["sites"])
        left_out.append(f"From the neuron explorer: the sites {missing}.")
    if plan["neurons"] < SHOWN_NEURONS:
        left_out.append(f"From the neuron explorer: all but {plan['neurons']} neurons of each concept.")
    labels = shown[f"{names[0]}/labels"]
    kept = int(np.minimum(np.bincount(labels), plan["samples"]).sum())
    if kept < len(labels):
        left_out.append(
            f"From the neuron explorer: {len(labels) - kept} of the {len(labels)} samples fitted on; it shows at most "
            f"{plan['samples']} of each concept, taken at even steps, and densities are over those. Laws and intervals are "
            "of all samples."
        )


def _kept_rows(labels: IntArray, most: int) -> IntArray:
    """Return at most that many rows of each concept, at even steps, ascending."""
    kept = []
    for concept in np.unique(labels):
        rows = np.flatnonzero(labels == concept)
        kept.append(rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int))])
    return np.sort(np.concatenate(kept)) if kept else np.arange(0)


def _site(
    name: str,
    rankings: Rankings,
    ranges: Mapping[str, NDArray[Any]],
    shown: Mapping[str, NDArray[Any]],
    about: Json,
    count: int,
    rows: IntArray,
) -> Json:
    places = _places(rankings, name, count)
    neurons, kept = _union(places), shown[f"{name}/neurons"]
    columns = np.searchsorted(kept, neurons)
    ordered = []
    for ranking, order in places.items():
        at = np.take_along_axis(rankings[name][ranking].scores, order, axis=1)
        ordered.append({"name": ranking, "order": order.tolist(), "scores": [rounded(row) for row in at]})
    entries = [entry for entry in about["ranges"] if entry["site"] == name]
    return {
        "name": name,
        "neurons": neurons.tolist(),
        "values": encoded(shown[f"{name}/values"][np.ix_(rows, columns)].T),
        "rankings": ordered,
        "mean": encoded(ranges[f"{name}/mean"][:, neurons]),
        "std": encoded(np.sqrt(ranges[f"{name}/variance"][:, neurons])),
        "ranges": [_range(entry, name, ranges, neurons) for entry in entries],
    }


def _range(entry: Json, site: str, ranges: Mapping[str, NDArray[Any]], neurons: IntArray) -> Json:
    """Return one range's bounds `[concept, interval, neuron]`, and its mixture's components where it has one."""
    lower, upper = (ranges[f"{entry['name']}/{end}"][:, :, neurons] for end in ("lower", "upper"))
    found: Json = {"range": entry["range"], "tau": entry["tau"], "intervals": lower.shape[1]}
    found |= {"lower": encoded(lower), "upper": encoded(upper), "skipped": entry["skipped"]}
    parts = {part: ranges.get(f"{site}/{entry['range']}/{part}") for part in COMPONENTS}
    if all(part is not None for part in parts.values()):
        found["components"] = int(next(iter(parts.values())).shape[1])  # type: ignore[union-attr]
        found |= {name: encoded(part[:, :, neurons]) for name, part in parts.items() if part is not None}
    return found


def encoded(values: NDArray[Any]) -> str:
    """Return float32 values as base64 of their little-endian bytes, in C order; the page reads them as Float32Array."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def _samples(
    folder: RunFolder,
    shown: Mapping[str, NDArray[Any]],
    site: str,
    concepts: Sequence[str],
    rows: IntArray,
    left_out: list[str],
) -> Json:
    """Return label numbers and texts of the kept rows; without texts where the folder does not say which is which."""
    labels = shown[f"{site}/labels"][rows]
    found: Json = {"label": labels.tolist(), "text": [None] * len(rows)}
    if f"{site}/ids" not in shown:
        left_out.append(
            "From the neuron explorer: the samples' texts; this run kept no example ids. Run it again for them."
        )
        return found
    ids = example_ids(shown[f"{site}/ids"][rows])
    texts = folder.read_samples("fit").set_index("id")["text"]
    longest = int(np.clip(TEXT_CHARACTERS / max(len(ids), 1), SHORTEST_TEXT, LONGEST_TEXT))
    whole = texts.reindex(ids)
    found["text"] = [None if pd.isna(text) else _shortened(str(text), longest) for text in whole]
    cut = int((whole.str.len() > longest).sum())
    if cut:
        left_out.append(
            f"From the neuron explorer: the ends of {cut} texts past {longest} characters (whole in samples.parquet)."
        )
    return found


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
