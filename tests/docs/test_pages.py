"""The code of docs/lens.md and docs/bridges.md runs as it stands, on a tiny run; what needs an absent package is left out."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from neuronlens.config.compose import compose
from neuronlens.pipeline import run
from tests.conftest import CONCEPTS, tiny_causal, tiny_tokenizer
from tests.lens.test_fit import LABELS, TEXTS, fit
from tests.test_structure import ROOT


@pytest.fixture(scope="module")
def finished(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("pages") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuronlens.report.figures.draw.draw", lambda *arguments, **named: [])
        run(compose([*tiny_overrides, "sweep=single"]), folder)
    return folder


def blocks(page: str) -> list[tuple[str, bool]]:
    """Return a page's Python blocks, each with whether the page shows what it prints."""
    text = (ROOT / "docs" / page).read_text()
    return [(code, bool(shown)) for code, shown in re.findall(r"```python\n(.*?)```\n(\n```text\n)?", text, flags=re.S)]


def test_the_page_on_the_lens_runs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    found = blocks("lens.md")
    assert len(found) == 8
    for number, (code, shown) in enumerate(found):
        if not number:
            assert len([line for line in code.splitlines() if line]) <= 17
            code = re.sub(r'^RUN = "[^"]*"', f"RUN = {str(finished)!r}", code, flags=re.M)
            code = code.replace('"sci.space", "rec.autos"', repr(CONCEPTS[:2])[1:-1])
        capsys.readouterr()
        exec(compile(code, f"lens.md, block {number}", "exec"), names)
        assert bool(capsys.readouterr().out) == shown, code
    assert (tmp_path / "space.lens").is_file()


def test_the_page_on_other_frameworks_runs(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neuronlens.lens.lens import Lens

    lens = Lens.from_run(finished)
    writer = fit(tiny_causal("llama"), layers=1)
    tokenizer = tiny_tokenizer()
    names: dict[str, Any] = {
        "nl": __import__("neuronlens"),
        "lens": lens,
        "model": lens.loaded.model,
        "tokenizer": lens.loaded.tokenizer,
        "writer": writer,
        "writer_model": writer.loaded.model,
        "writer_tokenizer": tokenizer,
        "CONCEPT": CONCEPTS[0],
        "TEXT": TEXTS[0],
        "TEXTS": TEXTS,
        "LABELS": LABELS,
    }
    ran = 0
    for number, (code, _) in enumerate(blocks("bridges.md")):
        needed = re.match(r"# needs (\w+)", code)
        if needed and (importlib.util.find_spec(needed[1]) is None or "hellaswag" in code):  # a task of the network
            compile(code, f"bridges.md, block {number}", "exec")
            continue
        if "get_peft_model" in code:
            names |= {"writer_model": tiny_causal("llama")}
        exec(compile(code, f"bridges.md, block {number}", "exec"), names)
        names |= {"writer_model": writer.loaded.model}
        ran += 1
    assert ran >= 3
