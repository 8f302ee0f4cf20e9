"""A lens as one file: read where Hydra, Lightning, pandas and scikit-learn are not, and refused where it does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import neuronlens as nl
from neuronlens.config.compose import compose
from neuronlens.config.recipe import from_recipe, narrowed, recipe_of
from neuronlens.errors import ConfigError, ModelError, OutputError
from neuronlens.lens import hub
from neuronlens.lens.lens import Lens
from neuronlens.models.identity import difference, weight_sample
from neuronlens.pipeline import run
from neuronlens.records import Site
from neuronlens.storage.files import json_types
from tests.conftest import CONCEPTS, texts_of, tiny_causal, tiny_model, tiny_tokenizer

KEPT = Path(__file__).parent / "lens_of_format_1.lens"
"""Written by `python -m tests.lens.test_portable` when the format was made; never written again."""
HEAVY = ("hydra", "omegaconf", "pytorch_lightning", "pandas", "sklearn", "datasets", "wandb", "torchmetrics")


def fitted(model: Any | None = None, **options: Any) -> Lens:
    """Return a lens fitted on a tiny classifier, and texts of four concepts."""
    model = model or tiny_model("bert")
    model.config.id2label = dict(enumerate(CONCEPTS))
    texts = [text for concept in range(4) for text in texts_of(concept, 12, 0)]
    labels = [name for name in CONCEPTS for _ in range(12)]
    more = {"select": (texts[::3], labels[::3]), "progress": False, "name": "tiny", **options}
    return nl.fit(model, tiny_tokenizer(), texts, labels, **more)


def inputs() -> dict[str, torch.Tensor]:
    batch = tiny_tokenizer()(["w3 w17 w4 w5", "w31 w32", "w46 w50 w9"], padding=True, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def edited_logits(lens: Lens, model: Any, *concepts: str, **knobs: Any) -> torch.Tensor:
    with lens.erase(model, *concepts, **knobs), torch.no_grad():
        return model(**inputs()).logits


@pytest.fixture(scope="module")
def finished(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one cell per concept."""
    folder = tmp_path_factory.mktemp("portable") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuronlens.report.figures.draw.draw", lambda *arguments, **named: [])
        run(compose([*tiny_overrides, "sweep=single"]), folder)
    return folder


def test_a_file_makes_the_runs_own_edits(finished: Path, tmp_path: Path) -> None:
    of_run = Lens.from_run(finished)
    model = of_run.load_model().model
    of_file = Lens.load(of_run.save(tmp_path / "fear.lens"))
    assert (of_file.concepts, of_file.sites, of_file.model_folder) == (CONCEPTS, of_run.sites, of_run.model_folder)
    with torch.no_grad():
        plain = model(**inputs()).logits
    for knobs in (
        {},
        {"tau": 1.3, "strength": 0.5},
        {"gate": "joint", "edit": "leace"},
        {"range": "mixture", "saliency": "probeless", "edit": "mean"},
    ):
        wanted = edited_logits(of_run, model, "drum", **knobs)
        assert torch.equal(edited_logits(of_file, model, "drum", **knobs), wanted)
        assert not torch.equal(wanted, plain)
    assert (tmp_path / "fear.lens").stat().st_size < 200_000


def test_the_card_says_what_the_lens_is(finished: Path, tmp_path: Path) -> None:
    with safe_open(Lens.from_run(finished).save(tmp_path / "fear.lens"), framework="numpy") as file:
        (content,) = (file.metadata() or {}).values()
    card = json.loads(content)
    assert (card["kind"], card["format"]) == ("neuronlens lens", 1)
    assert card["model"]["type"] == "bert"
    assert card["model"]["layers"] == 3
    assert len(card["model"]["fingerprint"]) == 16
    assert card["fitted_on"]["samples"] == dict.fromkeys(CONCEPTS, 15)
    assert card["fitted_on"]["sites"] == ["resid_post.2"]
    assert set(card["definitions"]) == {"saliency max", "range gaussian", "gate range", "edit zero"}
    assert card["versions"]["torch"] == torch.__version__
    assert [row["concept"] for row in card["figures"]] == list(CONCEPTS)
    for row in card["figures"]:
        low, drop, high = (row[f"concept_accuracy_drop{end}"] for end in ("_low", "", "_high"))
        assert low <= drop <= high
    assert "paths" not in card["recipe"]
    assert "path" not in card["recipe"]["dataset"]


