"""Starts runs: one or a multirun through Hydra, and one that was stopped, from its folder."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.experimental.callback import Callback

from neuronlens.errors import NeuronLensError, OutputError, printable

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from neuronlens.config.flags import Flags

log = logging.getLogger(__name__)
_refused: list[str] = []
"""What the jobs of this command refused so far."""
_running: list[Path] = []
"""The folder of the run that this command works in; none in a multirun, where several may."""


_multiruns: list[Path] = []
"""The folder of the multirun that this command has started."""


class Started(Callback):
    """What Hydra calls in the command's own process when a multirun starts: it keeps the multirun's folder."""

    def on_multirun_start(self, config: DictConfig, **more: object) -> None:
        """Keep the folder, as Hydra has resolved it."""
        _multiruns.append(Path(str(config.hydra.sweep.dir)))


def start(flags: Flags) -> int:
    """Start a run or a multirun, or print what Hydra's flags ask for; return the exit code.

    Raises:
        NeuronLensError: bad input, found before a folder is made where that is possible.
    """
    import hydra

    from neuronlens.config.compose import register
    from neuronlens.config.groups import config_dir
    from neuronlens.config.jobs import checked_jobs

    register()
    _running.clear()
    if flags.runs:  # all that is wrong is found before Hydra makes a folder
        jobs = checked_jobs(flags.overrides, multirun=flags.multirun, config_dir=flags.config_dir)
        from neuronlens.models.inputs import refuse_inputs_of  # pandas is imported only once the config holds
        from neuronlens.results.claim import own_folder

        refuse_inputs_of([one.config for one in jobs])
        flags.overrides += own_folder(flags.overrides, jobs[0].config, multirun=flags.multirun)
    _refused.clear()
    _multiruns.clear()
    fell = False
    with _command_line(flags.words):
        try:
            hydra.main(config_path=str(config_dir()), config_name="config", version_base="1.3")(job)()
        except Exception as error:
            if not (flags.runs and flags.multirun and _multiruns):
                raise
            fell = True
            log.exception("The launcher failed")  # a job's process died, say: the others have their results
            print(f"neuronlens: the launcher failed: {printable(str(error))}", file=sys.stderr)
    if _refused:
        raise NeuronLensError("\n".join(_refused))
    if not (flags.runs and flags.multirun):
        return 0
    from neuronlens.report.gather.gather import gather

    return 1 if gather(_multiruns[-1], quiet=jobs[0].config.quiet) or fell else 0


@contextmanager
def _command_line(words: list[str]) -> Iterator[None]:
    """Let Hydra read these words, and let exceptions come through to the command, which names them once."""
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [before[0][0], *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before[1]


def job(composed: DictConfig) -> None:
    """Run one job of a (multi)run in its own folder; the function Hydra's launchers call."""
    from hydra.core.hydra_config import HydraConfig

    from neuronlens.config.compose import register, resolve
    from neuronlens.config.jobs import job_of, unused
    from neuronlens.config.plan import grid

    register()  # a launcher may have started this process for the job
    launched = HydraConfig.get()
    config = resolve(composed, launched.runtime)
    grid(config)
    for sentence in unused(list(launched.overrides.task), config):
        log.warning("%s", sentence)
        print(f"neuronlens: {sentence}", file=sys.stderr)
    from neuronlens.pipeline import run  # torch and transformers are imported only once the config holds
    from neuronlens.results.claim import given_up
    from neuronlens.results.failures import forget_failure, write_failure

    folder, one = Path(launched.runtime.output_dir), job_of(launched)
    _running[:] = [folder] if one is None else []
    try:
        if one is not None:
            forget_failure(Path(launched.sweep.dir), one.number)
        run(config, folder, job=one)
    except Exception as error:
        refused = isinstance(error, NeuronLensError)
        if refused and not isinstance(error, OutputError):
            given_up(folder)
        if one is not None:  # the others go on, and the end of the multirun names it
            why = write_failure(Path(launched.sweep.dir), one, error)
            log.error("%s", why, exc_info=None if refused else error)
            print(
                f"neuronlens: {printable(f'Job {one.number} ({chr(32).join(one.overrides)}): {why}')}", file=sys.stderr
            )
        elif refused:
            _refused.append(str(error))  # not raised here, for Hydra would add a message of its own
        else:
            raise


def resume(path: Path, config_dir: str | None = None) -> int:
    """Go on with the run that was stopped in a folder, with the config that it was started with; return the exit code.

    Args:
        config_dir: a folder of options of one's own, where the config names their classes.

    Raises:
        OutputError: no run was started there.
        ConfigError: its config does not hold in this version, or names a class that nobody registered in this process.
    """
    from neuronlens.config.trust import trust
    from neuronlens.models.inputs import refuse_inputs
    from neuronlens.results.started import read_started

    if config_dir is not None:
        trust([Path(config_dir)])
    folder, started = path.resolve(), read_started(path)
    if started is None:
        print(f"neuronlens: the run in {path} has come to its end; nothing is left to do.", file=sys.stderr)
        return 0
    with chdir(started.directory if started.directory.is_dir() else Path.cwd()):
        refuse_inputs(started.config)
        from neuronlens.execution.log import log_into
        from neuronlens.pipeline import run

        _running[:] = [folder]
        with log_into(folder / "run.log"):
            run(started.config, folder, job=started.job, resumed=True)
    return 0


def or_resume() -> str:
    """Return the words that name the command which goes on with the run that was stopped; none in a multirun."""
    there = [folder for folder in _running if (folder / "started.json").is_file()]
    return f", or neuronlens run --resume {shlex.quote(str(there[-1]))}" if there else ""
