"""The table of general ability: its rows, what chooses its cells, and that they are found again in the results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError, ModelError
from neuronlens.measures.general.rows import (
    COLUMNS,
    GeneralData,
    check_model,
    chosen_cells,
    general_rows,
    load_general,
    measure_general,
)
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.metrics import BaseOutcomes
from neuronlens.measures.rows import result_rows
from neuronlens.records import Cell, ConceptDataset, Knobs, Site
from neuronlens.storage.cache import Store
from neuronlens.sweep.evaluator import Outcomes
from neuronlens.sweep.runner import SiteSweep
from tests.measures.general.language_models import ByHand, cell, loaded_lm
from tests.measures.general.test_mmlu import QUESTIONS
from tests.measures.general.test_perplexity import prose

OVERRIDES = [
    "evaluation.general.perplexity=true",
    "evaluation.general.mmlu=true",
    "evaluation.general.documents.max_length=12",
    "evaluation.general.questions={shots:2,max_length:98,edit_positions:record}",
    "evaluation.bootstrap=50",
    "trainer=cpu",
    "trainer.progress=false",
]
KEYS = {"model": "m", "data": "d", "fitting": "f"}


def _data() -> ConceptDataset:
    labels = np.arange(8) % 2
    ids = tuple(f"id{number}" for number in range(8))
    return ConceptDataset("made_up", ids, labels, ("apple", "bridge"), ids, np.array(["test"] * 8), "d")


def _sweep(cells: list[Cell]) -> SiteSweep:
    shape = (len(cells), 8)
    outcomes = Outcomes(np.full(shape, 0.5), np.ones(shape, bool), np.zeros(shape), np.zeros(shape, bool))
    return SiteSweep(
        sites=(Site(1),),
        mode="each",
        cells=cells,
        skipped={},
        n_neurons=dict.fromkeys(cells, 7),
        samples=np.arange(8),
        samples_per_concept=None,
        builders={},
        outcomes=outcomes,
        select=None,
    )


def _table(config: Config, cells: list[Cell], edits: ByHand) -> pd.DataFrame:
    general = GeneralData(prose(), QUESTIONS)
    outcomes = measure_general(config, loaded_lm("llama"), general, {Site(1): edits}, cells)
    return general_rows(
        config,
        run_id="r",
        data=_data(),
        sweeps=[(_sweep(cells), outcomes)],
        fingerprints=KEYS,
        bootstrap=Bootstrap.of(config),
    )


def test_a_row_per_measure_subject_and_cell_with_the_unedited_model_first() -> None:
    config, edits = compose(OVERRIDES), ByHand(16)
    cells = edits.cells
    table = _table(config, cells, edits)
    assert tuple(table.columns) == COLUMNS
    assert len(table) == (1 + 3 * 3) * (1 + len(cells))
    unedited = table[table["edit"] == "none"]
    assert len(unedited) == 1 + 3 * 3
    assert unedited["concept"].isna().all()
    assert (unedited["difference"] == 0).all()
    one = table[table["measure"] == "perplexity"]
    assert one["subject"].isna().all()
    assert (one["edit_positions"].dropna() == "all").all()
    np.testing.assert_allclose(one["ratio"], one["edited"] / one["base"])
    assert (one["n_tokens"] == 62).all()
    assert one["base"].nunique() == 1, "one unedited model, whatever the cell"
    rest = table[table["measure"] != "perplexity"]
    assert set(rest["measure"]) == {"mmlu_accuracy", "mmlu_confidence", "mmlu_flip_rate"}
    assert (rest["edit_positions"].dropna() == "record").all()
    assert rest[["ratio", "n_tokens"]].isna().all().all()
    several = (table["n"] > 1) | ~table["measure"].isin(
        ["mmlu_confidence", "perplexity"]
    )  # a mean of one has no interval
    assert (table["edited_low"] <= table["edited_high"])[several].all()
    assert table.loc[~several, ["edited_low", "edited_high"]].isna().all(axis=None)
    assert several.any()
    changed = one[one["edit"] != "none"]
    assert (changed["difference"].abs() > 1e-3).all()
    assert set(changed["edit"]) == {"zero", "leace"}
    assert (changed["n_neurons"] == 7).all()


def test_a_cell_has_the_id_of_its_row_in_the_results() -> None:
    config, edits = compose(OVERRIDES), ByHand(16)
    cells = edits.cells
    table = _table(config, cells, edits)
    base = BaseOutcomes(np.full(8, 0.5), np.ones(8, bool))
    labels = np.arange(8) % 2
    results = result_rows(
        config,
        run_id="r",
        data=_data(),
        sweeps=[_sweep(cells)],
        base=base,
        labels=labels,
        fingerprints=KEYS,
        bootstrap=Bootstrap.of(config),
    )
    for name in ("perplexity", "mmlu_accuracy"):
        own = table[(table["measure"] == name) & table["subject"].isna() & (table["edit"] != "none")]
        both = own.merge(results, on="cell_id", suffixes=("", "_results"))
        assert len(both) == len(cells)
        assert (both["edit"] == both["edit_results"]).all()
        assert (both["concept"] == both["concept_results"]).all()
        assert (both["top_fraction"] == both["top_fraction_results"]).all()


def test_cells_are_chosen_by_their_knobs() -> None:
    def one(fraction: float | None, tau: float | None, concept: int) -> Cell:
        return Knobs(
            saliency="max", top_fraction=fraction, range="gaussian", tau=tau, gate="range", edit="zero", strength=1.0
        ), concept

    cells = [one(f, t, c) for f in (0.1, 0.5, None) for t in (1.0, 2.5, None) for c in (0, 1)]
    names = ("apple", "bridge")
    off = compose([]).evaluation.general
    assert chosen_cells(off, cells, names) == cells
    some = compose(["evaluation.general={top_fraction:[0.5],tau:[1.0],concepts:[bridge]}"]).evaluation.general
    assert chosen_cells(some, cells, names) == [one(f, t, 1) for f in (0.5, None) for t in (1.0, None)]


def test_what_is_off_is_not_loaded_and_a_wrong_concept_is_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert load_general(compose([]).evaluation.general, store, _data()) == GeneralData(None, None)
    config = compose(["evaluation.general.concepts=[aple]"])
    with pytest.raises(ConfigError, match="Did you mean 'apple'"):
        load_general(config.evaluation.general, store, _data())


def test_a_model_is_refused_for_what_is_on_alone() -> None:
    off, on = compose([]), compose(["evaluation.general.mmlu=true"])
    check_model(off.evaluation.general, loaded_lm("bert"))
    with pytest.raises(ModelError, match="no causal language model"):
        check_model(on.evaluation.general, loaded_lm("bert"))
    long = compose(["evaluation.general.perplexity=true"]).evaluation.general
    with pytest.raises(ModelError, match=r"documents\.max_length is 512, expected at most 100"):
        check_model(long, loaded_lm("llama"))


def test_nothing_measured_is_an_empty_table() -> None:
    config = compose([])
    outcomes = measure_general(config, loaded_lm("llama"), GeneralData(None, None), {}, [cell(0)])
    table = general_rows(
        config,
        run_id="r",
        data=_data(),
        sweeps=[(_sweep([cell(0)]), outcomes)],
        fingerprints=KEYS,
        bootstrap=Bootstrap.of(config),
    )
    assert tuple(table.columns) == COLUMNS
    assert table.empty
