"""Stored states past the budget: the same bits from a file, nothing left behind, and a run that does not notice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from neuronlens.activations import extract as activations
from neuronlens.activations.extract import extract
from neuronlens.config.compose import compose
from neuronlens.config.schema import Config
from neuronlens.data.concepts import load_concepts
from neuronlens.edits.build import EditBuilder
from neuronlens.errors import ConfigError, OutputError
from neuronlens.hooks.replay import starts_at
from neuronlens.models.finetune import finetuned
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.source import locate
from neuronlens.pipeline import run
from neuronlens.records import Site
from neuronlens.storage import spill
from neuronlens.storage.cache import Store
from neuronlens.storage.spill import StateBudget
from neuronlens.sweep.evaluator import Outcomes, SweepEvaluator
from neuronlens.sweep.incremental import activations_under
from neuronlens.sweep.shards import run_sweep
from tests.activations.test_extract import CPU, dataset, loaded
from tests.conftest import tiny_causal, tiny_tokenizer
from tests.sweep.test_evaluator import CELLS, fitted
from tests.sweep.test_evaluator_causal import language_model

PLENTY = 1 << 40
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _tensors(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 5 + number, 7, generator=generator).to(dtype) for number in range(count)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_past_the_budget_comes_back_bit_for_bit_from_the_file(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = [*_tensors(4, dtype), _tensors(1, dtype)[0].transpose(0, 2)]
    sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
    budget = StateBudget(sum(sizes[:2]), tmp_path)
    kept = [budget.keep(tensor) for tensor in tensors]
    assert [
        held is tensor or held.data_ptr() == tensor.data_ptr() for held, tensor in zip(kept, tensors, strict=True)
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert (budget.in_memory, budget.in_file) == (sum(sizes[:2]), sum(sizes[2:]))
    for held, tensor in zip(kept, tensors, strict=True):
        assert (held.dtype, held.shape) == (tensor.dtype, tensor.shape)
        assert _bits(held) == _bits(tensor)
    assert budget._file is not None
    content = os.pread(budget._file.fileno(), 1 << 20, 0)
    assert all(_bits(tensor) in content for tensor in tensors[2:]), "read by the file's own descriptor"


def test_special_values_and_empty_tensors_survive(tmp_path: Path) -> None:
    budget = StateBudget(0, tmp_path)
    strange = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-45])
    assert _bits(budget.keep(strange)) == _bits(strange)
    empty = torch.empty(4, 3, 0)
    assert budget.keep(empty).shape == empty.shape


def test_the_file_grows_by_segments_and_outlives_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "SEGMENT_BYTES", 4096)
    tensors = [*_tensors(30), torch.randn(100, 100)]  # the last is larger than a segment
    kept = [StateBudget.keep(budget, tensor) for budget in [StateBudget(0, tmp_path)] for tensor in tensors]
    assert sum(map(len, map(_bits, tensors))) > 3 * 4096
    assert all(_bits(held) == _bits(tensor) for held, tensor in zip(kept, tensors, strict=True))


def test_the_file_has_no_name_and_a_killed_process_leaves_none(tmp_path: Path) -> None:
    budget = StateBudget(0, tmp_path)
    held = budget.keep(torch.ones(1000))
    assert list(tmp_path.iterdir()) == []
    assert held.sum() == 1000
    code = (
        "import os, signal, torch\nfrom pathlib import Path\nfrom neuronlens.storage.spill import StateBudget\n"
        f"held = StateBudget(0, Path({str(tmp_path)!r})).keep(torch.ones(1 << 20))\n"
        "assert held.sum() == 1 << 20\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_the_disk_is_given_back_with_the_last_tensor(tmp_path: Path) -> None:
    budget = StateBudget(0, tmp_path)
    kept = [budget.keep(torch.ones(1000)) for _ in range(2)]
    assert budget._file is not None
    inode = os.fstat(budget._file.fileno()).st_ino
    del budget
    kept.pop()
    assert inode in _open_inodes(), "one tensor still lies in it"
    kept.clear()
    assert inode not in _open_inodes()


def _open_inodes() -> set[int]:
    return {
        os.fstat(int(name)).st_ino for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")
    }


def test_a_full_disk_is_one_sentence_and_not_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import resource, torch\nfrom pathlib import Path\nfrom neuronlens.storage import spill\n"
        "from neuronlens.errors import OutputError\n"
        "spill.SEGMENT_BYTES = 4096\nresource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        f"budget = spill.StateBudget(0, Path({str(tmp_path)!r}))\nbudget.keep(torch.ones(100))\n"
        "try:\n    budget.keep(torch.ones(10000))\nexcept OutputError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Cannot write stored states past the budget of 0 GiB" in done.stdout
    assert "paths.cache_dir" in done.stdout
    with pytest.raises(OutputError, match="Cannot write stored states"):
        StateBudget(0, Path("/proc/no_such_folder")).keep(torch.ones(3))


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts private memory alone on Linux only")
def test_memory_stays_within_the_budget() -> None:
    """Twelve states of 32 MiB under a limit of 160 MiB more: only with most of them in the file."""
    code = """
