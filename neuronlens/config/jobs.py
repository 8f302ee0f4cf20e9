"""The jobs of a command line, each checked before the first one starts, and what was typed that plays no part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config.compose import compose, composing
from neuronlens.config.extras import refuse_missing
from neuronlens.config.knobs import grids
from neuronlens.config.plan import grid
from neuronlens.config.schema import Config
from neuronlens.config.typed import typed_problems
from neuronlens.errors import ConfigError
from neuronlens.records import Job

if TYPE_CHECKING:
    from hydra.conf import HydraConf

SINGLE = {
    "saliency": "saliency",
    "range": "range",
    "layers": "layers.select",
    **{name: f"intervention.{name}" for name in ("gate", "edit", "strength", "control", "top_fraction")},
}
"""List of the sweep -> the single value that it stands in the place of; `range.tau` stays the tau of headlines."""


class CheckedJob(NamedTuple):
    """One job before it starts: its overrides, and its config."""

    overrides: list[str]
    config: Config


def checked_jobs(overrides: Sequence[str], *, multirun: bool, config_dir: str | None) -> list[CheckedJob]:
    """Return every job of a command line with its config.

    Args:
        overrides: as they are typed, without flags.
        multirun: whether a comma between values means one job for each.

    Raises:
        ConfigError: the problems of every job, a line each, with the number and the values of the job.
    """
    split = split_jobs(overrides, config_dir) if multirun else [list(overrides)]
    jobs: list[CheckedJob] = []
    problems: dict[str, list[int]] = {}
    for number, own in enumerate(split):
        try:
            config = compose(own, config_dir=config_dir)
            refuse_missing(config)
            grid(config)
            jobs.append(CheckedJob(list(own), config))
        except ConfigError as error:
            for line in str(error).splitlines():
                problems.setdefault(line, []).append(number)
    if problems:
        raise ConfigError("\n".join(_of_jobs(problems, split, [*overrides])))
    return jobs


def split_jobs(overrides: Sequence[str], config_dir: str | None = None) -> list[list[str]]:
    """Return the overrides of each job of a multirun, in the order of their numbers.

    >>> split_jobs(["seed=1,2", "layers=last"])
    [['seed=1', 'layers=last'], ['seed=2', 'layers=last']]

    Raises:
        ConfigError: the values cannot be listed.
    """
    parse = OverridesParser.create().parse_overrides
    try:
        every = [*_swept_by_files(overrides, config_dir), *overrides]
        return [list(own) for own in BasicSweeper.split_arguments(parse(every), max_batch_size=None)[0]]
    except (HydraException, ValueError, OverflowError, TypeError):
        wrong = typed_problems(overrides).sentences
        sentences = [sentence for _, sentence in wrong if "without -m" not in sentence]
        raise ConfigError(
            "\n".join(sentences) or "The values that -m runs over cannot be listed. Next: write them as a,b,c."
        ) from None


def _swept_by_files(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """Return the overrides that Hydra's sweeper takes from `hydra.sweeper.params` of a chosen option, as it does."""
    single = [
        one.input_line for one in OverridesParser.create().parse_overrides([*overrides]) if not one.is_sweep_override()
    ]
    try:
        with composing([str(line) for line in single], config_dir) as whole:
            found = whole.hydra.sweeper.get("params") or {}
            return [f"{key}={value}" for key, value in found.items()]
    except (HydraException, OmegaConfBaseException):  # each job's own check says what is wrong
        return []


def _of_jobs(problems: dict[str, list[int]], split: Sequence[Sequence[str]], typed: Sequence[str]) -> Iterator[str]:
    """Give each problem, with the jobs that have it where not all of several do."""
    for sentence, numbers in problems.items():
        if len(numbers) == len(split):
            yield sentence
            continue
        own = " ".join(override for override in split[numbers[0]] if override not in typed)
        several = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
        yield f"Job {numbers[0]} ({own}){several}: {sentence}"


def unused(overrides: Sequence[str], config: Config) -> list[str]:
    """Return a sentence for each single value that was typed and that a list of the sweep stands in the place of."""
    typed = {override.partition("=")[0].lstrip("+") for override in overrides}
    found = []
    for knob, key in SINGLE.items():
        shadowed = all(
            getattr(one, knob, None) is not None or getattr(config.sweep, knob) is not None for one in grids(config)
        )
        if key in typed and shadowed and not (knob == "top_fraction" and config.evaluation.diagnostics):
            found.append(
                f"{key} is not used: sweep.{knob} lists the values. Next: sweep.{knob}=null, or leave {key} out."
            )
    if "sweep.top_fraction" in typed and config.intervention.top_count is not None and not config.sweep.methods:
        found.append("sweep.top_fraction is not used: intervention.top_count says how many neurons are edited.")
    return found


def job_of(launched: HydraConf) -> Job | None:
    """Return which job of a multirun this is, with the overrides that were swept over; None in a single run."""
    if launched.mode != RunMode.MULTIRUN:
        return None
    folder, parse = Path(launched.sweep.dir), OverridesParser.create().parse_overrides
    written = folder / "multirun.yaml"  # as it was typed, before each job got values of its own
    typed = parse(list(OmegaConf.load(written).hydra.overrides.task)) if written.is_file() else []
    swept_keys = {override.key_or_group for override in typed if override.is_sweep_override()}
    shared = {override.key_or_group for override in typed} - swept_keys
    own = [override for override in parse(list(launched.overrides.task)) if override.key_or_group not in shared]
    swept = tuple(str(override.input_line) for override in own)
    return Job(int(launched.job.num), swept, f"multirun-{folder.name}")
