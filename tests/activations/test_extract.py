"""What the extractor records, against numpy and plain transformers."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronlens.activations.extract import ActivationExtractor, extract
from neuronlens.activations.moments import ConceptMoments, statistics_of
from neuronlens.config.schema_run import TrainerConfig
from neuronlens.execution.machine import computed_by
from neuronlens.execution.trainer import make_trainer
from neuronlens.hooks.replay import replay
from neuronlens.models.batches import text_batches
from neuronlens.models.heads.base import Labels
from neuronlens.models.heads.seq_cls import SequenceClassification
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ConceptDataset, Site
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, texts_of, tiny_model, tiny_tokenizer

CPU = TrainerConfig(accelerator="cpu", progress=False)


def loaded(family: str, **changes: object) -> LoadedModel:
    reads = "cls" if family == "bert" else "last"
    record = {"name": family, "record_position": reads, "max_length": 16, "batch_size": 4, "fingerprint": family}
    return LoadedModel(
        model=tiny_model(family),
        tokenizer=tiny_tokenizer(),
        head=SequenceClassification(Labels(reads)),
        **(record | changes),  # type: ignore[arg-type]
    )


def dataset(per_concept: int = 6, seed: int = 0) -> ConceptDataset:
    texts = [text for concept in range(4) for text in texts_of(concept, per_concept, seed)]
    labels = np.repeat(np.arange(4), per_concept)
    splits = np.where(np.arange(len(texts)) % 2 == 0, "fit", "test")
    ids = tuple(f"{seed}-{number}" for number in range(len(texts)))
    return ConceptDataset("made_up", tuple(texts), labels, CONCEPTS, ids, splits, f"d{seed}")


def _by_hand(model: LoadedModel, texts: list[str], layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (activation, logits) per text, one text at a time, no padding, no code of the package."""
    vectors, logits = [], []
    block = (model.model.bert.encoder.layer if model.name == "bert" else model.model.model.layers)[layer]
    for text in texts:
        ids = torch.tensor([model.tokenizer(text)["input_ids"][:16]])
        handle = block.register_forward_hook(
            lambda m, a, out: vectors.append(out[0, 0 if model.name == "bert" else -1])
        )
        with torch.no_grad():
            logits.append(model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0])
        handle.remove()
    return torch.stack(vectors).detach().numpy(), torch.stack(logits).numpy()


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("layer", [0, 2])
def test_values_predictions_and_moments_equal_a_run_by_hand(family: str, layer: int) -> None:
    model, data = loaded(family), dataset()
    found = extract(model, data, "fit", sites=[Site(layer)], trainer=CPU)
    rows = data.rows("fit")
    values, logits = _by_hand(model, [data.texts[row] for row in rows], layer)
    ours = found.activations[Site(layer)]
    np.testing.assert_allclose(ours.values, values, rtol=1e-4, atol=1e-5)
    assert ours.base_prediction is not None
    np.testing.assert_array_equal(ours.base_prediction, logits.argmax(1))
    for concept in range(4):
        own = ours.values[data.labels[rows] == concept].astype(np.float64)
        np.testing.assert_allclose(ours.statistics.mean[concept], own.mean(0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(ours.statistics.variance[concept], own.var(0), rtol=1e-6, atol=1e-9)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99))
