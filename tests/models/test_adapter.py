"""Adapters of PEFT: a folder as model.path with its base, and an edit on a PeftModel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from neuronlens.config.compose import compose
from neuronlens.config.schema import ModelConfig
from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import ModelError, SiteError
from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.inner_sites import found_inner_sites
from neuronlens.models.load import load
from neuronlens.models.source import locate
from neuronlens.pipeline import run
from neuronlens.records import Site
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, texts_of, tiny_causal, tiny_inputs, tiny_model, tiny_tokenizer
from tests.hooks.causal import generate, prompts

peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'neuronlens[peft]'")


def _adapted(base: Any, task: str = "SEQ_CLS") -> Any:
    config = peft.LoraConfig(task_type=task, r=4, lora_alpha=16, target_modules=["q_proj", "o_proj", "down_proj"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        adapted = peft.get_peft_model(base, config)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:  # PEFT starts them at zero, and the adapter does nothing
                torch.nn.init.normal_(parameter, std=0.5)
    return adapted.eval()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LoRA adapter trained on the four concepts over a tiny Llama, and the model with it merged: two folders."""
    folder = tmp_path_factory.mktemp("adapted")
    base = tiny_model("llama", spread=2.0)
    base.config.id2label = dict(enumerate(CONCEPTS))
    base.config.label2id = {name: number for number, name in enumerate(CONCEPTS)}
    base.config.pad_token_id = 0
    base.save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "base")
    adapted = _adapted(model).train()
    texts = [text for concept in range(4) for text in texts_of(concept, 30, seed=5)]
    inputs = tiny_tokenizer()(texts, padding=True, return_tensors="pt", truncation=True, max_length=16)
    labels = torch.arange(4).repeat_interleave(30)
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        logits = adapted(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert (logits.argmax(-1) == labels).float().mean() > 0.8
    adapted.eval().save_pretrained(folder / "adapter")
    assert not (folder / "adapter" / "config.json").exists()
    adapted.merge_and_unload().save_pretrained(folder / "merged")
    tiny_tokenizer().save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


def _run(model: Path, overrides: list[str], out: Path) -> pd.DataFrame:
    kept = [entry for entry in overrides if not entry.startswith(("model.", "paths."))]
    own = [f"model.path={model}", "model.max_length=16", f"paths.cache_dir={out}/cache", f"paths.output_dir={out}"]
    run(compose([*kept, *own, "layers.select=1"]), out / "run")
    return pd.read_csv(out / "run" / "results.csv")


def test_the_folder_of_an_adapter_runs_and_equals_the_merged_model(
    adapter: tuple[Path, Path], tiny_overrides: list[str], tmp_path: Path
) -> None:
    ours, merged = (_run(folder, tiny_overrides, tmp_path / folder.name) for folder in adapter)
    assert len(ours)
    numbers = [name for name in ours if ours[name].dtype == float]
    np.testing.assert_allclose(ours[numbers], merged[numbers], atol=1e-5)
    assert ours["concept_confidence_drop"].abs().max() > 0.05
    admission = json.loads((tmp_path / "adapter" / "run" / "manifest.json").read_text())["admission"]
    assert admission["paths"]["replays"]
    assert all(check["passed"] for check in admission["checks"])


def test_the_adapter_enters_the_fingerprint_and_brings_its_own_head(adapter: tuple[Path, Path], tmp_path: Path) -> None:
    config = ModelConfig(name="tiny", path=str(adapter[0]), max_length=16)
    source = locate(config, Store(tmp_path))
    assert source.adapter is not None
    loaded = load(config, source, CONCEPTS)
    base = ModelConfig(name="tiny", path=source.location, max_length=16)
    plain = load(base, locate(base, Store(tmp_path)), CONCEPTS)
    assert loaded.fingerprint != plain.fingerprint
    assert loaded.folder == str(adapter[0])
    assert type(loaded.model) is type(plain.model)
    inputs = tiny_inputs("llama")
    with torch.no_grad():
        assert not torch.allclose(loaded.model(**inputs).logits, plain.model(**inputs).logits)
    untrained = load(config, source, ("one", "other"), stage="untrained")
    assert not any("lora" in name for name, _ in untrained.model.named_parameters())


@pytest.mark.parametrize("site", [Site(1), Site(1, "attn_out"), Site(1, "mlp_out"), Site(1, "mlp_neurons")])
def test_an_edit_on_a_peft_model(site: Site) -> None:
    model, inputs = _adapted(tiny_model("llama")), tiny_inputs("llama")
    width = 32 if site.name == "mlp_neurons" else 16
    edit = GatedEdit(
        *(torch.full((1, 1, width), bound) for bound in (-3.0, 3.0)), *torch.full((2, 1, width), 0.5), torch.ones(1)
    )
    sites = found_inner_sites(model)[1]
    assert (sites.attn_out, sites.mlp_out) == ("self_attn.o_proj", "mlp.down_proj")
    block = model.base_model.model.model.layers[1]
    module = {"resid_post": block, "attn_out": block.self_attn.o_proj}.get(site.name, block.mlp.down_proj)
    real = inputs["attention_mask"] != 0

    def by_hand(hidden: Tensor) -> Tensor:
        return torch.where(real[..., None] & (hidden.abs() <= 3.0), hidden * 0.5 + 0.5, hidden)

    if site.name == "mlp_neurons":
        handle = module.register_forward_pre_hook(lambda m, a: (by_hand(a[0]),))
    else:
        handle = module.register_forward_hook(lambda m, a, output: by_hand(output))
    with torch.no_grad():
        expected = model(**inputs).logits
        handle.remove()
        with edited(model, {site: edit}), capture(model, [site]) as recorded:
            assert torch.equal(model(**inputs).logits, expected)
        assert not torch.equal(model(**inputs).logits, expected)
    assert recorded[site].shape == (*real.shape, width)


def test_generate_on_a_peft_model() -> None:
    base, inputs = tiny_causal("llama"), prompts(3)
    model = _adapted(base, "CAUSAL_LM")
    bounds = torch.full((1, 1, 16), torch.inf)
    edit = GatedEdit(-bounds, bounds, torch.zeros(1, 16), torch.full((1, 16), 2.0), torch.ones(1))
    plain = generate(model, inputs).sequences
    texts = []
    for use_cache in (True, False):
        with edited(model, {Site(1): edit}, positions="generated"):
            texts.append(generate(model, inputs, use_cache=use_cache).sequences)
    assert torch.equal(*texts)
    assert not torch.equal(texts[0], plain)
    assert torch.equal(generate(model, inputs).sequences, plain)


def test_virtual_tokens_are_refused(tmp_path: Path) -> None:
    base = tiny_causal("llama")
    model = peft.get_peft_model(base, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with (
        pytest.raises(SiteError, match="puts virtual tokens before the text"),
        edited(model, {Site(1): lambda x, m: x}),
    ):
        pass


def test_an_adapter_of_another_shape_and_one_without_a_base_are_refused(
    adapter: tuple[Path, Path], tmp_path: Path
) -> None:
    config = json.loads((adapter[0] / "adapter_config.json").read_text())
    for number, base in enumerate((None, str(tmp_path / "other"))):
        folder = tmp_path / f"adapter{number}"
        folder.mkdir()
        for path in adapter[0].iterdir():
            if path.is_file():
                (folder / path.name).write_bytes(path.read_bytes())
        (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    wanted = ModelConfig(name="tiny", path=str(tmp_path / "adapter0"), max_length=16)
    with pytest.raises(ModelError, match="names no base model"):
        locate(wanted, Store(tmp_path))
    other = tiny_model("mistral", labels=3)
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    wanted = ModelConfig(name="tiny", path=str(tmp_path / "adapter1"), max_length=16)
    loaded = load(wanted, locate(wanted, Store(tmp_path)))
    assert loaded.model.config.num_labels == 4, "the adapter's own head"
