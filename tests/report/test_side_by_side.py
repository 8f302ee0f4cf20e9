"""Two real runs of the tiny model that differ in their saliency, from the command line to the pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuronlens.cli import run_command
from neuronlens.report.claims.claims import claims
from neuronlens.results.folder import RunFolder
from tests.conftest import CONCEPTS
from tests.report.test_table import ENGINE, compile_latex


@pytest.fixture(scope="module")
def folders(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs, by max and by dprime."""
    home = tmp_path_factory.mktemp("runs")
    for name in ("max", "dprime"):
        assert run_command(["run", *tiny_overrides, f"saliency={name}", f"hydra.run.dir={home / name}"]) == 0
    return [home / "max", home / "dprime"]


def test_runs_that_differ_in_saliency_are_paired(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["compare", *map(str, folders), f"output={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "dprime is paired with the reference over 4 common concepts." in said
    rows = pd.read_csv(tmp_path / "compare.csv")
    matched = rows[rows["part"] == "matched"]
    one, two = (pd.read_parquet(folder / "matched.parquet") for folder in folders)
    assert len(matched) == len(one.groupby(["gate", "tau", "edit", "level"], dropna=False)), "every method, joined once"
    assert set(matched["saliency"]) == {"dprime / max"}
    for row in matched.to_dict("records"):
        costs = []
        for table in (one, two):
            own = table[
                (table["gate"] == row["gate"]) & (table["edit"] == row["edit"]) & (table["level"] == row["level"])
            ]
            own = own[(own["tau"] == row["tau"]) | (own["tau"].isna() & pd.isna(row["tau"]))]
            costs.append(own.set_index("concept")["complement_confidence_drop"])
        difference = (costs[1] - costs[0]).dropna()
        assert row["n"] == len(difference)
        if len(difference):
            assert row["complement_confidence_drop"] == pytest.approx(difference.mean(), abs=1e-12)
    base = rows[rows["part"] == "unedited"]
    assert base["concept_accuracy_difference"].dropna().tolist() == [0.0], "the same model before any edit"


@pytest.mark.skipif(ENGINE is None, reason="neither tectonic nor pdflatex is on PATH")
def test_the_latex_of_real_runs_compiles(folders: list[Path], tmp_path: Path) -> None:
    assert run_command(["compare", *map(str, folders), f"output={tmp_path}"]) == 0
    body = (tmp_path / "compare.tex").read_text() + (tmp_path / "claims.tex").read_text()
    compile_latex(body, tmp_path)


def test_claims_agree_with_the_runs_own_comparison(folders: list[Path]) -> None:
    frame = claims([RunFolder(folders[0])]).frame
    assert set(frame["claim"]) == {1, 2, 3, 4, 5}
    own = pd.read_parquet(folders[0] / "comparison.parquet")
    own = own[(own["tau"] == 2.5) & (own["n_concepts"] > 1)]
    found = frame[(frame["claim"] == 5) & frame["statistic"].str.contains("confidence") & (frame["concepts"] > 1)]
    assert len(found) == len(own) > 0
    expected = own[[f"complement_confidence_drop_{end}" for end in ("difference", "low", "high")]].to_numpy()
    got = found[["value", "value_low", "value_high"]].to_numpy()
    np.testing.assert_allclose(sorted(map(tuple, got)), sorted(map(tuple, expected)))


def test_claims_agree_with_the_runs_own_diagnostics(folders: list[Path]) -> None:
    frame = claims([RunFolder(folders[0])]).frame
    overlap = pd.read_parquet(folders[0] / "overlap.parquet")
    apart = overlap[overlap["concept"] != overlap["other"]]["jaccard"].mean()
    assert frame.loc[frame["claim"] == 1, "value"].iloc[0] == pytest.approx(apart)
    neurons = pd.read_parquet(folders[0] / "diagnostics.parquet").drop_duplicates(["concept", "neuron"])
    assert frame.loc[frame["statistic"] == "mean absolute skewness", "value"].iloc[0] == pytest.approx(
        neurons["skewness"].abs().mean()
    )
    assert set(frame["concepts"]) <= set(range(len(CONCEPTS) + 1))
