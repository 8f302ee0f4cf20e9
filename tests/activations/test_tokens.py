"""Statistics of tokens against a plain NumPy loop over texts, one at a time, without padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuronlens.activations import tokens as module
from neuronlens.activations.extract import Extraction, extract
from neuronlens.activations.moments import ScatterMoments
from neuronlens.activations.sinks import SINK, sink_ratio, skips_first
from neuronlens.activations.tokens import SHUFFLED, TokenPlan, TokenStream
from neuronlens.config.compose import compose
from neuronlens.edits.fitting import shuffled_labels
from neuronlens.errors import ConfigError
from neuronlens.hooks.contexts import capture
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ConceptDataset, SecondMoments, Site
from neuronlens.storage.cache import Store
from tests.activations.test_extract import CPU, dataset, loaded
from tests.sweep.test_evaluator_causal import language_model

EVERY = TokenPlan(0, shuffled=True)


def plain_loop(
    model: LoadedModel, data: ConceptDataset, site: Site, *, first: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return every prompt token's vector and its text, text by text."""
    vectors, owner = [], []
    for number, ids in enumerate(model.encode([data.texts[row] for row in data.rows("fit")])):
        with capture(model.model, [site]) as recorded, torch.no_grad():
            model.model(input_ids=torch.tensor([ids]))
        own = recorded[site][0, first:].double().numpy()
        vectors.append(own)
        owner += [number] * len(own)
    return np.concatenate(vectors), np.array(owner)