@settings(deadline=None)
def test_streamed_moments_do_not_depend_on_the_batches(sizes: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(1e3, 1.0, size=(sum(sizes), 3)).astype(np.float32)
    labels = generator.integers(0, 3, size=sum(sizes))
    moments, start = ConceptMoments(4, 3), 0
    for size in sizes:
        moments.update(torch.from_numpy(values[start : start + size]), torch.from_numpy(labels[start : start + size]))
        start += size
    found = moments.statistics()
    for concept in range(4):
        own = values[labels == concept].astype(np.float64)
        assert found.count[concept] == len(own)
        if len(own):
            np.testing.assert_allclose(found.mean[concept], own.mean(0), rtol=1e-12)
            np.testing.assert_allclose(found.variance[concept], own.var(0), rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(found.mean_abs[concept], np.abs(own).mean(0), rtol=1e-12)
        else:
            assert np.isnan(found.mean[concept]).all()
    others = values[labels != 0].astype(np.float64)
    if len(others):
        np.testing.assert_allclose(found.complement_mean[0], others.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.overall_mean, values.astype(np.float64).mean(0), rtol=1e-9)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_trap_1_batch_size_does_not_count(family: str) -> None:
    one, many = loaded(family, batch_size=1), loaded(family, batch_size=8)
    a, b = (extract(model, dataset(), "fit", sites=[Site(1)], trainer=CPU) for model in (one, many))
    np.testing.assert_allclose(a.activations[Site(1)].values, b.activations[Site(1)].values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_stored_states_replay_to_the_plain_predictions(family: str) -> None:
    model, data = loaded(family), dataset()
    found = extract(model, data, "test", sites=[Site(0), Site(2)], keep=[0, 2], trainer=CPU)
    assert found.log_probabilities is not None
    for layer in (0, 2):
        for batch, states in found.states[layer].parts:
            with torch.no_grad():
                logits = replay(model.model, layer, batch.inputs, states[None])[0]
            ours = torch.log_softmax(logits, -1).numpy()
            np.testing.assert_allclose(ours, found.log_probabilities[batch.rows], rtol=0, atol=1e-5)
    assert all(states.shape[1] == 1 for _, states in found.states[2].parts), "the last layer keeps one position"


def test_trap_25_the_base_model_runs_once_per_split_however_many_layers() -> None:
    model, data = loaded("bert"), dataset()
    batches = len(text_batches(model, [data.texts[row] for row in data.rows("test")]).batches)
    forwards = []
    handle = model.model.register_forward_hook(lambda *_: forwards.append(1))
    extract(model, data, "test", sites=[Site(0), Site(1), Site(2)], keep=[0, 1, 2], trainer=CPU)
    handle.remove()
    assert len(forwards) == batches


def test_a_lower_layer_does_not_pay_for_the_blocks_above() -> None:
    model, data = loaded("bert"), dataset()
    ran = []
    handle = model.model.bert.encoder.layer[1].register_forward_hook(lambda *_: ran.append(1))
    extract(model, data, "fit", sites=[Site(0)], trainer=CPU, to_the_head=False)
    assert not ran
    extract(model, data, "fit", sites=[Site(1)], trainer=CPU, to_the_head=False)
    handle.remove()
    assert ran


@pytest.mark.parametrize("change", ["model", "data", "split", "layer"])
def test_trap_23_the_fingerprint_of_activations_covers_its_inputs(change: str) -> None:
    base = extract(loaded("bert"), dataset(), "fit", sites=[Site(0)], trainer=CPU).activations[Site(0)].fingerprint
    other = extract(
        loaded("bert", fingerprint="other") if change == "model" else loaded("bert"),
        dataset(seed=1) if change == "data" else dataset(),
        "test" if change == "split" else "fit",
        sites=[Site(1 if change == "layer" else 0)],
        trainer=CPU,
    )
    assert next(iter(other.activations.values())).fingerprint != base
    assert (
        extract(loaded("bert"), dataset(), "fit", sites=[Site(0)], trainer=CPU).activations[Site(0)].fingerprint == base
    )


def test_trap_23_another_library_or_device_is_another_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def kept() -> int:
        found = extract(loaded("bert"), dataset(), "fit", sites=[Site(0)], trainer=CPU, store=store)
        assert found.activations[Site(0)].fingerprint == plain
        return len([path for path in (tmp_path / "activations").iterdir() if not path.name.startswith(".")])

    plain = extract(loaded("bert"), dataset(), "fit", sites=[Site(0)], trainer=CPU).activations[Site(0)].fingerprint
    assert [kept(), kept()] == [1, 1], "positive control: the same on the same machine is found again"
    for number, name in enumerate(("torch", "transformers", "numpy", "scikit-learn"), start=2):
        with monkeypatch.context() as other:
            real = metadata.version
            other.setattr(metadata, "version", lambda one, new=name, real=real: "0" if one == new else real(one))
            assert kept() == number, name
    assert computed_by(CPU)["device"] == "cpu"
    with monkeypatch.context() as other:
        other.setattr(torch.cuda, "is_available", lambda: True)
        other.setattr(torch.cuda, "get_device_name", lambda: "H100")
        assert computed_by(TrainerConfig(accelerator="auto"))["device"] == "H100"
        assert computed_by(TrainerConfig(accelerator="cpu"))["device"] == "cpu"


def test_trap_5_extraction_leaves_no_trace() -> None:
    model = loaded("bert")
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    module = ActivationExtractor(model, sites=[Site(1)], labels=np.zeros(4, dtype=int), concepts=1)
    make_trainer(CPU, "t").predict(module, datamodule=text_batches(model, texts_of(0, 4, 0)), return_predictions=False)
    assert all(torch.equal(model.model.state_dict()[name], tensor) for name, tensor in before.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.modules())


def test_moments_of_stored_values_equal_the_streamed_ones() -> None:
    found = extract(loaded("bert"), dataset(), "fit", sites=[Site(1)], trainer=CPU).activations[Site(1)]
    again = statistics_of(found.values, found.labels, 4)
    np.testing.assert_allclose(again.variance, found.statistics.variance, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pass_is_kept_and_found_again_whole(tmp_path: Path, dtype: torch.dtype) -> None:
    model, data, store = loaded("llama"), dataset(), Store(tmp_path)
    model.model.to(dtype)
    options: dict[str, Any] = {
        "sites": [Site(0), Site(1, "mlp_out")],
        "keep": [-1, 0, 2],
        "trainer": CPU,
        "store": store,
    }
    first = extract(model, data, "test", **options)
    forwards: list[int] = []
    handle = model.model.register_forward_hook(lambda *_: forwards.append(1))
    again = extract(model, data, "test", **options)
    assert not forwards, "found, not run"
    for site, found in first.activations.items():
        np.testing.assert_array_equal(found.values, again.activations[site].values)
        np.testing.assert_array_equal(found.statistics.variance, again.activations[site].statistics.variance)
        np.testing.assert_array_equal(found.base_prediction, again.activations[site].base_prediction)
    for layer, kept in first.states.items():
        for (batch, state), (other_batch, other) in zip(kept.parts, again.states[layer].parts, strict=True):
            assert state.dtype == other.dtype
            assert torch.equal(state, other)
            np.testing.assert_array_equal(batch.rows, other_batch.rows)
            assert all(torch.equal(tensor, other_batch.inputs[name]) for name, tensor in batch.inputs.items())
    extract(model, data, "fit", **options)
    handle.remove()
    assert forwards, "another split is another pass"
