"""Names of methods and places: keys that never change, and no two methods of one name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuronlens.measures import naming
from neuronlens.measures.columns import METHOD, SETTINGS

ROW: dict[str, Any] = {
    **dict.fromkeys(METHOD),
    "layer": 5,
    "layers": "5",
    "site": "resid_post",
    "edit_positions": "record",
    "saliency": "max",
    "range": "gaussian",
    "tau": 2.5,
    "gate": "range",
    "edit": "zero",
    "strength": 1.0,
}
NEURON: dict[str, Any] = {**ROW, "gate": "neuron", "range": None, "tau": np.nan}
OTHER: dict[str, Any] = {
    "layers": "4",
    "site": "mlp_out",
    "edit_positions": "all",
    "saliency": "probe",
    "range": "quantile",
    "tau": 1.0,
    "gate": "outside",
    "edit": "mean",
    "control": "random_neurons",
    "strength": 0.5,
    "parameters": "beta=0.5",
    "top_fraction": 0.3,
}


@pytest.mark.parametrize(
    ("row", "name", "key", "path"),
    [
        (ROW, "range (gaussian 2.5) zero", "range_zero_gaussian_tau2_5_max", "max/gaussian/2.5/zero"),
        (NEURON, "neuron zero", "neuron_zero_max", "max/zero"),
        (
            {**ROW, "tau": np.inf, "strength": 0.5, "control": "other_concept"},
            "range (gaussian inf) zero x 0.5 (other_concept)",
            "range_zero_gaussian_tauinf_max_x0_5_other_concept",
            "max/gaussian/inf/zero/0.5/other_concept",
        ),
        (
            {**NEURON, "edit": "leace", "saliency": None, "strength": np.nan, "n_neurons": 384},
            "neuron leace",
            "neuron_leace",
            "leace",
        ),
        ({**NEURON, "top_fraction": 0.3, "n_neurons": 115}, "neuron zero", "neuron_zero_max_top0_3", "max/zero"),
        ({**NEURON, "n_neurons": 115}, "neuron zero", "neuron_zero_max_115neurons", "max/zero"),
    ],
)
def test_names_and_keys(row: dict[str, Any], name: str, key: str, path: str) -> None:
    assert naming.method(row) == name
    assert naming.method_key(row) == key, "people sort runs by it"
    assert naming.method_path(row) == path, "people read summary.json by it"
    assert naming.place_key(row) == "resid_post_5"


@pytest.mark.parametrize("knob", SETTINGS)
def test_methods_that_differ_in_any_knob_have_different_names_in_their_table(knob: str) -> None:
    one = {**ROW, "parameters": "beta=0.1"} if knob == "parameters" else ROW  # an edit has them always or never
    rows = [one, {**ROW, knob: OTHER[knob]}]
    apart = naming.setting_apart(pd.DataFrame(rows, columns=METHOD))
    assert len({naming.method(row, apart) for row in rows}) == 2 or knob == "top_fraction"
    if knob == "top_fraction":  # None against 0.3 is one value: two are told apart
        rows[0] = {**ROW, knob: 0.5}
        apart = naming.setting_apart(pd.DataFrame(rows, columns=METHOD))
        assert [naming.method(row, apart)[-18:] for row in rows] == ["50% of the neurons", "30% of the neurons"]
    keys = {(naming.place_key(row), naming.method_key(row)) for row in rows}
    assert len(keys) == 2 or knob == "edit_positions", "a run has one"


def test_values_of_two_runs_side_by_side_are_named_as_they_are() -> None:
    assert naming.method({**ROW, "tau": "2 / 2.5", "saliency": "max / probe"}) == "range (gaussian 2 / 2.5) zero"
