"""The `neuronlens` command: a verb, then Hydra overrides; no logic of its own.

Hydra is imported when a verb needs it, so that help and version answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from neuronlens import __version__
from neuronlens.errors import NeuronLensError, printable, unknown
from neuronlens.execution.signals import Stopped, code_of, stoppable
from neuronlens.execution.verb import Verb
from neuronlens.lens import commands

USAGE = """\
neuronlens [run|doctor|report|compare|gather|explain|erase|lens|help] [hydra overrides]

{verbs}

Overrides follow Hydra: group=option, key.sub=value, -m for a multirun. `neuronlens run --cfg job` prints the whole config;
`neuronlens help KEY` (or --help KEY) says what a key means: neuronlens help dataset.prompt.shots, or dataset.prompt for
all below it, tau wherever it stands, range for a group's options. `neuronlens VERB --help`, `neuronlens --version`.
Edits and gates are named by intervention.edit=<name> or sweep.edit=[<name>,...]; ++edit.<name>.<parameter>=<value> sets a
parameter of one. --config-dir DIR adds options of your own: DIR/edit/mine.yaml with `_target_: mypackage.MyEdit`.
"""


def main() -> None:
    """Run the command line and exit: 0 done, 1 a fault or a failed check, 2 bad input, 130 interrupted, 143 terminated."""
    logging.raiseExceptions = False  # a log on a full disk is not worth a traceback for each line
    try:
        code = run_command(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `neuronlens --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Return the exit code of one command line; bad input is one message on stderr."""
    try:
        with stoppable():
            return _dispatch(list(arguments))
    except (KeyboardInterrupt, Stopped) as error:
        from neuronlens.launch import or_resume

        code = code_of(error)
        how = "Terminated" if code == 143 else "Interrupted"
        print(
            f"neuronlens: {how}; files are closed, and what was done is in the cache. Next: the same command goes on from "
            f"there{or_resume()}.",
            file=sys.stderr,
        )
        return code
    except Exception as error:
        message = _message(error)
        if message is None or isinstance(error, BrokenPipeError):
            raise
        if os.environ.get("NEURONLENS_DEBUG"):
            traceback.print_exc()
        print(f"neuronlens: {printable(message)}", file=sys.stderr)
        return 2


