"""Parts from outside the package, added by a YAML each: swept beside ours, their numbers by hand, their parameters kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from neuronlens.cli import run_command
from neuronlens.config.compose import compose, restore
from neuronlens.config.fingerprint import plain
from neuronlens.config.nodes import part
from neuronlens.config.plan import grid
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError
from neuronlens.lens.lens import Lens
from neuronlens.pipeline import run
from neuronlens.records import Knobs
from tests.plugins.parts import Mirror
from tests.test_pipeline import Reference

CONF = Path(__file__).parent / "conf"
GRIDS = (
    "sweep.methods=["
    "{saliency:[max,mine],range:[gaussian,mine],gate:[range,mine,outside],edit:[zero,mine]},"
    "{gate:[neuron,sum,joint],edit:[mine,forget]}]"
)


def methods(found: Config) -> set[Knobs]:
    """Return the cells of a sweep without what names their parameters."""
    return {replace(knobs, parameters=None, made_of=None) for knobs in grid(found)}


def cells_of(*overrides: str) -> dict[Knobs, Knobs]:
    """Return every cell by what it is without its parameters."""
    config = compose(["sweep.tau=[1.5]", "sweep.top_fraction=[0.5]", *overrides], config_dir=CONF)
    return {replace(knobs, parameters=None, made_of=None): knobs for knobs in grid(config)}


@pytest.fixture(scope="module")
def finished(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run that sweeps parts of the user beside ours, over the last layer."""
    folder = tmp_path_factory.mktemp("plugins") / "run"
    own = ["sweep.tau=[1.5]", "sweep.top_fraction=[0.5]", "++edit.mine.gain=0.5", GRIDS]
    with pytest.MonkeyPatch.context() as patch:  # figures take most of a tiny run's time, and none is looked at here
        patch.setattr("neuronlens.report.figures.draw.draw", lambda *arguments, **named: [])
        run(compose([*tiny_overrides, *own, "intervention.edit=mine"], config_dir=CONF), folder)
    return folder


