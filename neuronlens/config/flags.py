"""The flags of the command line, told apart from overrides before Hydra is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from neuronlens.errors import ConfigError, unknown

PRINTED = ("job", "hydra", "all")
SHORT = {"-m": "--multirun", "-cd": "--config-dir", "-c": "--cfg", "-p": "--package", "-i": "--info"}
SHORT |= {"-sc": "--shell-completion"}
FOLDERS = ("--config-dir", "--resume")
TAKES_A_VALUE = (*FOLDERS, "--cfg", "--package")
RUN_FLAGS = ("--multirun", *TAKES_A_VALUE, "--resolve", "--hydra-help", "--info", "--shell-completion")
"""What `run` takes; of these `--hydra-help`, `--info`, `--cfg` and `--shell-completion` print and run nothing."""
DOCTOR_FLAGS = ("--config-dir",)
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
COMPLETION = ("install=", "uninstall=", "query=")


@dataclass
class Flags:
    """A command line taken apart.

    Attributes:
        overrides: the words that are no flags, in order.
        given: the flags by their long name, each with its value; empty text where it takes none.
    """

    overrides: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)

    @property
    def config_dir(self) -> str | None:
        """The folder of options that `--config-dir` names."""
        return self.given.get("--config-dir")

    @property
    def resumed(self) -> str | None:
        """The folder of the run that goes on, which `--resume` names."""
        return self.given.get("--resume")

    @property
    def multirun(self) -> bool:
        """Whether each combination of the swept values is a job."""
        return "--multirun" in self.given

    @property
    def words(self) -> list[str]:
        """The command line put together again, overrides first: Hydra reads none behind a flag."""
        flags = [word for name, value in self.given.items() for word in (name, value) if word]
        return [*self.overrides, *flags]

    @property
    def runs(self) -> bool:
        """Whether anything is run: no flag asks to print something instead."""
        return not {"--cfg", "--hydra-help", "--info", "--shell-completion"} & set(self.given)


def take_apart(arguments: Sequence[str], allowed: Iterable[str] = RUN_FLAGS) -> Flags:
    """Return the flags and the overrides of a command line.

    >>> take_apart(["seed=1", "--config-dir", "mine", "-m"])
    Flags(overrides=['seed=1'], given={'--config-dir': 'mine', '--multirun': ''})

    Raises:
        ConfigError: an unknown flag, with the nearest; one without its value; one that needs another beside it.
    """
    found, words = Flags(), list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            found.overrides.append(word)
            continue
        name, sign, value = word.partition("=")
        name = SHORT.get(name, name)
        if name not in allowed:
            raise ConfigError(unknown("flag", name, [*allowed, "--help", "--version"]))
        if name in TAKES_A_VALUE and not sign:
            value = words.pop(0) if words and not words[0].startswith("-") else ""
        if name == "--info" and words and words[0] in INFO:
            value = words.pop(0)
        if name in TAKES_A_VALUE and not value:
            expected = " or ".join(PRINTED) if name == "--cfg" else "a folder" if name in FOLDERS else "a group"
            raise ConfigError(f"{name} stands without its value, expected {expected}. Next: {name} <{expected}>.")
        if name == "--cfg" and value not in PRINTED:
            raise ConfigError(unknown("value of --cfg", value, PRINTED))
        found.given[name] = value
    _refuse_alone(found)
    return found


def _refuse_alone(found: Flags) -> None:
    for name in ("--resolve", "--package"):
        if name in found.given and "--cfg" not in found.given:
            raise ConfigError(f"{name} says how --cfg prints, and there is no --cfg. Next: --cfg job {name}.")
    if found.resumed is not None and (found.overrides or set(found.given) - set(FOLDERS)):
        other = [*found.overrides, *(name for name in found.given if name not in FOLDERS)][0]
        raise ConfigError(
            f"--resume takes the config of the run that goes on, and stands beside '{other}'. Expected --config-dir alone "
            "beside it. Next: leave it out, or the command of the run again with what is to be another."
        )
    if "--shell-completion" in found.given and not any(word.startswith(COMPLETION) for word in found.overrides):
        raise ConfigError(
            "--shell-completion needs the shell that it is for, expected install=<shell>, uninstall=<shell> or "
            'query=<shell>. Next: eval "$(neuronlens --shell-completion install=bash)".'
        )