def _message(error: Exception) -> str | None:
    """Return what to say of an error that bad input caused; None of a fault."""
    if isinstance(error, NeuronLensError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        place = f" at {error.filename}" if error.filename else ""
        return f"The system refuses{place}: {error.strerror}. Next: another folder by paths.output_dir and paths.cache_dir."
    if "hydra" not in sys.modules:
        return None
    from neuronlens.config.explain import explain, is_of_the_config

    return str(explain(error)) if is_of_the_config(error) else None


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    asked = [argument for argument in arguments if argument in ("-h", "--help")]
    rest = [argument for argument in arguments if argument not in asked]
    if "--version" in arguments:
        print(f"neuronlens {__version__}")
        return 0
    if first == "help" or asked:
        from neuronlens.config.flags import take_apart

        flags = take_apart(rest)
        return _help(flags.overrides[1:] if first == "help" else flags.overrides, flags.config_dir)
    if first and "=" not in first and not first.startswith(("-", "+", "~")):
        if first not in VERBS:
            raise NeuronLensError(unknown("verb", first, [*VERBS, "help"]))
        return VERBS[first].work(arguments[1:])
    return _run(arguments)


def _help(words: Sequence[str], folder: str | None = None) -> int:
    """Print the usage, a verb's, or what keys mean; a folder's own options are listed beside ours."""
    from neuronlens.config.help import described, overview

    about = [word for word in words if "=" not in word and not word.startswith("-")]
    folders = [] if folder is None else [Path(folder)]
    if not about:
        verbs = "\n".join(f"  {name:<9}{verb.summary}" for name, verb in VERBS.items())
        print(f"{USAGE.format(verbs=verbs)}\n{overview(folders)}")
    elif about[0] in VERBS and len(about) == 1:
        print(f"neuronlens {about[0]} {VERBS[about[0]].arguments}\n\n{VERBS[about[0]].details}")
    for word in about[1:] if about and about[0] in VERBS else about:
        print(described(word, folders))
    return 0


def _run(arguments: list[str]) -> int:
    from neuronlens.config.flags import take_apart
    from neuronlens.launch import resume, start

    flags = take_apart(arguments)
    return start(flags) if flags.resumed is None else resume(Path(flags.resumed), flags.config_dir)


def _doctor(overrides: list[str]) -> int:
    from neuronlens.config.flags import DOCTOR_FLAGS, take_apart

    flags = take_apart(overrides, DOCTOR_FLAGS)
    from neuronlens.config.jobs import checked_jobs

    ((_, config),) = checked_jobs(flags.overrides, multirun=False, config_dir=flags.config_dir)
    from neuronlens.models.inputs import refuse_inputs

    refuse_inputs(config, data=False)
    from neuronlens.doctor import examine

    return 0 if examine(config) else 1


def _report(folders: list[str]) -> int:
    if not folders:
        raise NeuronLensError("report takes run folders: neuronlens report outputs/<run_name>/<date_time> ...")
    from neuronlens.report.redraw import redraw

    wrong = next((folder for folder in folders if folder.startswith("-") or "=" in folder), None)
    if wrong is not None:
        raise NeuronLensError(unknown("option of report", wrong, [], "report takes run folders alone."))
    from neuronlens.results.finished import finished_runs

    found, left_out = finished_runs([Path(folder) for folder in folders])
    for sentence in left_out:
        print(f"neuronlens: {sentence}", file=sys.stderr)
    for folder in found:
        redraw(folder)
    return 0


def _compare(arguments: list[str]) -> int:
    options = [argument.removeprefix("output=") for argument in arguments if argument.startswith("output=")]
    folders = [argument for argument in arguments if not argument.startswith("output=")]
    wrong = next((folder for folder in folders if folder.startswith("-")), None)
    if wrong is not None:
        raise NeuronLensError(unknown("option of compare", wrong, ["output=FOLDER"]))
    usage = (
        "neuronlens compare outputs/<run_name>/<date_time> outputs/<run_name>/<date_time> ..., or a multirun's folder"
    )
    if not folders:
        raise NeuronLensError(f"compare takes two run folders or more, the reference first; got 0: {usage}")
    from neuronlens.results.finished import finished_runs

    found, left_out = finished_runs([Path(folder) for folder in folders])
    for sentence in left_out:
        print(f"neuronlens: {sentence}", file=sys.stderr)
    if len(found) < 2:
        raise NeuronLensError(
            f"compare takes two finished runs or more, the reference first; got {len(found)}: {usage}"
        )
    from neuronlens.report.side_by_side import put_side_by_side

    put_side_by_side(found, Path(options[-1]) if options else None)
    return 0


def _gather(arguments: list[str]) -> int:
    options = [argument.removeprefix("output=") for argument in arguments if argument.startswith("output=")]
    folders = [argument for argument in arguments if not argument.startswith("output=")]
    wrong = next((folder for folder in folders if folder.startswith("-") or "=" in folder), None)
    if wrong is not None:
        raise NeuronLensError(unknown("option of gather", wrong, ["output=FOLDER"]))
    if len(folders) != 1:
        raise NeuronLensError(
            f"gather takes the folder of one multirun; got {len(folders)}: neuronlens gather outputs/multirun/<date_time>"
        )
    from neuronlens.report.gather.gather import gather

    return 1 if gather(Path(folders[0]), Path(options[-1]) if options else None) else 0


VERBS: Mapping[str, Verb] = {
    "run": Verb(
        _run,
        "[group=option] [key.sub=value] [-m] | --resume FOLDER",
        "(default) data, model, activations, ranking, ranges, sweep, report: one run folder below outputs/",
        "Runs every stage and writes a folder outputs/<run_name>/<date_time>. It is the verb where none is typed.\n"
        "-m runs one job for each combination of values that are separated by commas: layers.select=0,1 -m.\n"
        "--resume FOLDER goes on with a run that was stopped, with its config; the same command again does so in a new folder.\n"
        "--cfg job prints the whole config and runs nothing; --hydra-help lists Hydra's other flags.\n"
        "neuronlens --help lists the groups; neuronlens help KEY says what a key means.",
    ),
    "doctor": Verb(
        _doctor,
        "[group=option] [key.sub=value]",
        "check the configured model, layer and head before believing its numbers; exit 1 on a failed check",
        "Takes the overrides of `run`, and prints one line per check. Exit code 1 where one fails.",
    ),
    "report": Verb(
        _report,
        "FOLDER ...",
        "redraw tables and figures of run folders: neuronlens report FOLDER ...",
        "Writes table.md, summary.json, report.html and figures/ of finished runs again, from their files alone.",
    ),
    "compare": Verb(
        _compare,
        "FOLDER FOLDER ... [output=FOLDER]",
        "put run folders side by side, paired by concept with the first: neuronlens compare FOLDER FOLDER ... [output=FOLDER]",
        "The first folder is the reference. Writes the comparison and the claims it bears out, each as .md, .csv and .tex,\n"
        "to outputs/compare/<date_time> or to the folder named by output=.",
    ),
    "gather": Verb(
        _gather,
        "MULTIRUN [output=FOLDER]",
        "one table and one page over all jobs of a multirun: neuronlens gather outputs/multirun/<date_time>",
        "Writes gathered.csv and .parquet (the results of all jobs) and gather.md, .csv, .tex and .html (what became of each\n"
        "job, and how they compare; seeds are joined) into the multirun's folder or the one named by output=. -m does so at\n"
        "its end. A job that failed is a row with its reason; the exit code is 1 then.",
    ),
    **commands.VERBS,
}