class ByHand(Reference):
    """The cells of the test's own parts in plain transformers and numpy."""

    def confidence(self, row: pd.Series) -> float:
        """Return the concept's confidence in a cell, fitted and edited from scratch."""
        layer, concept = int(row["layer"]), self.names.index(row["concept"])
        texts, labels = self.split("fit")
        values = self.forward(texts, layer)[0].astype(np.float64)
        own = values[labels == concept]
        score = {"max": np.abs(own).mean(0), "mine": own.std(0)}[row["saliency"]]
        top = np.argsort(-score, kind="stable")[: own.shape[1] // 2]
        centre, half = {
            "gaussian": (own.mean(0), 1.5 * own.std(0)),
            "mine": (np.median(own, axis=0), np.full(own.shape[1], 1.5 * 0.5)),
        }.get(row["range"], (None, None))
        gain = {"zero": 0.0, "mine": 0.5, "forget": None}[row["edit"]]

        def opened(x: np.ndarray) -> np.ndarray:
            if row["gate"] in ("range", "outside"):
                inside = (x >= (centre - half).astype(np.float32)) & (x <= (centre + half).astype(np.float32))
                return inside if row["gate"] == "range" else ~inside
            if row["gate"] == "mine":
                return x >= np.float32(0.25)
            if row["gate"] == "sum":
                return np.repeat((x[:, top].sum(1) > own[:, top].sum(1).mean())[:, None], x.shape[1], axis=1)
            return np.ones_like(x, dtype=bool)

        def edit(x: np.ndarray) -> np.ndarray:
            changed = x.copy()
            if gain is None:
                changed[:, 3] = 0.0
                return np.where(opened(x), changed, x)
            changed[:, top] = np.where(opened(x)[:, top], -gain * x[:, top], x[:, top])
            return changed.astype(np.float32)

        test, gold = self.split("test")
        probabilities = self.forward(test, layer, edit)[1]
        return float(probabilities[np.arange(len(gold)), gold][gold == concept].mean())


def test_every_part_of_ones_own_is_swept_beside_ours_and_gives_the_numbers_of_its_definition(finished: Path) -> None:
    rows = pd.read_parquet(finished / "results.parquet")
    edited = rows[rows["edit"] != "none"]
    assert edited["skipped"].isna().all()
    assert {"max", "mine"} == set(edited["saliency"].dropna())
    assert {"gaussian", "mine"} == set(edited["range"].dropna())
    assert {"range", "outside", "mine", "neuron", "sum", "joint"} == set(edited["gate"])
    assert {"zero", "mine", "forget"} == set(edited["edit"])
    by_hand, checked = ByHand(finished), 0
    base = rows[rows["edit"] == "none"].set_index("concept")["concept_confidence"]
    for kind, group in edited.groupby(["saliency", "range", "gate", "edit"], dropna=False):
        row = group.iloc[1].fillna({"saliency": "max"})
        if row["gate"] == "joint":
            continue
        assert row["concept_confidence"] == pytest.approx(by_hand.confidence(row), abs=1e-5), kind
        checked += abs(row["concept_confidence"] - base[row["concept"]]) > 1e-4
    assert checked > 15, "edits that change something"


def test_parameters_stand_in_the_results_by_themselves(finished: Path) -> None:
    rows = pd.read_parquet(finished / "results.parquet")
    found = rows[["gate", "edit", "parameters"]].drop_duplicates().astype(object)
    written = {(gate, edit): text for gate, edit, text in found.itertuples(index=False) if edit != "none"}
    assert pd.isna(written["range", "zero"])
    assert written["range", "mine"] == written["sum", "mine"] == "gain=0.5"
    assert written["mine", "zero"] == "threshold=0.25"
    assert written["mine", "mine"] == "gain=0.5, threshold=0.25"
    assert written["joint", "forget"] == "neuron=3, grain=position"
    matched = pd.read_parquet(finished / "matched.parquet")
    own = {"gain=0.5", "threshold=0.25", "gain=0.5, threshold=0.25", "neuron=3"}
    assert set(matched["parameters"].dropna()) == own | {"neuron=3, grain=position", "gain=0.5, grain=position"}
    assert rows["cell_id"].is_unique


def test_a_lens_of_the_run_needs_its_folder_and_the_package_not_the_yaml(finished: Path) -> None:
    stored = json.loads((finished / "manifest.json").read_text())["config"]
    assert stored["parts"]["edit"]["mine"] == {"_target_": "tests.plugins.parts.Mirror", "gain": 0.5}
    assert str(CONF) not in json.dumps(stored)
    lens = Lens.load(finished)
    (edit,) = lens.edit("cloud", gate="mine", edit="mine", saliency="mine").values()
    values = torch.linspace(-1, 1, 5)[None, :, None, None].expand(1, 5, 1, 16).contiguous()
    assert torch.isinf(edit.lower[0, 0]).sum() == 16 - 4, "the run's own fraction, 0.3"  # type: ignore[attr-defined]
    changed = edit(values)[0, :, 0]
    touched = torch.isfinite(edit.lower[0, 0])  # type: ignore[attr-defined]
    expected = torch.where(values[0, :, 0] >= 0.25, -0.5 * values[0, :, 0], values[0, :, 0])
    assert torch.equal(changed[:, touched], expected[:, touched])
    assert torch.equal(changed[:, ~touched], values[0, :, 0][:, ~touched])
    with pytest.raises(ConfigError, match=r"Unknown edit 'mine_too'\. Did you mean 'mine'"):
        lens.edit("cloud", edit="mine_too")
    stored["parts"]["edit"]["mine"]["_target_"] = "nobody.has.Mirror"
    with pytest.raises(ConfigError, match=r"'nobody\.has\.Mirror', a class that neither neuronlens nor"):
        restore(stored)


def test_a_part_may_be_the_runs_own_option_of_its_group() -> None:
    config = compose(["saliency=mine", "range=mine", "range.tau=3", "sweep.tau=null"], config_dir=CONF)
    assert {(knobs.saliency, knobs.range, knobs.tau) for knobs in grid(config)} == {
        ("mine", "mine", 3.0),
        ("mine", None, None),
    }
    assert restore(json.loads(json.dumps(plain(config)))) == config
    two = compose(["range=mine", "sweep.range=[gaussian,mine]", "sweep.saliency=[mine]"], config_dir=CONF)
    assert {knobs.range for knobs in grid(two)} == {"gaussian", "mine", None}
    assert restore(plain(two)) == two


def test_two_options_of_one_class_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "range").mkdir()
    (tmp_path / "range" / "wide.yaml").write_text("_target_: neuronlens.ranges.gaussian.GaussianRange\ntau: 4.0\n")
    config = compose(["range=wide", "sweep.range=[gaussian,wide]", "sweep.tau=null"], config_dir=tmp_path)
    wanted = {("gaussian", 2.5), ("wide", 4.0), (None, None)}
    assert {(knobs.range, knobs.tau) for knobs in grid(config)} == wanted
    assert {(knobs.range, knobs.tau) for knobs in grid(restore(plain(config)))} == wanted


