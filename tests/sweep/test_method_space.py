"""The whole method space through the pipeline on a tiny model: every name runs, layers together, controls, choosing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.activations.extract import extract
from neuronlens.config.compose import compose
from neuronlens.config.groups import option_names
from neuronlens.config.plan import grid
from neuronlens.config.schema import CONTROLS, Config
from neuronlens.config.schema_run import TrainerConfig
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.detected import stacked
from neuronlens.edits.fitting import fit_site
from neuronlens.errors import ConfigError
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.replay import starts_at
from neuronlens.measures.metrics import MEASURES
from neuronlens.pipeline import run
from neuronlens.records import Knobs, Site
from neuronlens.sweep.incremental import activations_under
from tests.activations.test_extract import CPU, dataset, loaded
from tests.sweep.test_evaluator_causal import language_model


def _rows(overrides: list[str], folder: Path) -> pd.DataFrame:
    run(compose(overrides), folder)
    return pd.read_parquet(folder / "results.parquet")


def test_every_saliency_range_gate_edit_and_control_is_one_line_of_config(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    overrides = [entry for entry in tiny_overrides if not entry.startswith("sweep.")]
    methods = [
        f"{{saliency:[{','.join(option_names('saliency'))}]}}",
        f"{{range:[{','.join(option_names('range'))}],gate:[range,outside]}}",
        f"{{edit:[{','.join(option_names('edit'))}],gate:[neuron,joint,discriminant]}}",
        f"{{control:[{','.join(CONTROLS)}],gate:[range,neuron]}}",
        f"{{control:[{','.join(CONTROLS)}],gate:[discriminant],edit:[leace]}}",
    ]
    shared = ["sweep=single", "evaluation.bootstrap=20", f"sweep.methods=[{','.join(methods)}]"]
    rows = _rows([*overrides, *shared], tmp_path / "run")
    edited_rows = rows[rows["edit"] != "none"]
    assert set(edited_rows["saliency"].dropna()) == set(option_names("saliency"))
    assert set(edited_rows["range"].dropna()) == set(option_names("range"))
    assert set(edited_rows["edit"]) == set(option_names("edit"))
    assert set(edited_rows["control"].dropna()) == set(CONTROLS) - {"none"}
    assert rows["cell_id"].is_unique
    assert rows["skipped"].isna().all(), rows.loc[rows["skipped"].notna(), ["edit", "skipped"]]
    assert rows[list(MEASURES)].notna().all().all()
    for name in (
        "diagnostics.parquet",
        "overlap.parquet",
        "figures/qq.png",
        "figures/overlap.png",
        "figures/methods.png",
    ):
        assert (tmp_path / "run" / name).stat().st_size > 0
    diagnostics = pd.read_parquet(tmp_path / "run" / "diagnostics.parquet")
    assert diagnostics["firing_concept"].between(0, 1).all()
    assert diagnostics["ks_p"].dropna().between(0, 1).all()
    methods_table = pd.read_parquet(tmp_path / "run" / "methods.parquet")
    assert "leace" in set(methods_table["edit"])


@pytest.mark.parametrize("site", ["mlp_out", "attn_out", "mlp_neurons"])
def test_sites_inside_a_block_run_at_every_layer(site: str, tiny_overrides: list[str], tmp_path: Path) -> None:
    rows = _rows([*tiny_overrides, f"layers.site={site}", "layers=all"], tmp_path / "run")
    assert set(rows["layer"].dropna()) == {0, 1, 2}
    assert set(rows["site"].dropna()) == {site}
    assert (rows["kl"] > 1e-6).any()


def test_layers_edited_together_and_incrementally(tiny_overrides: list[str], tmp_path: Path) -> None:
    shared = [*tiny_overrides, "layers.select=[0,2]", "sweep.tau=[1.5]", "sweep.top_fraction=[0.5]"]
    tables = {
        mode: _rows([*shared, f"layers.mode={mode}"], tmp_path / mode) for mode in ("each", "together", "incremental")
    }
    assert set(tables["together"]["layers"].dropna()) == {"0+2"}
    assert set(tables["incremental"]["layers"].dropna()) == {"0+2 incremental"}
    assert len(tables["each"]) - 4 == 2 * (len(tables["together"]) - 4)
    together, incremental = (
        tables[mode].set_index(["gate", "edit", "concept"]) for mode in ("together", "incremental")
    )
    kl = pd.concat([together["kl"].rename("a"), incremental["kl"].rename("b")], axis=1).dropna()
    assert not np.allclose(kl["a"], kl["b"]), "fitting under the earlier layer's edit changes what the later one does"


def test_activations_under_earlier_edits_equal_a_run_by_hand() -> None:
    model, data, config = loaded("llama"), dataset(per_concept=12), compose(["sweep=single"])
    first, second = Site(0), Site(2, "attn_out")
    found = extract(model, data, "fit", sites=[first, second], keep=[starts_at(first)], trainer=CPU)
    builder = EditBuilder(Config(), {"none": fit_site(config, found.activations[first])})
    cells = [
        (Knobs(saliency="max", top_fraction=0.5, gate="neuron", edit=edit, strength=1.0), c)
        for c in (0, 3)
        for edit in ("zero", "mean")
    ]
    options: dict[str, Any] = {"edit_positions": "record", "tokens_per_forward": 100, "trainer": CPU}
    under = activations_under(model, found.states[0], {first: builder}, cells, found.activations[second], **options)
    rows = data.rows("fit")
    for cell in cells:
        for place in (0, 5, 11):
            ids = torch.tensor([model.tokenizer(data.texts[rows[place]])["input_ids"][:16]])
            seen: list[torch.Tensor] = []
            handle = model.model.model.layers[2].self_attn.o_proj.register_forward_hook(
                lambda m, a, out, seen=seen: seen.append(out)
            )
            with edited(model.model, {first: builder.batch([cell])}, positions="last"), torch.no_grad():
                model.model(input_ids=ids)
            handle.remove()
            np.testing.assert_allclose(under[cell]().values[place], seen[0][0, -1].numpy(), rtol=1e-4, atol=1e-5)


def test_a_head_that_writes_has_the_activations_of_one_that_scores() -> None:
    """No states are stored for it, so the whole model runs under the earlier edits."""
    data, config = dataset(per_concept=12), compose(["sweep=single"])
    first, second = Site(0), Site(2, "attn_out")
    values = []
    for head in ("label_logprob", "generation"):
        model = language_model("llama", head)
        found = extract(model, data, "fit", sites=[first, second], keep=[starts_at(first)], trainer=CPU)
        builder = EditBuilder(config, {"none": fit_site(config, found.activations[first])})
        cell = (Knobs(saliency="max", top_fraction=0.5, gate="neuron", edit="zero", strength=1.0), 0)
        options: dict[str, Any] = {"edit_positions": "record", "tokens_per_forward": 100, "trainer": CPU}
        given = (model, found.states[0], {first: builder}, [cell], found.activations[second])
        values.append(activations_under(*given, **options)[cell]().values)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=1e-5)
    assert np.abs(values[0] - found.activations[second].values).max() > 1e-3


def test_activations_under_earlier_edits_are_made_where_the_trainer_is() -> None:
    model, data, config = loaded("bert"), dataset(per_concept=12), compose(["sweep=single"])
    first, second = Site(0), Site(2)
    found = extract(model, data, "fit", sites=[first, second], keep=[starts_at(first)], trainer=CPU)
    builder = EditBuilder(Config(), {"none": fit_site(config, found.activations[first])})
    cell = (Knobs(saliency="max", top_fraction=0.5, gate="neuron", edit="zero", strength=1.0), 0)
    given = (model, found.states[0], {first: builder}, [cell], found.activations[second])
    options: dict[str, Any] = {"edit_positions": "record", "tokens_per_forward": 100}
    gpu = TrainerConfig(accelerator="gpu", progress=False)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            activations_under(*given, trainer=gpu, **options)
        return
    here, there = (activations_under(*given, trainer=trainer, **options)[cell]() for trainer in (CPU, gpu))
    np.testing.assert_allclose(there.values, here.values, rtol=1e-3, atol=1e-4)


def test_concatenated_edits_are_each_their_own() -> None:
    model, data, config = (
        loaded("bert"),
        dataset(per_concept=12),
        compose(["sweep=single", "sweep.range=[gaussian,mixture]"]),
    )
    found = extract(model, data, "fit", sites=[Site(1)], trainer=CPU).activations[Site(1)]
    builder = EditBuilder(Config(), {"none": fit_site(config, found)}, select=found)
    kinds = [("range", "gaussian", 2.5), ("range", "mixture", 2.5), ("joint", None, None), ("neuron", None, None)]
    cells = [
        (
            Knobs(
                saliency="max", top_fraction=0.5, range=name, tau=tau, gate=gate, edit="dampen_distance", strength=1.0
            ),
            1,
        )
        for gate, name, tau in kinds
    ]
    hidden = torch.randn(1, 30, 2, 16, generator=torch.Generator().manual_seed(0))
    together = stacked([builder.batch([cell]) for cell in cells])(hidden)
    for place, cell in enumerate(cells):
        assert torch.equal(together[place], builder.batch([cell])(hidden)[0])


def test_choosing_on_select_reports_test_figures(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = [*tiny_overrides, "evaluation.select=matched_erasure", "evaluation.erasure_levels=[0.3,0.6]"]
    rows = _rows(overrides, tmp_path / "run")
    points = pd.read_parquet(tmp_path / "run" / "operating_points.parquet")
    assert set(points["level"].dropna()) == {0.3, 0.6}
    assert set(points["damage"].dropna()) == {"complement_accuracy_drop", "kl"}
    chosen = points[points["cell_id"].notna() & points["level"].notna()]
    assert len(chosen)
    every = pd.concat([rows, pd.read_parquet(tmp_path / "run" / "doses.parquet")])
    reported = every.set_index("cell_id").loc[chosen["cell_id"], "concept_accuracy_drop"].to_numpy()
    np.testing.assert_array_equal(chosen["concept_accuracy_drop"], reported)
    enough = chosen["select_concept_accuracy_drop"] > 0
    assert enough.all()
    assert "Operating points chosen on select" in (tmp_path / "run" / "table.md").read_text()


def test_combinations_that_mean_nothing_are_left_out_or_refused() -> None:
    cells = grid(
        compose(["sweep.edit=[leace,zero]", "sweep.gate=[range,neuron,joint]", "sweep.control=[none,other_concept]"])
    )
    assert {cell.gate for cell in cells if cell.edit == "leace"} == {"neuron", "joint"}
    assert all(cell.saliency is None for cell in cells if cell.edit == "leace" and cell.gate == "neuron")
    assert {cell.gate for cell in cells if cell.control == "other_concept"} == {"range", "joint"}
    with pytest.raises(ConfigError, match="holds no cell"):
        grid(compose(["sweep=single", "intervention.control=random_direction"]))
    with pytest.raises(ConfigError, match="holds no cell"):
        grid(compose(["sweep=single", "intervention.control=other_concept", "intervention.gate=neuron"]))
    assert {cell.top_count for cell in grid(compose(["intervention.top_count=50"]))} == {50}, (
        "it wins over the default list"
    )
    own = compose(["range=mixture", "range.tau=3", "sweep.tau=null", "sweep.range=[gaussian,mixture]"])
    assert {(cell.range, cell.tau) for cell in grid(own)} >= {("gaussian", 2.5), ("mixture", 3.0)}
    with pytest.raises(ConfigError, match="mixes neurons"):
        grid(compose(["sweep.edit=[leace]", "sweep.gate=[range]"]))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["range=posterior", "range.theta=1.0"], "theta"),
        (["range=quantile", "range.q=0.5"], "q"),
        (["range=mixture", "range.backend=gpu"], "backend"),
        (["sweep.range=[gausian]"], "Did you mean 'gaussian'"),
        (["sweep.saliency=[maximum]"], "sweep.saliency 'maximum'"),
        (["sweep.control=[random]"], "Did you mean 'random_neurons'"),
        (["intervention.beta=1"], "factor in [0, 1)"),
        (["intervention.scope=model"], "layers.mode=together"),
        (["sweep.methods=[{gate:[rnage]}]"], "Did you mean 'range'"),
        (["sweep.methods=[{gat:[range]}]"], "Did you mean 'gate'"),
        (["seed=-1"], "seed is -1"),
        (["trainer.accelerator=tpu"], "Unknown trainer.accelerator"),
        (["trainer.threads=0"], "trainer.threads is 0"),
        (["sweep.gate=[joint]", "dataset.samples_per_concept.select=0"], "select split"),
    ],
)
def test_bad_methods_are_told_in_one_sentence(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    assert said in str(caught.value)


def test_fit_on_correct_holds_in_incremental_mode_and_controls_run_there(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    overrides = [
        *tiny_overrides,
        "layers.select=[0,2]",
        "layers.mode=incremental",
        "evaluation.fit_on=correct",
        "sweep.gate=[range,joint]",
        "sweep.tau=[1.5]",
        "sweep.top_fraction=[0.5]",
        "sweep.edit=[zero,leace]",
        "sweep.control=[none,shuffled_labels]",
    ]
    rows = _rows(overrides, tmp_path / "run")
    assert rows["skipped"].isna().all()
    assert set(rows["edit"]) == {"none", "zero", "leace"}


def test_the_shuffled_control_ranks_by_shuffled_labels_over_all_layers_too(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    overrides = [*tiny_overrides, "layers.select=[0,2]", "layers.mode=together", "intervention.scope=model"]
    rows = _rows([*overrides, "sweep.control=[none,shuffled_labels]", "sweep.gate=[neuron]"], tmp_path / "run")
    edited_rows = rows[rows["edit"] == "zero"]
    plain, shuffled = (edited_rows[edited_rows["control"].isna() == own] for own in (True, False))
    assert not np.allclose(plain["kl"].to_numpy(), shuffled["kl"].to_numpy())