def taken(model: LoadedModel, site: Site, plan: TokenPlan = EVERY, **options: Any) -> tuple[Extraction, ConceptDataset]:
    """Return one pass over the fit split that takes its tokens."""
    data = dataset(per_concept=12)
    to_the_head = options.pop("to_the_head", False)
    found = extract(model, data, "fit", sites=[site], trainer=CPU, to_the_head=to_the_head, tokens=plan, **options)
    return found, data


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: loaded("bert"),
        lambda: loaded("llama"),
        lambda: language_model("llama", side="left"),
        lambda: language_model("gpt2", side="right"),
    ],
    ids=["bert", "llama", "left", "right"],
)
def test_moments_of_tokens_equal_a_plain_numpy_loop(make: Any, skips: bool) -> None:
    model, site = make(), Site(1)
    found, data = taken(model, site, replace(EVERY, skips_first=skips))
    vectors, owner = plain_loop(model, data, site, first=int(skips))
    own, labels = found.tokens[site], data.labels[data.rows("fit")]
    order = np.random.default_rng([0, len(labels)]).permutation(len(labels))
    for labelling, activations in ((labels, own), (labels[order], shuffled_labels(own, 0))):
        of_token = labelling[owner]
        for concept in range(4):
            mine = vectors[of_token == concept]
            assert activations.statistics.count[concept] == len(mine)
            np.testing.assert_allclose(activations.statistics.mean[concept], mine.mean(0), atol=1e-5)
            np.testing.assert_allclose(activations.statistics.variance[concept], mine.var(0), rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(activations.statistics.mean_abs[concept], np.abs(mine).mean(0), atol=1e-5)
        np.testing.assert_allclose(activations.second.covariance, np.cov(vectors.T, ddof=0), atol=1e-4)
        np.testing.assert_array_equal(activations.labels, of_token)
    assert found.fitted_on is found.tokens
    assert found.seen_tokens == len(vectors)
    np.testing.assert_allclose(own.values, vectors, atol=1e-5)  # few tokens: the sample is all of them, in order
    assert own.ids == tuple(found.activations[site].ids[text] for text in owner)
    record = found.activations[site]
    assert len(record.values) == len(labels), "record vectors are there as before"
    assert record.streamed is None


def test_at_the_last_block_the_tokens_are_those_that_the_head_reads() -> None:
    for family in ("bert", "llama"):
        model, site = loaded(family), Site(2)
        found, _ = taken(model, site)
        np.testing.assert_array_equal(found.tokens[site].values, found.activations[site].values)


def test_only_tokens_of_correctly_answered_texts_count_where_that_is_asked() -> None:
    model, site = loaded("bert"), Site(0)
    found, data = taken(model, site, replace(EVERY, only_correct=True), to_the_head=True)
    labels = data.labels[data.rows("fit")]
    right = found.prediction == labels
    assert 0 < right.sum() < len(labels)
    vectors, owner = plain_loop(model, data, site)
    kept = right[owner]
    np.testing.assert_allclose(found.tokens[site].values, vectors[kept], atol=1e-5)
    assert found.seen_tokens == kept.sum()
    np.testing.assert_allclose(found.tokens[site].second.mean, vectors[kept].mean(0), atol=1e-6)


def test_what_was_taken_is_found_again_in_the_store_under_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    model, site, store = loaded("bert"), Site(1), Store(tmp_path)
    first, _ = taken(model, site, store=store)
    model.model.bert.forward = None  # nothing is run again
    again, _ = taken(model, site, store=store)
    ours, theirs = again.tokens[site], first.tokens[site]
    for name in ("values", "labels"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    np.testing.assert_array_equal(ours.second.covariance, theirs.second.covariance)
    np.testing.assert_array_equal(ours.statistics.variance, theirs.statistics.variance)
    assert ours.fingerprint == theirs.fingerprint != again.activations[site].fingerprint
    assert ours.shuffled is not None
    np.testing.assert_array_equal(shuffled_labels(ours, 0).labels, shuffled_labels(theirs, 0).labels)
    with pytest.raises(TypeError):
        taken(model, site, replace(EVERY, skips_first=True), store=store)


def test_the_sample_rests_on_the_seed_alone_and_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(400, 30, 6, generator=generator)
    mask = torch.rand(400, 30, generator=generator) < 0.8
    labels = np.arange(400) % 3
    plan = TokenPlan(0, size=500)

    def sample(seed: int, batch: int) -> Any:
        stream = TokenStream(replace(plan, seed=seed), labels, 3, 6, "cpu")
        held = 0
        for start in range(0, 400, batch):
            rows = np.arange(start, min(start + batch, 400))
            stream.update(hidden[rows], mask[rows], rows)
            held = max(held, stream.sample.held)
        assert held <= 2 * plan.size + batch * 30
        return stream.result()

    whole, pieces, other = sample(0, 400), sample(0, 7), sample(1, 7)
    np.testing.assert_array_equal(whole.values, pieces.values)
    np.testing.assert_array_equal(whole.owner, pieces.owner)
    assert len(whole.values) == 500 < whole.seen == int(mask.sum())
    assert len({*map(bytes, whole.values)} & {*map(bytes, other.values)}) < 100
    spread = np.bincount(whole.owner // 40, minlength=10)
    assert spread.min() > 20, "every part of the split is drawn from"
    monkeypatch.setattr(module, "MOST_VALUES", 60)
    assert len(sample(0, 50).values) == 10
    np.testing.assert_allclose(whole.scatter.covariance, pieces.scatter.covariance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_scatter_streamed_in_batches_is_that_of_all_values_together(offset: float) -> None:
    values = np.random.default_rng(2).gamma(2.0, size=(300, 5)) + offset
    stream = ScatterMoments(5)
    for part in np.array_split(values, 7):
        stream.update(torch.from_numpy(part))
    stream.update(torch.empty(0, 5))
    ours, theirs = stream.moments(), SecondMoments.of(values)
    assert ours.count == theirs.count
    for name in ("mean", "covariance", "fourth"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-10)


def test_a_first_token_that_dwarfs_the_others_is_a_sink_and_nothing_else_is() -> None:
    data, groups = dataset(), [(Site(1),)]
    config = compose(["sweep=single", "intervention.edit_positions=all"])
    model = loaded("llama")
    texts = [data.texts[row] for row in data.rows("fit")[:3]]
    assert sink_ratio(model, texts, groups[0]) < SINK
    assert not skips_first(config, model, data, groups)

    def park(module: Any, arguments: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        ids = torch.arange(hidden.shape[1])
        first = parked["mask"].long().argmax(-1)
        hidden[ids[None] == first[:, None]] *= 100
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    parked: dict[str, torch.Tensor] = {}
    body = model.model.model
    looked = body.register_forward_pre_hook(lambda m, a, k: parked.update(mask=k["attention_mask"]), with_kwargs=True)
    handle = body.layers[0].register_forward_hook(park)
    try:
        assert sink_ratio(model, texts, groups[0]) > SINK
        assert skips_first(config, model, data, groups)
        own = config.intervention
        for changed, expected in (
            (replace(own, skip_first="never"), False),
            (replace(own, edit_positions="record"), False),
            (replace(own, edit_positions="record", fit_positions="tokens"), True),
        ):
            assert skips_first(replace(config, intervention=changed), model, data, groups) == expected
    finally:
        handle.remove()
        looked.remove()


def test_the_token_that_the_head_reads_is_left_out_by_nobody_unawares() -> None:
    model, data = loaded("bert"), dataset()
    config = compose(["sweep=single", "intervention.edit_positions=all", "intervention.skip_first=always"])
    assert skips_first(config, model, data, [(Site(0),)])
    with pytest.raises(ConfigError, match="the head reads the first token"):
        skips_first(config, model, data, [(Site(0),), (Site(2),)])


def test_shuffled_labels_are_read_beforehand_or_not_at_all() -> None:
    found, _ = taken(loaded("bert"), Site(1), replace(EVERY, shuffled=False))
    with pytest.raises(AssertionError, match="streamed where that control"):
        shuffled_labels(found.tokens[Site(1)], 0)
    assert SHUFFLED == "shuffled_labels"