def test_hydras_search_path_among_the_overrides_is_searched_too() -> None:
    for place in (f"file://{CONF}", "pkg://tests.plugins.conf"):
        config = compose([f"hydra.searchpath=['{place}']", "sweep.edit=[zero,mine]"])
        assert {knobs.edit for knobs in grid(config)} == {"zero", "mine"}
    with pytest.raises(ConfigError, match=r"Next: hydra\.searchpath"):
        compose([f"hydra.searchpath=['file://{CONF}']"], config_dir=CONF)


@pytest.mark.parametrize(
    ("override", "acts"),
    [
        ("++edit.mine.gain=2.0", lambda knobs: knobs.edit == "mine"),
        ("++gate.mine.threshold=0.5", lambda knobs: knobs.gate == "mine"),
        ("intervention.beta=0.5", lambda knobs: knobs.edit == "dampen"),
        ("++edit.dampen.beta=0.5", lambda knobs: knobs.edit == "dampen"),
        ("intervention.covariance=shrunk", lambda knobs: knobs.edit == "leace"),
        ("range.scale=2.0", lambda knobs: knobs.range == "mine"),
        ("saliency.seed=7", lambda knobs: knobs.saliency == "random" and knobs.control != "random_neurons"),
    ],
)
def test_a_changed_parameter_changes_exactly_the_cells_it_acts_in(override: str, acts: Any) -> None:
    methods = (
        "sweep.methods=[{saliency:[max,random],range:[gaussian,mine],gate:[range,mine,neuron,joint],"
        "edit:[zero,mine,dampen,leace],control:[none,random_neurons]}]"
    )
    shared = ["range=mine", "saliency=random", methods]
    before, after = cells_of(*shared), cells_of(*shared, override)
    assert before.keys() == after.keys()
    changed = {knobs for knobs in before if before[knobs].made_of != after[knobs].made_of}
    assert changed == {knobs for knobs in before if acts(knobs)}
    assert 0 < len(changed) < len(before)


def test_a_new_parameter_of_an_edit_changes_the_fingerprint_and_nobody_lists_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.plugins import parts

    def found(*overrides: str) -> Knobs:
        (knobs,) = (own for own in cells_of("sweep.edit=[mine]", "sweep.gate=[range]", *overrides).values())
        return knobs

    old = found()
    assert old == found()
    assert old.parameters == "gain=1.0"
    monkeypatch.setattr(parts, "Mirror", parts.MirrorAround)  # the same YAML, a later version of the class
    new = found()
    assert new.parameters == "gain=1.0, around=0.0"
    assert found("++edit.mine.around=2").parameters == "gain=1.0, around=2"
    assert len({one.made_of for one in (old, new, found("++edit.mine.around=2"))}) == 3
    config = compose(["++edit.mine.around=2"], config_dir=CONF)
    assert part(config, "edit", "mine").around == 2


