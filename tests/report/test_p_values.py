"""p values beside differences: Holm's adjustment over all the comparisons of a table, and none over too few concepts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neuronlens.measures.verdict import TOO_FEW
from neuronlens.report.p_values import p_columns, with_holm
from neuronlens.report.render.markdown import to_markdown
from neuronlens.report.table import Table


def test_holm_is_over_every_row_and_column_of_a_table() -> None:
    frame = pd.DataFrame({"n": [8, 8, 8], "a": [0.01, 0.04, np.nan], "b": [0.03, 0.5, 0.02]})
    found = with_holm(frame, "n", ["a", "b"])
    # sorted: .01 x 5, .02 x 4, .03 x 3, .04 x 2, .5 x 1, each at least the one before
    assert found["a_holm"].tolist() == pytest.approx([0.05, 0.09, np.nan], nan_ok=True)
    assert found["b_holm"].tolist() == pytest.approx([0.09, 0.5, 0.08])
    assert found["too_few"].isna().all()


def test_a_comparison_over_too_few_concepts_says_so_and_is_no_part_of_the_others() -> None:
    frame = pd.DataFrame({"n": [8, 4, 0], "p": [0.03, 0.125, np.nan]})
    found = with_holm(frame, "n")
    assert found["p_holm"].tolist() == pytest.approx([0.03, np.nan, np.nan], nan_ok=True)
    text = to_markdown(Table("t", "T", "c", found, p_columns()))
    assert text.count(TOO_FEW) == 1
    assert "0.12" in text, "the p itself stands"


def test_runs_of_an_older_version_have_no_p() -> None:
    found = with_holm(pd.DataFrame({"n": [8]}), "n")
    assert found[["p", "p_holm"]].isna().all(axis=None)