def test_loading_and_editing_need_torch_and_transformers_alone(finished: Path, tmp_path: Path) -> None:
    of_run = Lens.from_run(finished)
    file = of_run.save(tmp_path / "fear.lens")
    wanted = edited_logits(of_run, of_run.load_model().model, "cloud")
    code = f"""
import sys
import torch
from transformers import AutoModelForSequenceClassification
import neuronlens as nl

lens = nl.Lens.load({str(file)!r})
model = AutoModelForSequenceClassification.from_pretrained({of_run.model_folder!r}).eval()
inputs = {{"input_ids": torch.tensor({inputs()["input_ids"].tolist()}),
          "attention_mask": torch.tensor({inputs()["attention_mask"].tolist()})}}
with lens.erase(model, "cloud"), torch.no_grad():
    found = model(**inputs).logits
attached = lens.attach(model, "cloud", gate="joint", edit="complement_mean", tau=None)
print(found.tolist())
print(sorted(set({HEAVY!r}) & {{name.split(".")[0] for name in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    logits, heavy = done.stdout.splitlines()[-2:]
    assert heavy == "[]"
    np.testing.assert_allclose(json.loads(logits), wanted.numpy(), atol=1e-5, rtol=0)


def test_a_file_of_format_1_is_read() -> None:
    lens = Lens.load(KEPT)
    assert lens.concepts == CONCEPTS
    assert lens.sites == (Site(1), Site(2))
    assert lens.card.model["name"] == "tiny"
    arrays = load_file(KEPT)
    mean = arrays["ranges/resid_post.2/mean"]
    deviation = np.sqrt(arrays["ranges/resid_post.2/variance"])
    edit = lens.edit("cloud", tau=1.5, top_fraction=1.0)[Site(2)]
    np.testing.assert_allclose(edit.lower[0, 0].numpy(), mean[2] - 1.5 * deviation[2], rtol=1e-6)
    model = tiny_model("bert")
    with torch.no_grad():
        plain = model(**inputs()).logits
    assert not torch.equal(edited_logits(lens, model, "cloud"), plain)
    assert list(lens.edit("apple", gate="joint", edit="leace")) == [Site(1), Site(2)]


def test_files_that_are_no_lens_or_a_newer_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"There is no lens 'nowhere.lens'. Expected a file of lens.save, a run folder"
    ):
        Lens.load("nowhere.lens")
    (tmp_path / "broken.lens").write_bytes(KEPT.read_bytes()[:-100])
    with pytest.raises(OutputError, match="Cannot read the lens"):
        Lens.load(tmp_path / "broken.lens")
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(OutputError, match="is a safetensors file and no lens"):
        Lens.load(tmp_path / "other.safetensors")
    with safe_open(KEPT, framework="numpy") as file:
        card = json.loads((file.metadata() or {})["neuronlens"])
    for changed, error, message in (
        ({"format": 2}, OutputError, "has format 2, and this version of neuronlens reads up to 1"),
        ({"colour": 1}, ConfigError, "Unknown option 'colour'"),
        ({"recipe": {**card["recipe"], "sed": 1}}, ConfigError, r"Unknown option 'sed'. Did you mean 'seed'"),
        (
            {"recipe": {**card["recipe"], "range": {"_target_": "os.system", "tau": 1}}},
            ConfigError,
            "'os.system', a class that neither neuronlens nor an option of this process names",
        ),
    ):
        save_file(load_file(KEPT), tmp_path / "changed.lens", {"neuronlens": json.dumps(card | changed)})
        with pytest.raises(error, match=message):
            Lens.load(tmp_path / "changed.lens")
    with pytest.raises(OutputError, match="is a folder, and a lens is one file"):
        Lens.load(KEPT).save(tmp_path)


def test_another_models_lens_is_refused_unless_it_is_asked_for() -> None:
    lens, other = fitted(), tiny_model("bert", seed=1)
    with pytest.raises(ModelError, match=r"another model with the shape of this one: .*other_model=True"):
        edited_logits(lens, other, "apple")
    with pytest.raises(ModelError, match="another model"):
        lens.bind(other, tiny_tokenizer())
    with torch.no_grad():
        plain = other(**inputs()).logits
    assert not torch.equal(edited_logits(lens, other, "apple", other_model=True), plain)
    with pytest.raises(ModelError, match="this model is a llama"):
        edited_logits(lens, tiny_model("llama"), "apple")


def test_a_models_own_weights_are_known_in_another_dtype_and_under_another_head() -> None:
    model, lens = tiny_model("bert"), fitted()
    for coarser in (torch.bfloat16, torch.float16):
        narrow = tiny_model("bert").to(coarser)
        assert torch.isfinite(edited_logits(lens, narrow, "apple").float()).all()
    with torch.no_grad():
        model.classifier.weight.add_(1.0)
    edited_logits(lens, model, "apple")  # the head changes no activation
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight.mul_(1.0001)
    with pytest.raises(ModelError, match=r"encoder.layer.1.output.dense.weight holds"):
        edited_logits(lens, model, "apple")


def test_weights_above_the_site_are_not_compared() -> None:
    model = tiny_causal("llama")
    before = weight_sample(model, 0)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.add_(1.0)
    assert difference(before, weight_sample(model, 0), 0.0) is None
    assert "layers.1." in str(difference(weight_sample(tiny_causal("llama"), 1), weight_sample(model, 1), 0.0))
    assert "no weight layers.1" in str(difference(weight_sample(model, 1), before, 0.0))
    assert "one weight more" in str(difference(before, weight_sample(model, 1), 0.0))


def test_a_recipe_is_the_part_of_the_config_that_edits_are_made_from() -> None:
    for overrides in (["range.tau=inf"], ["range=posterior", "saliency=probe"], ["++edit.dampen.beta=0.4", "seed=3"]):
        config = compose(overrides)
        back = from_recipe(json.loads(json.dumps(json_types(recipe_of(config)))))
        for knobs in ({}, {"edit": "dampen"}, {"gate": "joint", "edit": "leace"}):
            ours, theirs = (nl_grid(narrowed(one, knobs)) for one in (config, back))
            assert ours == theirs


def nl_grid(config: Any) -> Any:
    from neuronlens.config.plan import grid

    return grid(config)


class _Hub:
    """Stands in for the hub's client."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def create_repo(self, repository: str, **options: Any) -> str:
        assert options == {"exist_ok": True, "private": True}
        return f"https://hub/{repository}"

    def upload_file(self, *, path_or_fileobj: bytes, path_in_repo: str, repo_id: str, revision: str | None) -> None:
        assert (repo_id, revision) == ("me/fear-lens", None)
        self.files[path_in_repo] = path_or_fileobj


