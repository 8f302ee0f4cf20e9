"""A head from outside the package, chosen by a YAML in a folder of one's own, is swept like the package's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.cli import run_command
from neuronlens.errors import ConfigError
from neuronlens.lens.lens import Lens
from neuronlens.models.heads.base import Labels
from neuronlens.models.heads.label_scores import LabelLogprob
from neuronlens.records import Site
from neuronlens.results.folder import RunFolder
from tests.conftest import CONCEPTS
from tests.models.heads.own_heads import Summed, Tempered
from tests.sweep.test_evaluator_causal import language_model, swept

TEMPERED = """
_target_: tests.models.heads.own_heads.Tempered
prompted: false
temperature: ${seed}
"""


def _run(folder: Path, name: str, overrides: list[str]) -> Path:
    """Return the run folder of one run of the command line with a folder of options."""
    out = folder / name
    cells = ["sweep.tau=[1.5]", "sweep.top_fraction=[0.5]", f"paths.output_dir={out}", "quiet=true"]
    assert run_command(["run", "--config-dir", str(folder / "conf"), *overrides, *cells]) == 0
    return next(out.glob("*/*/results.parquet")).parent


def test_a_head_of_ones_own_is_one_yaml_in_a_config_dir(tiny_overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "conf" / "head").mkdir(parents=True)
    (tmp_path / "conf" / "head" / "tempered.yaml").write_text(TEMPERED)
    own = _run(tmp_path, "own", [*tiny_overrides, "model.head=tempered", "seed=5"])
    other = _run(tmp_path, "other", [*tiny_overrides, "model.head=tempered", "seed=2"])
    lens = Lens.load(own)  # no folder of options is searched here
    loaded = lens.load_model()
    assert loaded.head == Tempered(Labels("cls"), temperature=5)
    samples, rows = pd.read_parquet(own / "samples.parquet"), pd.read_parquet(own / "results.parquet")
    test = samples[samples["split"] == "test"]
    gold = []
    for text, label in zip(test["text"], test["label"], strict=True):
        with torch.no_grad():
            logits = loaded.model(**loaded.tokenizer(text, return_tensors="pt", truncation=True, max_length=16)).logits
        gold.append(float((logits[0] / 5).softmax(-1)[CONCEPTS.index(label)]))
    np.testing.assert_allclose(test["base_confidence"], gold, atol=1e-5)
    edited = rows[rows["edit"] != "none"]
    assert edited["skipped"].isna().all()
    assert (edited["kl"] > 1e-4).any(), "its cells change what it reads"
    keys = [RunFolder(folder).read_manifest().fingerprints["model"] for folder in (own, other)]
    assert keys[0] != keys[1], "its parameter is part of the fingerprint"


def test_a_prompted_head_of_ones_own_is_read_in_the_ways_of_the_one_it_extends() -> None:
    option = {"_target_": "tests.models.heads.own_heads.Summed", "prompted": True, "confidence": "labels"}
    own = language_model("llama", "summed", head_options={"summed": option})
    plain_model = language_model("llama", "label_logprob")
    assert isinstance(own.head, Summed)
    assert isinstance(plain_model.head, LabelLogprob)
    lengths = torch.tensor([len(tokens) for tokens in own.head.labels.tokens])
    for site, positions in ((Site(2), "record"), (Site(1), "record"), (Site(1), "all")):
        summed, mean = (swept(model, site, positions)[0] for model in (own, plain_model))
        assert type(summed.strategy) is type(mean.strategy)
        for read in (summed, mean):
            assert np.abs(read.outcomes.kl).max() > 1e-3
    logits = torch.randn(3, 4, 64, generator=torch.Generator().manual_seed(0))
    sums = own.head.of(logits).log_probabilities
    scores = plain_model.head.label_scores(  # the mean of each label's tokens, so the sum over its length
        logits[:, 0].log_softmax(-1)[:, [tokens[0] for tokens in own.head.labels.tokens]],
        plain_model.head.further_tokens(logits[:, 1:]),
    )
    torch.testing.assert_close(sums, (scores * lengths).log_softmax(-1))


def test_a_parameter_that_the_class_does_not_take_is_refused() -> None:
    option = {"_target_": "tests.models.heads.own_heads.Summed", "prompted": True, "confidense": "labels"}
    with pytest.raises(ConfigError, match=r"model\.head\.confidense.*Did you mean 'model\.head\.confidence'"):
        language_model("llama", "mine", head_options={"mine": option})


def _options(folder: Path, **files: str) -> Path:
    """Return a folder of options with these heads."""
    (folder / "conf" / "head").mkdir(parents=True)
    for name, text in files.items():
        (folder / "conf" / "head" / f"{name}.yaml").write_text(text)
    return folder / "conf"


def test_a_head_with_the_name_of_ours_is_refused(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _options(tmp_path, seq_cls=TEMPERED)
    assert run_command(["run", "--config-dir", str(folder), *tiny_overrides, "model.head=seq_cls"]) == 2
    printed = capsys.readouterr().err
    assert "head 'seq_cls' is both " in printed
    assert f"{folder}/head/seq_cls.yaml. Next: give yours another name." in printed


def test_a_misspelt_head_is_answered_with_ones_own_nearest_name(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _options(tmp_path, tempered=TEMPERED)
    assert run_command(["run", "--config-dir", str(folder), *tiny_overrides, "model.head=temperd"]) == 2
    assert "Did you mean 'tempered'?" in capsys.readouterr().err
