"""Each column is declared once, and what follows from a declaration: a new knob is one line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from neuronlens.measures import columns
from neuronlens.measures.columns import GENERAL, RESULTS
from neuronlens.measures.declaration import Columns, ResultColumn
from neuronlens.records import Knobs

SPREAD = ResultColumn("spread", "method", "A knob that is declared here alone.", behind=True)


def test_a_column_declared_twice_is_refused() -> None:
    with pytest.raises(AssertionError, match="declared once"):
        Columns((*RESULTS.declared, RESULTS["tau"]))


def test_every_knob_of_a_cell_is_declared_and_every_column_says_what_it_holds() -> None:
    knobs = {field.name for field in fields(Knobs)} - {
        "top_count",
        "scope",
        "made_of",
    }  # n_neurons in the results, and what cell_id rests on
    assert knobs <= set(RESULTS.keys(kind="knob"))
    for column in (*RESULTS.declared, *GENERAL.declared):
        assert column.about.endswith("."), column.key
    assert {column.better for column in RESULTS.declared if column.role in ("erasure", "collateral")} == {"high", "low"}


def test_the_file_holds_every_declared_column_and_an_interval_for_each_measure() -> None:
    ends = {end for key in RESULTS.measures for end in RESULTS[key].ends}
    assert set(RESULTS.in_file) == {column.key for column in RESULTS.declared} | ends
    assert len(RESULTS.in_file) == len(set(RESULTS.in_file))


def test_a_declared_knob_tells_methods_apart_in_every_list() -> None:
    more = Columns((*RESULTS.declared, SPREAD))
    for own, before in (
        (more.method, RESULTS.method),
        (more.settings, RESULTS.settings),
        (more.curve, RESULTS.curve),
        (more.family, RESULTS.family),
        (more.in_file, RESULTS.in_file),
    ):
        assert [key for key in own if key != "spread"] == before
        assert "spread" in own
    assert "spread" not in Columns((*RESULTS.declared, ResultColumn("spread", "dose", "A dose."))).curve


def test_a_table_of_an_older_version_gets_null_columns_for_what_it_lacks() -> None:
    older = pd.DataFrame({"gate": ["range"], "edit": ["zero"]})
    found = RESULTS.completed(older)
    assert set(found) == {*RESULTS.method}
    assert found["tau"].isna().all()
    assert found["edit"].tolist() == ["zero"]
    whole = pd.DataFrame({key: [None] for key in RESULTS.method})
    assert RESULTS.completed(whole) is whole
    assert RESULTS.completed(pd.DataFrame()).columns.empty, "a table that was never made stays empty"


NEW_KNOB = """
import sys, types
from pathlib import Path
import neuronlens.measures

path = Path({path!r})
source = path.read_text()
anchor = '        ResultColumn("edit", "method"'
assert source.count(anchor) == 1
line = '        ResultColumn("spread", "method", "A new knob."),\\n'
module = types.ModuleType("neuronlens.measures.columns")
exec(compile(source.replace(anchor, line + anchor), str(path), "exec"), module.__dict__)
sys.modules[module.__name__] = neuronlens.measures.columns = module

import numpy as np
import pandas as pd
from neuronlens.config.compose import compose
from neuronlens.measures import naming
from neuronlens.measures.columns import RESULTS
from neuronlens.measures.comparison import compare_gates, rank_methods
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import matched_erasure
from neuronlens.records import ResultTable
from neuronlens.report.compare.pairing import paired_methods, shared_knobs
from neuronlens.report.figures.tradeoff import tradeoff
from neuronlens.report.page.cells import table_data
from neuronlens.report.tables.document import markdown
from neuronlens.report.tables.summary import summarise
from neuronlens.tracking.scalars import flat

rows = []
for spread in ("beta=0.1", "beta=0.2"):
    for gate in ("neuron", "range"):
        for concept in ("apple", "bridge", "cloud"):
            for dose, drop in ((10, 0.2), (20, 0.6)):
                row = dict.fromkeys(RESULTS.in_file) | {{"layer": 5, "layers": "5", "site": "resid_post"}}
                row |= {{"edit_positions": "record", "saliency": "max", "gate": gate, "edit": "dampen", "strength": 1.0}}
                row |= {{"range": "gaussian" if gate == "range" else None, "tau": 2.5 if gate == "range" else None}}
                row |= {{"n_neurons": dose, "top_fraction": dose / 100, "concept": concept, "spread": spread}}
                row |= dict.fromkeys(RESULTS.measures, drop) | {{"base_concept_accuracy": 0.9, "cell_id": "x"}}
                rows.append(row)
rows = pd.DataFrame(rows).astype({{key: float for key in ("tau", "strength", "top_fraction", *RESULTS.measures)}})
bootstrap = Bootstrap(0.95, 50, 0)
matched = matched_erasure(rows, [0.5])
assert len(matched) == 2 * 2 * 3, "each value is a curve of its own"
comparison, methods = compare_gates(matched, bootstrap), rank_methods(matched, bootstrap)
assert comparison["spread"].tolist() == ["beta=0.1", "beta=0.2"], "paired within a value"
assert len(methods) == 4
base = {{"accuracy": 0.9, "confidence": 0.9, "n": 3, "concepts": 3}}
table = ResultTable(rows, matched, comparison, methods, pd.DataFrame(), base)
config = compose(["evaluation.bootstrap=50"])
text = markdown(table, config)
assert "| spread |" in text and "dampen, beta=0.1, tau 2.5" in text or "dampen, tau 2.5, beta=0.1" in text, text
assert "range (gaussian 2.5) dampen beta=0.1" in text, text
keys = [key for key in flat(table, compose([])) if key.startswith("methods/") and key.endswith("/kl")]
assert len(keys) == 4 and any("beta_0_1" in key for key in keys), keys
paths = list(summarise(table, config)["matched_erasure"])
assert len(paths) == 4 and "resid_post.5/max/gaussian/2.5/dampen/beta=0.1/0.5/accuracy" in paths, paths
data = table_data(table, bootstrap)
assert {{"name": "spread", "label": "spread"}} in data["knobs"]
assert len({{method["name"] for method in data["methods"]}}) == 4
assert sorted(set(data["cells"]["knobs"]["spread"])) == ["beta=0.1", "beta=0.2"]
figure = tradeoff(rows, bootstrap)
legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
assert len(set(legend)) == 4 and "range (gaussian 2.5) dampen beta=0.1" in legend, legend
agree, apart, _ = shared_knobs(matched, matched)
assert "spread" in agree
assert len(paired_methods(matched, matched, ["apple", "bridge"], keys=agree, apart=apart, bootstrap=bootstrap)) == 4
print("ok")
"""


def test_a_new_knob_is_one_declaration() -> None:
    """With one more line in columns.py, methods, tables, page, figures, comparisons and trackers keep its values apart."""
    code = NEW_KNOB.format(path=str(Path(columns.__file__)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("ok"), done.stderr
