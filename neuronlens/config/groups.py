"""The folder of YAML groups: which groups and options there are, and what each option says of itself in its comments."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from neuronlens.config.entries import Entry
from neuronlens.config.values import Expected
from neuronlens.errors import ConfigError

MAIN = "config.yaml"
COMPOSED = ("saliency", "range")
"""Groups of parts of which Hydra composes one option into the config; of the others a config holds names alone."""
_KEY = re.compile(r"(?P<name>\w+):.*?\s#\s(?P<about>.*?)(?: Expected: (?P<rule>.*))?$")


def config_dir() -> Path:
    """Return the folder of YAML groups: beside the installed package in a wheel, `<repo>/conf` in a bare checkout."""
    spec = importlib.util.find_spec("neuronlens.conf")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    places.append(Path(__file__).resolve().parents[2] / "conf")
    for place in places:
        if (place / MAIN).is_file():
            return place
    raise ConfigError(f"The configuration folder is missing; looked in {', '.join(map(str, places))}. Reinstall.")


def group_names() -> list[str]:
    """Return the groups, sorted; one inside another by both names, as `evaluation/documents`."""
    root = config_dir()
    return sorted({path.parent.relative_to(root).as_posix() for path in root.rglob("*/*.yaml")})


def option_names(group: str, folders: Sequence[Path] = ()) -> list[str]:
    """Return the names of a group's YAML files, sorted: what `group=<name>` accepts.

    Args:
        folders: searched beside ours.
    """
    return sorted({path.stem for folder in (config_dir(), *folders) for path in (folder / group).glob("*.yaml")})


def is_option(group: str, name: str, folders: Sequence[Path] = ()) -> bool:
    """Return whether a group has an option of this name, in our folder or in others."""
    return name != "" and any((folder / group / f"{name}.yaml").is_file() for folder in (config_dir(), *folders))


def phrase(group: str, option: str, folders: Sequence[Path] = ()) -> str:
    """Return what an option says of itself: the first sentence of its file's opening comment."""
    lines = []
    for line in _text(group, option, folders).splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(lines))[0]


def package(group: str) -> str:
    """Return where the values of a group's options go: `evaluation.general.documents` of `evaluation/documents`."""
    for option in option_names(group):
        found = re.match(r"# @package (\S+)", _text(group, option))
        if found:
            return "" if found[1] == "_global_" else found[1]
    return group.replace("/", ".")


def default_options() -> dict[str, str]:
    """Return the option of each group that is taken where none is typed."""
    found: dict[str, str] = {}

    def follow(path: Path, group: str) -> None:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in content.get("defaults", []) if isinstance(content, Mapping) else []:
            for name, option in entry.items() if isinstance(entry, Mapping) else []:
                if option is not None:
                    own = f"{group}/{name}".lstrip("/")
                    found[own] = option
                    follow(config_dir() / own / f"{option}.yaml", own)

    follow(config_dir() / MAIN, "")
    return found


def part_entries(group: str, option: str, folders: Sequence[Path] = ()) -> Iterator[Entry]:
    """Give the arguments of the part that an option builds, as its YAML and the comments there say; none if it builds none.

    A comment is one sentence and, where there is one, the rule after `Expected:`. So nothing need be imported to show them.
    """
    text = _text(group, option, folders)
    content = yaml.safe_load(text)
    if not isinstance(content, Mapping) or "_target_" not in content:
        return
    noted = {found["name"]: found for found in map(_KEY.match, text.splitlines()) if found is not None}
    for name, value in content.items():
        if name != "_target_":
            note = noted.get(name)
            about, rule = (note["about"], note["rule"] or "") if note else ("", "")
            place = package(group) if group in COMPOSED else f"{group}.{option}"
            yield Entry(f"{place}.{name}", value, Expected(type(value), False, ()), about, rule)


def _text(group: str, option: str, folders: Sequence[Path] = ()) -> str:
    places = [folder / group / f"{option}.yaml" for folder in (config_dir(), *folders)]
    return next((place for place in places if place.is_file()), places[0]).read_text(encoding="utf-8")
