"""Runs the parts that a table needs, each once per profile, and writes tables and figures below outputs/paper/."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

import neuronlens as nl
from neuronlens import plain

HERE = Path(__file__).resolve().parent
PROFILES = HERE / "profiles"
EXPECTED = HERE / "expected"
HOUSEKEEPING = ("run_name", "paths", "logger", "trainer", "quiet")
"""Keys of a config that change no number."""


@dataclass(frozen=True)
class Profile:
    """Which models and datasets the tables are made on.

    Attributes:
        settings: name -> overrides that choose a model and a dataset.
        parts: option of conf/experiment -> `settings` it runs on (all where absent) and its own `overrides`.
    """

    name: str
    settings: Mapping[str, Sequence[str]]
    parts: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Runs:
    """The finished runs of an experiment's parts: part -> setting -> run folder."""

    of: Mapping[str, Mapping[str, nl.RunFolder]] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, nl.RunFolder]:
        """Return one part's run folders by setting."""
        return dict(self.of[name])

    def bootstrap(self, name: str) -> nl.Bootstrap:
        """Return how the runs of a part make their intervals.

        Raises:
            NeuronLensError: they do not agree, and a table has one heading for all of them.
        """
        found = {nl.Bootstrap.of(folder.read_manifest().known_config) for folder in self.of[name].values()}
        if len(found) != 1:
            raise nl.NeuronLensError(
                f"The runs of '{name}' make their intervals in {len(found)} ways, expected one. Next: the same "
                "evaluation.level, evaluation.bootstrap and seed for all of them."
            )
        return found.pop()


@dataclass(frozen=True)
class Experiment:
    """A table of the paper, or several: the configs it runs and what it makes of their run folders."""

    name: str
    parts: tuple[str, ...]
    tables: Callable[[Runs], list[nl.Table]]
    figures: Callable[[Runs], dict[str, Figure]] = lambda runs: {}


def load_profile(name: str) -> Profile:
    """Return a profile of `experiments/profiles/`.

    Raises:
        NeuronLensError: there is none of that name.
    """
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if name not in known:
        raise nl.NeuronLensError(f"Unknown profile '{name}'. Expected one of {', '.join(known)}.")
    content = yaml.safe_load((PROFILES / f"{name}.yaml").read_text())
    return Profile(name, content["settings"], content["parts"])


def run_parts(experiment: Experiment, profile: Profile, folder: Path, more: Sequence[str] = ()) -> Runs:
    """Return the runs an experiment needs, made where there are none of this very config and code yet.

    Args:
        folder: of the profile's output; runs go to its `runs/`.
        more: overrides that come after the profile's.
    Raises:
        NeuronLensError: the profile does not say what a part runs on.
    """
    found: dict[str, dict[str, nl.RunFolder]] = {}
    for part in experiment.parts:
        if part not in profile.parts:
            raise nl.NeuronLensError(f"Profile '{profile.name}' names no part '{part}'. Next: add it to its `parts`.")
        asked = profile.parts[part]
        for setting in asked.get("settings") or profile.settings:
            overrides = [f"experiment={part}", *profile.settings[setting], *asked.get("overrides", ()), *more]
            found.setdefault(part, {})[setting] = _run(overrides, folder / "runs", setting)
    return Runs(found)


def _run(overrides: Sequence[str], folder: Path, setting: str) -> nl.RunFolder:
    """Return the finished run of these overrides: the one that is there, or a new one."""
    config = nl.compose([*overrides, "logger=csv"])
    resolved = {key: value for key, value in plain(config).items() if key not in HOUSEKEEPING}
    key = hashlib.sha256(json.dumps([resolved, _code()], sort_keys=True).encode()).hexdigest()[:12]
    made = nl.RunFolder(folder / f"{setting}-{key}")
    if not made.finished:
        print(f"\n{made.path.name}: {' '.join(overrides)}", flush=True)
        nl.run(config, made.path)
    return made


def _code() -> str:
    """Return a fingerprint of the package's own sources: other code is another run."""
    sources = sorted(Path(nl.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources if "report" not in path.parts)).hexdigest()


def make(experiment: Experiment, profile: Profile, folder: Path, more: Sequence[str] = ()) -> list[Path]:
    """Run what an experiment needs, write its tables and figures below `folder`, and return the files' paths."""
    runs = run_parts(experiment, profile, folder, more)
    written = [path for table in experiment.tables(runs) for path in nl.write_table(table, folder / "tables")]
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in experiment.figures(runs).items():
        for ending in ("png", "svg"):
            path = folder / "figures" / f"{name}.{ending}"
            figure.savefig(path, dpi=150)
            written.append(path)
    return written


def arguments(given: Sequence[str]) -> tuple[Profile, Path, list[str]]:
    """Return profile, output folder and further overrides of a command line: `profile=` and `output=` are its own."""
    own = {"profile": "embedded", "output": ""}
    more = []
    for entry in given:
        key, _, value = entry.partition("=")
        if key in own and value:
            own[key] = value
        else:
            more.append(entry)
    return load_profile(own["profile"]), Path(own["output"] or f"outputs/paper/{own['profile']}"), more


def main(experiment: Experiment) -> None:
    """Make one experiment from the command line and say where its files are; exit 2 on bad input."""
    started = time.perf_counter()
    try:
        profile, folder, more = arguments(sys.argv[1:])
        written = make(experiment, profile, folder, more)
    except nl.NeuronLensError as error:
        print(f"{experiment.name}: {error}", file=sys.stderr)
        sys.exit(2)
    for path in written:
        print(path)
    print(f"{time.perf_counter() - started:.0f} s")
