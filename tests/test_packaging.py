"""The wheel carries the configuration, what it installs composes it, and a bare install runs."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy that is gone afterwards."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "outputs", "*.egg-info", ".*_cache", "build")
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work / "dist"), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(source)
    (built,) = (work / "dist").glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_ships_the_configuration_and_it_composes_from_there(tmp_path: Path, wheel: Path) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(installed)
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"neuronlens/conf/{path.relative_to(ROOT / 'conf')}" in names
    for path in (ROOT / "neuronlens").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in names
    assets = list((ROOT / "neuronlens" / "report" / "page" / "assets").iterdir())
    assert {path.suffix for path in assets} == {".js", ".css", ".j2"}
    for path in assets:
        assert str(path.relative_to(ROOT)) in names
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import neuronlens, neuronlens.config.compose as c;"
        "from neuronlens.config.groups import config_dir;"
        f"assert neuronlens.__file__.startswith({str(installed)!r});"
        f"assert str(config_dir()).startswith({str(installed)!r}), config_dir(); print(c.compose([]).run_name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "minilm-newsgroups20"


def test_a_bare_checkout_composes_too(tmp_path: Path) -> None:
    for name in ("neuronlens", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from neuronlens.config import compose, parts; print(parts.config_dir()); compose.compose([])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_pins_cover_every_requirement() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    options = _setup()
    wanted = [options["options"]["install_requires"], *options["options.extras_require"].values()]
    for requirement in map(Requirement, "\n".join(wanted).split()):
        assert requirement.name in (*pinned, "neuronlens"), requirement


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


def _needed(names: Iterable[str]) -> list[metadata.Distribution]:
    """Return the installed distributions of these names and all that they require, extras left out."""
    found: dict[str, metadata.Distribution] = {}
    open_names = [canonicalize_name(name) for name in names]
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for requirement in map(Requirement, found[name].requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                open_names.append(canonicalize_name(requirement.name))
    return list(found.values())


@pytest.fixture(scope="module")
def bare_venv(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """A virtual environment as `pip install neuronlens` leaves it: what install_requires names, and what that requires.

    The distributions are links to those of the environment that runs the tests, so that nothing is downloaded twice.
    """
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    places = json.loads(_done([str(python), "-c", "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"]))
    site = Path(places["purelib"])
    for distribution in _needed(Requirement(line).name for line in _setup()["options"]["install_requires"].split()):
        for file in distribution.files or []:
            link = site / file
            if ".." not in file.parts and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(distribution.locate_file(file)).resolve())
    _done([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)])
    _done([str(python), "-m", "pip", "check"])  # what the wheel requires is there
    return folder


def _done(command: list[str], *, code: int = 0, **options: Any) -> str:
    """Return what a command printed, stdout before stderr, after it ended with this exit code."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_bare_install_runs_and_says_which_extra_is_missing(
    bare_venv: Path, tiny_overrides: list[str], tmp_path: Path
) -> None:
    def neuronlens(*arguments: str, code: int = 0) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        return _done([str(bare_venv / "bin" / "neuronlens"), *arguments], code=code, cwd=tmp_path, env=environment)

    absent = "import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    optional = ["altair", "matplotlib", "vl_convert", "wandb", "tensorboard", "gguf", "accelerate"]
    assert _done([str(bare_venv / "bin" / "python"), "-c", absent.format(names=optional)]).strip() == "[]"

    overrides = [entry for entry in tiny_overrides if not entry.startswith(("logger", "paths"))]
    said = neuronlens("run", *overrides, "logger=csv", "run_name=csv")
    assert "under range masks" in said
    assert said.count("pip install 'neuronlens[report]'") == 1
    assert "neuronlens[wandb]" not in said
    (csv,) = (tmp_path / "outputs" / "csv").iterdir()
    written = {path.name for path in csv.iterdir()}
    assert {"results.csv", "results.parquet", "table.md", "summary.json", "manifest.json", "metrics.csv"} <= written
    assert "report.html" not in written

    said = neuronlens("run", *overrides, "run_name=default")
    assert said.count("pip install 'neuronlens[wandb]', or logger=csv.") == 1
    (default,) = (tmp_path / "outputs" / "default").iterdir()
    one, other = (pd.read_csv(folder / "results.csv").drop(columns="run_id") for folder in (default, csv))
    pd.testing.assert_frame_equal(one, other)

    for override, extra in (
        ("logger=wandb", "wandb"),
        ("logger=tensorboard", "tensorboard"),
        ("model=smollm2", "gguf"),
    ):
        said = neuronlens("run", override, "run_name=refused", code=2)
        assert f"pip install 'neuronlens[{extra}]'" in said
        assert said.count("\n") == 1
    assert not (tmp_path / "outputs" / "refused").exists()

    (csv / "table.md").unlink()
    assert "pip install 'neuronlens[report]'" in neuronlens("report", str(csv))
    assert (csv / "table.md").is_file()
    assert "claims.md" in neuronlens("compare", str(csv), str(default))
    assert "0 failed" in neuronlens("doctor", *overrides)
    assert "newsgroups20*" in neuronlens("--help")