def test_what_combinations_mean_something_follows_from_what_parts_declare() -> None:
    config = compose(["sweep.gate=[range,outside,neuron,joint,mine,sum]", "sweep.edit=[mine,forget]"], config_dir=CONF)
    cells = grid(config)
    assert {knobs.gate for knobs in cells if knobs.edit == "forget"} == {"neuron", "joint", "sum"}
    assert {knobs.gate for knobs in cells if knobs.edit == "mine"} == {
        *("range", "outside", "neuron", "joint", "mine", "sum"),
    }
    assert {knobs.gate for knobs in cells if knobs.range is not None} == {"range", "outside"}
    unranked = {(knobs.gate, knobs.edit) for knobs in cells if knobs.saliency is None}
    assert unranked == {("neuron", "forget")}
    assert all(knobs.scope is None for knobs in cells if knobs.saliency is None)
    with pytest.raises(ConfigError, match=r"'forget' mixes neurons.*\(range, mine\).*Next: .*=neuron or .*joint.*\."):
        grid(compose(["sweep.gate=[range,mine]", "sweep.edit=[forget]"], config_dir=CONF))
    few = "dataset.samples_per_concept.select=0"
    compose(["sweep.gate=[sum]", few], config_dir=CONF)
    with pytest.raises(ConfigError, match="select split"):
        compose(["sweep.gate=[joint]", few], config_dir=CONF)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["sweep.edit=[mine]"],
            "Unknown sweep.edit 'mine'. Did you mean '.*edit/mine.yaml in a folder that --config-dir",
        ),
        (["++edit.mine.gian=2"], "Unknown option 'edit.mine.gian'. Did you mean 'edit.mine.gain'"),
        (["++edit.mien.gain=2"], "Unknown edit 'mien'. Did you mean 'mine'"),
        (["edit.mine.gain=2"], "Next: \\+\\+edit.mine.gain=<value>"),
        (["edit=mine"], "Next: intervention.edit=<name> or sweep.edit"),
        (
            ["++edit.x._target_=tests.plugins.parts.NoEdit"],
            r"edit.x: .*NoEdit is no Edit.*no mixes_neurons, no target\(\)",
        ),
        (["++edit.x._target_=nobody.Edit"], "edit.x._target_ 'nobody.Edit' cannot be imported.*PYTHONPATH"),
        (["++gate.x._target_=tests.plugins.parts.AboveGate"], "gate.x: .*missing 1 required.*'threshold'"),
        (["++gate.x._target_=tests.plugins.parts.Mirror"], r"Mirror is no Gate, for it has no grain, no reads_range"),
        (["range._target_=tests.plugins.parts.Mirror", "~range.tau"], r"no RangeEstimator, for it has no fit\(\)"),
        (["range=mine", "+range.scael=1"], "range.scale"),
    ],
)
def test_what_is_wrong_with_a_part_is_one_sentence(overrides: list[str], message: str) -> None:
    folder = None if "mine" in message and "--config-dir" in message else CONF
    with pytest.raises(ConfigError, match=message) as caught:
        compose(overrides, config_dir=folder)
    assert "\n" not in str(caught.value)


def test_an_option_that_would_hide_behind_ours_and_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    for group in ("edit", "range"):
        (tmp_path / group).mkdir()
    (tmp_path / "edit" / "zero.yaml").write_text("_target_: tests.plugins.parts.Mirror\n")
    (tmp_path / "range" / "gaussian.yaml").write_text("_target_: tests.plugins.parts.MedianRange\n")
    for override in ("sweep.edit=[zero]", "range=gaussian"):
        with pytest.raises(ConfigError, match="Next: give yours another name"):
            compose([override], config_dir=tmp_path)
    with pytest.raises(ConfigError, match="nowhere' is not there"):
        compose([], config_dir=tmp_path / "nowhere")


def test_the_command_line_takes_a_folder_of_options(
    tiny_overrides: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["--config-dir", str(CONF), "--help"]) == 0
    told = capfd.readouterr().out
    assert "forget" in told
    assert "gaussian*, mine" in told
    shared = ["sweep=single", "evaluation.bootstrap=0", "evaluation.diagnostics=false"]
    small = [entry for entry in tiny_overrides if not entry.startswith("sweep.")]
    own = [*small, *shared, f"paths.output_dir={tmp_path}/outputs", "intervention.gate=mine"]
    assert run_command(["run", "--config-dir", str(CONF), *own, "intervention.edit=mien"]) == 2
    assert "Did you mean 'mine'" in capfd.readouterr().err
    assert not (tmp_path / "outputs").exists(), "refused before Hydra makes a folder"
    assert run_command(["run", "--config-dir", str(CONF), "--cfg", "job", "saliency=mine"]) == 0
    assert "tests.plugins.parts.SpreadSaliency" in capfd.readouterr().out
    jobs = [*own, "range=gaussian,mine", "intervention.edit=mine", "++edit.mine.gain=0.25", "-m"]
    assert run_command(["run", f"--config-dir={CONF}", *jobs]) == 0
    tables = [pd.read_parquet(path) for path in sorted((tmp_path / "outputs" / "multirun").rglob("results.parquet"))]
    assert len(tables) == 2
    for rows in tables:
        assert set(rows["edit"]) == {"none", "mine"}
        assert set(rows["parameters"].dropna()) == {"gain=0.25, threshold=0.25"}
    assert Mirror().gain == 1.0
