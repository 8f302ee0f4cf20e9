"""The map of DESIGN.md, held against the imports; lightness of the package; every trap of the issue has its test."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "neuronlens"
RANKS = [
    {"errors"},
    {"records"},
    {"config"},
    {"storage", "execution"},
    {"hooks", "data"},
    {"models"},
    {"activations"},
    {"saliency", "ranges"},
    {"edits"},
    {"sweep"},
    {"measures"},
    {"results"},
    {"report", "tracking"},
    {"lens", "doctor", "pipeline"},
    {"launch"},
    {"cli", "__init__"},
]
HOMES = {
    "hydra": {"config", "launch", "pipeline"},
    "omegaconf": {"config", "launch", "pipeline"},
    "pytorch_lightning": {"models", "activations", "sweep", "measures", "execution"},
    "transformers": {"models", "execution", "lens"},
    "wandb": {"tracking"},
    "tensorboard": {"tracking"},
    "rich": {"execution", "report", "doctor"},
    "matplotlib": {"report"},
    "altair": {"report"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "vl_convert": {"report"},
    "sklearn": {"saliency", "ranges", "edits", "measures", "lens"},
}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    rank = {room: number for number, rooms in enumerate(RANKS) for room in rooms}
    room = _room(path)
    assert room in rank, f"{room} has no place on the map"
    for name in _imports(path):
        if name.startswith("neuronlens.") and room != "__init__":
            other = name.split(".")[1]
            assert other == room or rank[other] < rank[room], f"{room} imports {other}, which stands above or beside it"
        home = HOMES.get(name.split(".")[0])
        assert home is None or room in home, f"{name} has no business in {room}"


def test_the_map_would_catch_a_wrong_edge() -> None:
    rank = {room: number for number, rooms in enumerate(RANKS) for room in rooms}
    assert rank["hooks"] < rank["pipeline"]
    assert not rank["pipeline"] < rank["hooks"]


def test_no_two_files_import_each_other() -> None:
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): {
            n for n in _imports(path) if n.startswith("neuronlens.")
        }
        for path in MODULES
        if path.name != "__init__.py"
    }
    for name, imported in graph.items():
        for other in imported:
            assert name not in graph.get(other, set()), f"{name} and {other} import each other"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_over_300_lines(path: Path) -> None:
    assert path.read_text().count("\n") <= 300


def test_the_median_module_is_short_and_the_top_holds_six() -> None:
    sizes = sorted(path.read_text().count("\n") for path in MODULES if path.name != "__init__.py")
    assert sizes[len(sizes) // 2] < 120
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_trap_30_importing_changes_nothing() -> None:
    code = """
import logging, os, random, sys, warnings
import hydra, numpy, omegaconf
def state():
    return dict(os.environ), sys.excepthook, logging.getLogger().handlers[:], random.getstate(), warnings.filters[:]
before = state()
import neuronlens, neuronlens.cli
assert not {"torch", "transformers", "pytorch_lightning", "wandb", "datasets"} & set(sys.modules), "heavy import"
assert before == state(), "the package or its command line"
import matplotlib.figure, pandas, pytorch_lightning, rich.table, sklearn.mixture, torch, transformers
import torch.utils.data
from transformers import AutoModelForSequenceClassification, AutoTokenizer
before, seed = state(), torch.initial_seed()
import neuronlens.pipeline, neuronlens.doctor
assert before[:4] == state()[:4] and torch.initial_seed() == seed, "the stages"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_trap_of_the_built_issues_is_a_named_test() -> None:
    built = {*range(1, 24), 25, 26, 27, 29, *range(30, 39), 49}
    named: set[int] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for match in re.finditer(r"def test_trap_((?:\d+_)+)", path.read_text()):
            named |= {int(number) for number in match.group(1).strip("_").split("_")}
    assert named >= built, f"traps without a test: {sorted(built - named)}"


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_experiments_and_benchmarks_use_the_public_names_alone(folder: str) -> None:
    for path in sorted((ROOT / folder).glob("*.py")):
        inside = {name for name in _imports(path) if name.startswith("neuronlens.")}
        assert not inside, (
            f"{path.name} imports {', '.join(sorted(inside))}. Next: a public name of neuronlens/__init__.py"
        )


def test_every_public_name_is_there_and_typed() -> None:
    import neuronlens as nl

    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    typed = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("neuronlens.")
        for alias in node.names
    }
    assert sorted(typed) == nl.__all__[1:]
    for name, home in typed.items():
        module, _, attribute = home.rpartition(".")
        assert getattr(nl, name) is getattr(importlib.import_module(module), attribute)