import re, resource, sys, torch
from pathlib import Path
from neuronlens.storage.spill import StateBudget
torch.ones(1 << 20).sum()
used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (160 << 20),) * 2)
budget = StateBudget(int(sys.argv[1]) << 20)
kept = [budget.keep(torch.full((8 << 20,), float(number))) for number in range(12)]
print(sum(float(state[-1]) for state in kept), budget.in_file >> 20)
"""
    within, without = (
        subprocess.run([sys.executable, "-c", code, most], capture_output=True, text=True, check=False)
        for most in ("64", "100000")
    )
    assert within.stdout.split() == ["66.0", "320"], within.stderr
    assert without.returncode, "the limit bites where nothing is spilled, or the test says nothing"


def _model(name: str) -> LoadedModel:
    return loaded("bert") if name == "bert" else language_model("llama")


def _sweep(
    model: LoadedModel, site: Site, positions: str, budget: StateBudget, store: Store | None = None
) -> tuple[Outcomes, Sequence[Tensor]]:
    data, start = dataset(per_concept=6), starts_at(site)
    test = extract(model, data, "test", sites=[site], keep=[start], trainer=CPU, budget=budget, store=store)
    builder = EditBuilder(Config(), {"none": fitted(test.activations[site])})
    assert test.log_probabilities is not None
    assert test.prediction is not None
    states = [state for _, state in test.states[start].parts]
    before = [state.clone() for state in states]
    evaluator = SweepEvaluator(
        model,
        test.states[start],
        {site: builder},
        [(knobs, concept) for knobs in CELLS for concept in range(4)],
        labels=test.activations[site].labels,
        base_log_probabilities=test.log_probabilities,
        base_prediction=test.prediction,
        edit_positions=positions,
        tokens_per_forward=500,
    )
    outcomes = run_sweep(evaluator, CPU)
    assert all(_bits(state) == _bits(copy) for state, copy in zip(states, before, strict=True)), "written to"
    return outcomes, states


def _assert_equal(one: Outcomes, other: Outcomes) -> None:
    for name in ("gold", "correct", "kl", "flipped"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.kl.max() > 1e-4, "the edits did nothing, so equality would say nothing"


@pytest.mark.parametrize("positions", ["record", "all"])
@pytest.mark.parametrize("site", [Site(0), Site(2), Site(1, "mlp_out")], ids=str)
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_sweep_over_the_file_is_the_sweep_in_memory(tmp_path: Path, name: str, site: Site, positions: str) -> None:
    spilled, plenty = StateBudget(0, tmp_path), StateBudget(PLENTY, tmp_path)
    ours, states = _sweep(_model(name), site, positions, spilled)
    theirs, others = _sweep(_model(name), site, positions, plenty)
    assert spilled.in_memory == plenty.in_file == 0
    assert spilled.in_file == plenty.in_memory > 0
    assert all(_bits(one) == _bits(other) for one, other in zip(states, others, strict=True))
    _assert_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_pass_from_the_store_lies_in_the_file_too(tmp_path: Path, dtype: torch.dtype) -> None:
    model, site, store = language_model("llama"), Site(0), Store(tmp_path / "cache")
    model.model.to(dtype)
    first, states = _sweep(model, site, "all", StateBudget(PLENTY), store)
    spilled = StateBudget(0, tmp_path)
    again, others = _sweep(model, site, "all", spilled, store)
    assert spilled.in_file == sum(len(_bits(state)) for state in states)
    assert [state.dtype for state in others] == [dtype] * len(states)
    _assert_equal(first, again)


def test_states_past_the_budget_are_not_copied_into_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    _sweep(language_model("llama"), Site(0), "all", StateBudget(0), store)
    assert not (store.root / "activations").exists()


def test_fitting_under_earlier_edits_from_the_file_is_the_same(tmp_path: Path) -> None:
    first, second = Site(0), Site(2)
    found = []
    for most in (0, PLENTY):
        model, budget = language_model("llama"), StateBudget(most, tmp_path)
        fit = extract(model, dataset(), "fit", sites=[first, second], keep=[0], trainer=CPU, budget=budget)
        builder = EditBuilder(Config(), {"none": fitted(fit.activations[first])})
        cells = [(CELLS[0], concept) for concept in range(4)]
        options: dict[str, Any] = {"edit_positions": "all", "tokens_per_forward": 200, "trainer": CPU}
        under = activations_under(model, fit.states[0], {first: builder}, cells, fit.activations[second], **options)
        found.append([under[cell]().values for cell in cells])
        assert (budget.in_file > 0) == (most == 0)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_fine_tuning_from_the_file_gives_the_same_weights(
    kind: str, tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[StateBudget] = []
    monkeypatch.setattr(
        "neuronlens.models.finetune.state_budget", lambda *given: budgets.append(_budget(*given)) or budgets[-1]
    )
    if kind == "decoder":
        tiny_causal("llama", spread=1.0).save_pretrained(tmp_path / "model")
        tiny_tokenizer().save_pretrained(tmp_path / "model")
        tiny_overrides = [*tiny_overrides, f"model.path={tmp_path}/model", "model.head=label_token"]
    weights = []
    for number, most in enumerate((1e-9, 1.0)):
        cache = tmp_path / str(number)
        more = [f"trainer.state_budget_gib={most}", f"paths.cache_dir={cache}", "model.finetune.epochs=2"]
        config, store = compose([*tiny_overrides, *more]), Store(cache)
        data, source = load_concepts(config.dataset, store), locate(config.model, store)
        tuned = finetuned(config.model, source, data, store, config.trainer)
        weights.append({name: _bits(tensor) for name, tensor in tuned.model.state_dict().items()})
    assert [budget.in_file > 0 for budget in budgets] == [True, False]
    assert weights[0] == weights[1]


_budget = activations.state_budget


def test_a_whole_run_within_a_byte_gives_the_same_table(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[StateBudget] = []
    monkeypatch.setattr(
        "neuronlens.pipeline.preparation.state_budget", lambda *given: budgets.append(_budget(*given)) or budgets[-1]
    )
    tables = []
    for most in ("1e-9", "4.0"):
        more = [f"trainer.state_budget_gib={most}", f"paths.cache_dir={tmp_path}/cache_{most}", "layers.select=[0,1]"]
        run(compose([*tiny_overrides, *more, "layers.mode=incremental"]), tmp_path / most)
        tables.append(pd.read_parquet(tmp_path / most / "results.parquet").drop(columns="run_id"))
    (small, large) = budgets
    assert small.in_memory <= 1 < small.in_file == large.in_memory
    assert large.in_file == 0
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    left = [path for path in (tmp_path / "cache_1e-9").rglob("*") if "tmp" in path.name and "lock" not in path.name]
    assert not left


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.state_budget_gib is 0"):
        compose(["trainer.state_budget_gib=0"])
