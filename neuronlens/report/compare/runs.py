"""Finished runs read together: what sets them apart, and the name each of them goes by beside the others."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neuronlens.config.schema import Config
from neuronlens.errors import NeuronLensError, OutputError
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import ResultTable
from neuronlens.results.folder import RunFolder
from neuronlens.results.manifest import Manifest

ASIDE = ("paths", "logger", "trainer", "run_name", "quiet", "sweep.workers")
"""Settings that no number depends on."""
NAMES_A_RUN = ("model.name", "dataset.name", "layers.select", "layers.site", "saliency", "range", "intervention.edit")
WHOLE = {"model": "model.name", "dataset": "dataset.name"}
"""Groups of which only the name is shown where it differs: all the rest differs with it."""
LONGEST = 60
LONGEST_NAME = 24
MOST_PARTS = 3


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, tables and manifest.

    Attributes:
        name: what it goes by in tables beside the runs it was read with; a letter where `title` is long.
        title: what sets it apart from them.
    """

    name: str
    title: str
    folder: RunFolder
    table: ResultTable
    manifest: Manifest

    @property
    def config(self) -> Config:
        """The run's config, as far as this version knows it."""
        return self.manifest.known_config

    @property
    def tau(self) -> float | None:
        """The configured width of the range, by which the headline is chosen; None where the range has none."""
        return self.config.headline_tau

    @property
    def bootstrap(self) -> Bootstrap:
        """How the run makes its intervals."""
        return Bootstrap.of(self.config)

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.table.rows["model"].iloc[0])

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.table.rows["dataset"].iloc[0])

    @property
    def unedited(self) -> pd.DataFrame:
        """The results of the unedited model, one row per concept."""
        return self.table.rows[self.table.rows["edit"] == "none"].set_index("concept")


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Return finished runs in the order given, each named by what sets it apart.

    Raises:
        NeuronLensError: a folder given twice.
        OutputError: not the folder of a finished run.
    """
    resolved = [Path(path).resolve() for path in paths]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise NeuronLensError(f"'{paths[place]}' is given twice; a run compared with itself shows nothing.")
    found = [_read(Path(path)) for path in paths]
    titles = run_names([manifest.settings for *_, manifest in found], resolved)
    long = max(map(len, titles)) > LONGEST_NAME
    return [
        Run(string.ascii_uppercase[place] if long and place < 26 else title, title, *parts)
        for place, (title, parts) in enumerate(zip(titles, found, strict=True))
    ]


def _read(path: Path) -> tuple[RunFolder, ResultTable, Manifest]:
    folder = RunFolder(path)
    manifest, table = folder.read_manifest(), folder.read_results()
    if table.rows.empty or "layers" not in table.matched:
        raise OutputError(f"'{path}' was written by another version of neuronlens. Next: run it again.")
    return folder, table, manifest


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a config's settings by dotted name, as text; those in `ASIDE` are left out and a `_target_` is its module.

    >>> settings({"saliency": {"_target_": "neuronlens.saliency.max.MaxSaliency"}, "seed": 0, "paths": {"x": 1}})
    {'saliency': 'max', 'seed': '0'}
    """
    return {name: value for name, value in _flat(config, "") if not {name, name.split(".")[0]} & {*ASIDE}}


def _flat(node: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif name.endswith("._target_"):
        yield name.removesuffix("._target_"), str(node).rpartition(".")[0].rpartition(".")[2]
    else:
        yield name, node if isinstance(node, str) else json.dumps(node)


def everything_differing(runs: Sequence[Run]) -> pd.DataFrame:
    """Return all in which runs differ, `[setting, run]` whole text: settings first, then what they ran with.

    Settings that no number depends on stand behind the others; a dash where a run has none.
    """
    records = []
    for run in runs:
        flat = dict(_flat(run.manifest.settings, ""))
        aside = {name: flat.pop(name) for name in list(flat) if name.split(".")[0] in ASIDE}
        about = {"git revision": run.manifest.git_revision or "unknown", "machine": run.manifest.machine}
        about |= {f"fingerprint of the {name}": value for name, value in run.manifest.fingerprints.items()}
        about |= {f"version of {name}": value for name, value in run.manifest.versions.items()}
        records.append(flat | aside | about)
    flat_table = pd.DataFrame(records).T.fillna("-")
    order = list(dict.fromkeys(name for record in records for name in record))
    behind = [name for name in order if name.split(".")[0] in ASIDE or " " in name]
    flat_table = flat_table.loc[[*(name for name in order if name not in behind), *behind]]
    return flat_table[flat_table.nunique(axis=1) > 1]


def differing(configs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the settings that name runs apart, `[setting, config]` text with a dash where one is absent.

    Where the model or the dataset is another one, its name alone is listed.
    """
    flat = pd.DataFrame([settings(config) for config in configs]).T.fillna("-")
    apart = flat[flat.nunique(axis=1) > 1]
    whole = {name: WHOLE.get(name.split(".")[0], name) for name in apart.index}
    return apart.loc[[name for name in apart.index if whole[name] == name or whole[name] not in apart.index]]


def run_names(configs: Sequence[Mapping[str, Any]], paths: Sequence[Path]) -> list[str]:
    """Return a short name per run: the values of the settings that set it apart, or its folder's where these are the same.

    Model, dataset, layers, saliency, range and edit are named wherever they differ, other settings only as far as needed.
    """
    apart = differing(configs)
    named = [name for name in NAMES_A_RUN if name in apart.index]
    more = [name for name in apart.index if name not in named and not name.startswith("sweep.")][:MOST_PARTS]
    names = _joined(apart, named)
    while more and len(set(names)) < len(names):
        named.append(more.pop(0))
        names = _joined(apart, named)
    folders = [path.name for path in paths]
    if len(set(folders)) < len(folders):
        folders = [f"{path.parent.name}/{path.name}" for path in paths]
    if len(set(folders)) < len(folders):
        folders = [str(path) for path in paths]
    return [
        name if name and names.count(name) == 1 else f"{name} ({folder})" if name else folder
        for name, folder in zip(names, folders, strict=True)
    ]


def _joined(apart: pd.DataFrame, named: Sequence[str]) -> list[str]:
    return [", ".join(_short(name, apart.loc[name, place]) for name in named) for place in apart.columns]


def _short(name: str, value: str) -> str:
    if name in NAMES_A_RUN:
        return f"layers {value}" if name == "layers.select" else value
    return f"{name.rpartition('.')[2]} {shortened(value)}"


def shortened(value: str) -> str:
    """Return a setting's value cut to the length that a table bears."""
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 3]}..."