def test_a_lens_goes_to_the_hub_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = _Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: there)

    def fetch(repository: str, name: str, revision: str | None) -> str:
        assert repository == "me/fear-lens"
        (tmp_path / name).write_bytes(there.files[name])
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.chdir(tmp_path)
    lens = Lens.load(KEPT)
    assert lens.push_to_hub("me/fear-lens", private=True) == "https://hub/me/fear-lens"
    assert set(there.files) == {"README.md", hub.FILE}
    assert "# A lens for tiny" in there.files["README.md"].decode()
    back = Lens.load("me/fear-lens")
    assert all(torch.equal(back.edit("apple")[site].upper, edit.upper) for site, edit in lens.edit("apple").items())
    with pytest.raises(OutputError, match=r"'fear' is no hub id. Expected owner/name"):
        lens.push_to_hub("fear")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _no_network)
    with pytest.raises(
        OutputError, match="There is no lens 'me/fear': no such file or folder here, and the hub gives none"
    ):
        Lens.load("me/fear")


def _no_network(*arguments: Any, **named: Any) -> str:
    raise ConnectionError("no route to host")


def test_an_older_run_without_weights_is_held_by_its_shape_alone(finished: Path) -> None:
    lens = Lens.from_run(finished)
    lens.own = replace(lens.own, weights=None)
    edited_logits(lens, tiny_model("bert"), "apple")
    with pytest.raises(ModelError, match="this model is a llama"):
        edited_logits(lens, tiny_model("llama"), "apple")


if __name__ == "__main__":
    fitted(layers=[1, 2]).save(KEPT)
