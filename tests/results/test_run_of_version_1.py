"""A run folder of manifest format 1, written before there was a number, still opens in report, compare and the lens.

`run_of_version_1/` was written by the code of commit c38132f: a BERT of three layers and sixteen neurons, three concepts,
two edits over two fractions and three taus, without its page and its figures.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.cli import run_command
from neuronlens.errors import ConfigError
from neuronlens.lens.lens import Lens
from neuronlens.records import Site
from neuronlens.results.folder import RunFolder
from neuronlens.results.formats import FORMAT
from neuronlens.storage.files import read_tensors, write_json
from tests.conftest import tiny_inputs, tiny_model

KEPT = Path(__file__).parent / "run_of_version_1"
SITE = Site(2)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old run folder."""
    return Path(shutil.copytree(KEPT, tmp_path / "old"))


def change_config(folder: Path, **changed: object) -> None:
    """Replace entries of the stored config."""
    content = json.loads((folder / "manifest.json").read_text())
    content["config"] |= changed
    write_json(folder / "manifest.json", content)


def numbers(markdown: str) -> list[list[str]]:
    """Return the cells of every table row that is no heading."""
    lines = markdown.splitlines()
    rows = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if not after.startswith("|---")]
    return [re.findall(r"[-+]?\d+\.?\d*", row) for row in rows if row.startswith("|") and not row.startswith("|---")]


def test_its_manifest_is_brought_to_todays_format() -> None:
    assert "format" not in json.loads((KEPT / "manifest.json").read_text())
    manifest = RunFolder(KEPT).read_manifest()
    assert manifest.concepts == ("apple", "bridge", "cloud")
    assert (manifest.model_type, manifest.layer_count, manifest.max_length, manifest.prompt) == ("bert", 3, 16, None)
    config, known = replace(manifest.config, parts={}), manifest.known_config
    known = replace(known, model=replace(known.model, name="tiny_bert"), dataset=replace(known.dataset, name="made_up"))
    assert config == known, "but that local models and data go by their folders' names now"
    assert (manifest.config.headline_tau, manifest.config.evaluation.bootstrap) == (2.5, 50)
    assert manifest.config.sweep.tau == [1.0, 2.5, float("inf")]
    assert manifest.unknown_settings == ()
    assert manifest.git_revision is not None
    assert manifest.git_revision.startswith("c38132f")


def test_report_draws_it_again_with_the_same_numbers(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old / "table.md").unlink()
    (old / "summary.json").unlink()
    assert run_command(["report", str(old)]) == 0
    before, after = numbers((KEPT / "table.md").read_text()), numbers((old / "table.md").read_text())
    assert len(before) > 90
    assert not Counter(map(tuple, before)) - Counter(map(tuple, after)), "every row of then stands in the page of now"
    for name in ("report.html", "summary.json", "figures/tradeoff.png"):
        assert (old / name).stat().st_size > 1000, name
    assert "does not know" not in capsys.readouterr().out


def test_compare_pairs_it_with_another_run(old: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(old, tmp_path / "other"))
    change_config(other, seed=1)
    assert run_command(["compare", str(old), str(other), f"output={tmp_path / 'out'}"]) == 0
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    paired = table[table["part"] == "matched"]
    own = pd.read_parquet(old / "methods.parquet")
    assert len(paired) == len(own)
    assert (paired["complement_accuracy_drop"].dropna() == 0).all()
    assert sorted(paired["complement_accuracy_drop_run"].dropna()) == pytest.approx(
        sorted(own["complement_accuracy_drop"].dropna())
    )
    assert "| seed | 0 | 1 |" in (tmp_path / "out" / "compare.md").read_text()


def test_the_lens_makes_its_edits() -> None:
    lens = Lens.load(KEPT)
    assert (lens.sites, lens.concepts) == ((SITE,), ("apple", "bridge", "cloud"))
    stored = read_tensors(KEPT / "ranges.safetensors")
    edit = lens.edit("bridge", top_fraction=1.0)[SITE]
    for bound in ("lower", "upper"):
        expected = stored[f"{SITE}/gaussian/tau=2.5/{bound}"][1].astype(np.float32)
        np.testing.assert_array_equal(getattr(edit, bound)[0].numpy(), expected)
    wider = lens.edit("bridge", top_fraction=1.0, tau=1.7)[SITE]  # not swept: fitted from the stored activations
    mean, std = stored[f"{SITE}/mean"][1], np.sqrt(stored[f"{SITE}/variance"][1])
    np.testing.assert_allclose(wider.upper[0, 0].numpy(), mean + 1.7 * std, rtol=1e-6)
    model, inputs = tiny_model("bert", labels=3, spread=2.0), tiny_inputs("bert")
    with torch.no_grad():
        before = model(**inputs).logits
        with lens.erase(model, "bridge", gate="neuron", top_fraction=1.0):
            assert not torch.allclose(model(**inputs).logits, before)
        assert torch.equal(model(**inputs).logits, before)


def test_a_setting_that_is_not_known_leaves_tables_open_and_the_lens_closed(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "neuronlens.report.figures.draw.draw", lambda *arguments, **named: []
    )  # slow, and not looked at here
    change_config(old, wings={"left": 3}, range={"_target_": "elsewhere.Gone", "tau": 1.0})
    assert run_command(["report", str(old)]) == 0
    shown = capsys.readouterr().out
    assert "does not know these settings of the run: wings.left." in shown
    assert "(tau 1)" in shown
    assert "&#34;wings&#34;" in (old / "report.html").read_text()
    assert run_command(["compare", str(KEPT), str(old), f"output={tmp_path / 'out'}"]) == 0
    compared = (tmp_path / "out" / "compare.md").read_text()
    assert "| wings.left | - | 3 |" in compared
    assert "| range.tau | 2.5 | 1.0 |" in compared
    with pytest.raises(ConfigError, match="Unknown option 'wings'"):
        Lens.load(old)


def test_a_run_of_a_newer_version_is_refused_in_one_sentence(
    old: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    content = json.loads((old / "manifest.json").read_text())
    write_json(old / "manifest.json", content | {"format": FORMAT + 1})
    for command in (["report", str(old)], ["compare", str(KEPT), str(old), f"output={tmp_path / 'out'}"]):
        assert run_command(command) == 2
        error = capsys.readouterr().err
        assert f"written by a newer neuronlens: its manifest has format {FORMAT + 1}" in error
        assert error.count("\n") == 1
