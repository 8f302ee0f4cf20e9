"""Made-up results of any size: concepts, layers and taus by number, long names where asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from neuronlens.config.compose import compose
from neuronlens.measures.columns import EFFECTS, RESULTS
from neuronlens.measures.comparison import compare_gates, rank_methods
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import matched_erasure
from neuronlens.records import ResultTable
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest
from neuronlens.storage.files import json_types, write_json, write_tensors

LONG = "a concept whose name is far too long to stand anywhere on a page or under a bar, number"
EDITS = ("zero", "complement_mean")
OVERRIDES = ["range.tau=2.5", "logger=csv"]


def concept_names(count: int, *, long: bool = False) -> list[str]:
    """Return so many names."""
    return [f"{LONG if long else 'concept'} {number}" for number in range(count)]


def made_up_results(
    concepts: int, layers: int, *, long: bool = False, taus: tuple[float, ...] = (1.0, 2.5)
) -> ResultTable:
    """Return the tables of a run; the range of tau 1 never erases much, and the deepest layers cost the least."""
    generator = np.random.default_rng(0)
    rows = []
    for layer in range(layers):
        for edit in EDITS:
            for gate, tau in [("neuron", None), *(("range", tau) for tau in taus)]:
                for place, name in enumerate(concept_names(concepts, long=long)):
                    for dose in (1, 2, 3, 4):
                        drop = 0.9 * dose / 4 * (0.35 if tau == 1.0 else 1.0)
                        cost = drop * (0.3 if gate == "neuron" else 0.1) * (1 + 0.1 * (layers - layer)) / layers
                        cost *= 1 + 0.3 * generator.standard_normal() + 0.01 * place
                        row = dict.fromkeys(RESULTS.in_file) | {
                            "layer": layer,
                            "layers": str(layer),
                            "site": "resid_post",
                        }
                        row |= {"edit_positions": "record", "saliency": "max", "gate": gate, "edit": edit, "tau": tau}
                        row |= {"strength": 1.0, "range": "gaussian" if gate == "range" else None}
                        row |= {
                            "n_neurons": dose,
                            "top_fraction": dose / 10,
                            "concept": name,
                            "cell_id": f"{len(rows)}",
                        }
                        row |= dict.fromkeys(EFFECTS, cost) | {
                            "base_concept_accuracy": 0.9,
                            "concept_accuracy_drop": drop,
                        }
                        rows.append(row)
    measures = ("tau", "strength", "top_fraction", *RESULTS.measures)
    frame = pd.DataFrame(rows).astype(dict.fromkeys(measures, float))
    bootstrap = Bootstrap(0.95, 100, 0)
    matched = matched_erasure(frame, [0.2, 0.4, 0.6, 0.8])
    base = {"accuracy": 0.9, "confidence": 0.8, "n": 20.0 * concepts, "concepts": float(concepts)}
    comparison, methods = compare_gates(matched, bootstrap), rank_methods(matched, bootstrap)
    return ResultTable(frame, matched, comparison, methods, pd.DataFrame(), base)


def made_up_folder(path: Path, table: ResultTable, layers: int) -> RunFolder:
    """Write what the page and the figures read, apart from the tables, and return the folder."""
    folder = RunFolder(path)
    names = list(dict.fromkeys(table.rows["concept"]))
    generator = np.random.default_rng(1)
    neurons, overlaps = [], []
    for layer in range(layers):
        where = {"site": f"resid_post.{layer}", "saliency": "max"}
        for name in names:
            for neuron in range(8):
                share = generator.uniform(0, 1, 3)
                row = {
                    "concept": name,
                    "neuron": neuron,
                    "place": neuron,
                    "range": "gaussian",
                    "tau": 2.5,
                    "n": 20,
                    "n_fit": 40,
                }
                row |= {"firing_concept": share[0], "firing_rest": share[1], "purity": share[2] * 0.5, "overlap": 0.4}
                neurons.append(
                    where | row | {"skewness": 0.1, "excess_kurtosis": 0.2, "ks_statistic": 0.1, "ks_p": 0.3}
                )
            for other in names:
                value = 1.0 if other == name else float(generator.uniform(0, 0.5))
                overlaps.append(
                    where | {"concept": name, "other": other, "jaccard": value, "bhattacharyya": value, "salient": 8}
                )
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.figures.mkdir(exist_ok=True)
    folder.write_results(table)
    folder.write_diagnostics(pd.DataFrame(neurons), pd.DataFrame(overlaps))
    for name in ("ranking", "ranges", "neurons"):
        write_tensors(path / f"{name}.safetensors", {"nothing": np.zeros(1)})
    write_json(path / "ranges.json", {"concepts": names, "ranges": []})
    config = json_types(compose(OVERRIDES))
    folder.write_manifest(Manifest(config, run_id=path.name, concepts=tuple(names), fingerprints={"data": "made up"}))
    return folder
