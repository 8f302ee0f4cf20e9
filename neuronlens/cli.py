"""The `neuronlens` command: a verb, then Hydra overrides; no logic of its own."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config.compose import compose, register, resolve
from neuronlens.config.explain import explain
from neuronlens.config.parts import config_dir, option_names, searching
from neuronlens.config.plan import grid
from neuronlens.errors import NeuronLensError, unknown
from neuronlens.records import Job

GROUPS = (
    *("model", "dataset", "layers", "saliency", "range", "gate", "edit", "intervention", "evaluation", "sweep"),
    *("trainer", "logger", "experiment"),
)
USAGE = """\
neuronlens [run|doctor|report|compare] [hydra overrides]

  run      (default) data, model, activations, ranking, ranges, sweep, report: one run folder below outputs/
  doctor   check the configured model, layer and head before believing its numbers; exit 1 on a failed check
  report   redraw tables and figures of run folders: neuronlens report FOLDER ...
  compare  put run folders side by side, paired by concept with the first: neuronlens compare FOLDER FOLDER ... [output=FOLDER]

Overrides follow Hydra: group=option, key.sub=value, -m for a multirun. `neuronlens run --cfg job` prints the whole config.
Edits and gates are named by intervention.edit=<name> or sweep.edit=[<name>,...]; ++edit.<name>.<parameter>=<value> sets a
parameter of one. --config-dir DIR adds options of your own: DIR/edit/mine.yaml with `_target_: mypackage.MyEdit`.
"""


def main() -> None:
    """Run the command line and exit: 0 done, 1 a fault or a failed check, 2 bad input, 130 interrupted."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Return the exit code of one command line; errors are told on stderr in one message."""
    try:
        return _dispatch(list(arguments))
    except KeyboardInterrupt:
        print("Interrupted; files are closed and the cache is whole.", file=sys.stderr)
        return 130
    except (NeuronLensError, HydraException, OmegaConfBaseException, OSError) as error:
        if isinstance(error, (HydraException, OmegaConfBaseException)) and not isinstance(error, NeuronLensError):
            told: Exception = explain(error)
        elif isinstance(error, OSError) and not _is_output(error):
            raise
        else:
            told = error
        if os.environ.get("NEURONLENS_DEBUG"):
            traceback.print_exc()
        print(f"neuronlens: {told}", file=sys.stderr)
        return 2


def _is_output(error: OSError) -> bool:
    return isinstance(error, (PermissionError, NotADirectoryError, FileExistsError))


def _dispatch(arguments: list[str]) -> int:
    verbs: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "doctor": _doctor,
        "report": _report,
        "compare": _compare,
    }
    folder, others = _config_dir(arguments)
    if others and others[0] in ("-h", "--help", "help"):
        with searching([] if folder is None else [Path(folder)]):
            options = "\n".join(f"  {group:<13} {', '.join(option_names(group))}" for group in GROUPS)
        print(f"{USAGE}\nGroups and their options:\n{options}")
        return 0
    if arguments and "=" not in arguments[0] and not arguments[0].startswith(("-", "+", "~")):
        verb = arguments.pop(0)
        if verb not in verbs:
            raise NeuronLensError(unknown("verb", verb, verbs))
        return verbs[verb](arguments)
    return _run(arguments)


def _config_dir(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the folder of options that `--config-dir` names, and the other arguments.

    >>> _config_dir(["seed=1", "--config-dir", "mine", "-m"]), _config_dir(["--config-dir=mine"]), _config_dir(["-m"])
    (('mine', ['seed=1', '-m']), ('mine', []), (None, ['-m']))
    """
    folder, others = None, list(arguments)
    for place, argument in enumerate(arguments):
        if argument in ("--config-dir", "-cd") and place + 1 < len(arguments):
            folder, others = arguments[place + 1], [*arguments[:place], *arguments[place + 2 :]]
        elif argument.startswith("--config-dir="):
            folder, others = argument.partition("=")[2], [*arguments[:place], *arguments[place + 1 :]]
    return folder, others


def _run(overrides: list[str]) -> int:
    register()
    folder, others = _config_dir(overrides)
    if not any(argument.startswith("-") for argument in others):
        grid(compose(others, config_dir=folder))  # refuse bad overrides before Hydra makes a folder for them
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [before[0][0], *overrides]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through to `run_command`, which tells them once
    try:
        hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")(job)()
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]
    return 0


def job(composed: DictConfig) -> None:
    """Run one job of a (multi)run in its own folder; the function Hydra's launchers call."""
    launched = HydraConfig.get()
    config = resolve(composed, launched.runtime)
    grid(config)
    from neuronlens.pipeline import run  # torch and transformers are imported only once the config holds

    run(config, Path(launched.runtime.output_dir), job=_job_of(launched))


def _job_of(launched: HydraConf) -> Job | None:
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


def _doctor(overrides: list[str]) -> int:
    folder, others = _config_dir(overrides)
    config = compose(others, config_dir=folder)
    from neuronlens.doctor import examine

    return 0 if examine(config) else 1


def _report(folders: list[str]) -> int:
    if not folders:
        raise NeuronLensError("report takes run folders: neuronlens report outputs/<run_name>/<date_time> ...")
    from neuronlens.report.redraw import redraw

    for folder in folders:
        redraw(Path(folder))
    return 0


def _compare(arguments: list[str]) -> int:
    options = [argument.removeprefix("output=") for argument in arguments if argument.startswith("output=")]
    folders = [argument for argument in arguments if not argument.startswith("output=")]
    for argument in folders:
        if argument.startswith("-"):
            raise NeuronLensError(unknown("option of compare", argument, ["output=FOLDER"]))
    if len(folders) < 2:
        raise NeuronLensError(
            f"compare takes two run folders or more, the reference first; got {len(folders)}: "
            "neuronlens compare outputs/<run_name>/<date_time> outputs/<run_name>/<date_time> ..."
        )
    from neuronlens.report.side_by_side import put_side_by_side

    put_side_by_side([Path(folder) for folder in folders], Path(options[-1]) if options else None)
    return 0
