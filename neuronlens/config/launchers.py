"""Hydra's launchers: which extra brings one, and the place where naming one has no effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from neuronlens.config.extras import to_install
from neuronlens.config.groups import config_dir

KEY = "hydra/launcher"
EXTRA_OF = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
"""Launcher -> the extra that installs it. `basic`, one job after the other, is Hydra's own."""


def launcher_problems(overrides: Sequence[str], folders: Sequence[Path] = ()) -> list[tuple[str, str]]:
    """Return key and sentence for a launcher that is not installed, and for one that an experiment's file names.

    Args:
        folders: of options of one's own, searched beside ours.
    """
    found = []
    for override in overrides:
        key, _, name = override.partition("=")
        if key == KEY and name in EXTRA_OF:
            sentence = to_install(override, EXTRA_OF[name])
            found += [(KEY, f"{sentence}, or {KEY}=basic.")] if sentence else []
        if key.lstrip("+") == "experiment":
            files = (folder / "experiment" / f"{name}.yaml" for folder in (config_dir(), *folders))
            found += [
                (
                    "experiment",
                    f"{file} names a launcher ({what}), and Hydra reads none in an experiment's file. Next: leave it out "
                    f"there, and {KEY}=<launcher> on the command line.",
                )
                for file in files
                if file.is_file()
                for what in _launchers_in(file)
            ]
    return found


def _launchers_in(file: Path) -> Iterator[str]:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # refused with a sentence where it is composed
    if not isinstance(content, dict):
        return
    defaults, own = content.get("defaults"), content.get("hydra")
    for entry in defaults if isinstance(defaults, list) else []:
        for key, name in entry.items() if isinstance(entry, dict) else []:
            if str(key).removeprefix("override ").lstrip("/") == KEY:
                yield f"{key}: {name}"
    if isinstance(own, dict) and "launcher" in own:
        yield "hydra.launcher"
