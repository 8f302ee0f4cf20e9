"""The wheel carries the configuration, and what it installs composes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_wheel_ships_the_configuration_and_it_composes_from_there(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "outputs", "*.egg-info", ".*_cache", "build")
    )
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(source),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
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
    shutil.rmtree(source)
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import neuronlens, neuronlens.config.compose as c;"
        "from neuronlens.config.parts import config_dir;"
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
    import configparser
    import re

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"].split() + setup["options.extras_require"]["dev"].split()
    for requirement in wanted:
        assert re.split(r"[<>=]", requirement)[0].lower() in pinned, requirement
