"""What travels in a run folder is data: no class that nobody registered is built, and no reference is followed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neuronlens.config.compose import compose, restore
from neuronlens.config.trust import strangers, trust
from neuronlens.errors import ConfigError, file_name, one_line, printable
from neuronlens.storage.files import json_types


@pytest.mark.parametrize(
    "change",
    [
        {"saliency": {"_target_": "os.system", "command": "touch owned"}},
        {"range": {"_target_": "neuronlens.cli.main"}},
        {"parts": {"edit": {"zero": {"_target_": "subprocess.Popen", "args": "x"}}}},
        {"edit": {"mine": {"_target_": "builtins.exec"}}},
        {"model": {"head": "x", "head_options": {"x": {"_target_": "os.system", "prompted": False}}}},
        {"dataset": {"read_options": {"converters": {"text": {"_target_": "builtins.eval"}}}}},
    ],
)
def test_a_class_that_nobody_registered_is_not_built_from_a_file(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="a class that neither neuronlens nor an option of this process names"):
        restore({**json_types(compose([])), **change})


def test_not_even_imported(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('owned').write_text('x')\n")
    code = (
        "from neuronlens.config.compose import restore\n"
        "from neuronlens.errors import ConfigError\n"
        "try: restore({'saliency': {'_target_': 'evil.Part'}})\n"
        "except ConfigError: print('refused')\n"
    )
    environment = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert done.stdout == "refused\n"
    assert not (tmp_path / "owned").exists()


def test_options_of_this_process_may_be_built(tmp_path: Path) -> None:
    stored = {"range": {"_target_": "someone.parts.Own"}}
    assert len(strangers(stored)) == 1
    (tmp_path / "range").mkdir()
    (tmp_path / "range" / "own.yaml").write_text("_target_: someone.parts.Own\n")
    trust([tmp_path])
    assert strangers(stored) == []


def test_references_in_a_file_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a key")
    for text in ("${oc.env:SECRET}", "a ${model.name} b", "\\${x}", "${"):
        restored = restore({**json_types(compose([])), "run_name": text})
        assert restored.run_name == text


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "/etc/passwd", "../../y", "a/b", "a\\b", "~", "-rf", "a\0b", "\n", "x" * 500, "\u00fc" * 300],
)
def test_a_name_is_one_step_of_a_path(name: str, tmp_path: Path) -> None:
    kept = file_name(name)
    assert (tmp_path / kept).resolve().parent == tmp_path.resolve()
    assert len(kept.encode()) <= 120
    assert not kept.startswith((".", "-", "~"))
    (tmp_path / kept).mkdir()


def test_names_that_are_cut_stay_different() -> None:
    assert file_name("x" * 300) != file_name("x" * 301)


def test_control_characters_are_written_out() -> None:
    assert printable("\x1b]0;title\x07\u202egpj") == "\\x1b]0;title\\x07\\u202egpj"
    assert one_line("label\n2026-01-01 ERROR forged") == "label\\n2026-01-01 ERROR forged"
