"""Perplexity against a loop that asks a plain transformers model for one token at a time, edits hooked by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neuronlens.data.columns import example_id
from neuronlens.data.documents import DocumentSet
from neuronlens.errors import DataError, ModelError
from neuronlens.hooks.resolver import blocks_of
from neuronlens.measures.general import reading
from neuronlens.measures.general.perplexity import (
    DocumentLosses,
    document_losses,
    perplexity,
    perplexity_rows,
)
from neuronlens.measures.general.reading import EditedReader
from neuronlens.measures.intervals import Bootstrap
from neuronlens.models.checkpoint import special_tokens
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Site
from tests.conftest import FAMILY_NAMES, tiny_model
from tests.hooks.test_resolver import _module
from tests.measures.general.language_models import (
    CPU,
    ENCODERS,
    POSITIONS,
    WORDS,
    ByHand,
    hooked,
    loaded_lm,
    word_tokenizer,
)

CAUSAL = [family for family in FAMILY_NAMES if family not in ENCODERS]
WINDOW = 12
LENGTHS = (5, 30, 2, 13, 9, 12)


def prose(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> DocumentSet:
    """Return documents of these many words."""
    generator = random.Random(seed)
    texts = tuple(" ".join(generator.choice(WORDS[30:]) for _ in range(length)) for length in lengths)
    return DocumentSet("prose", tuple(map(example_id, texts)), texts, {}, "p")


def measured(loaded: LoadedModel, documents: DocumentSet, builders: Any, cells: Any, **options: Any) -> DocumentLosses:
    """Return the package's losses."""
    chosen = {"max_length": WINDOW, "tokens_per_forward": 200, "trainer": CPU} | options
    return document_losses(loaded, documents, builders, cells, **chosen)


Change = Callable[[Tensor], Tensor] | None


def one_token_at_a_time(model: Any, module: Any, change: Change, documents: DocumentSet, **hook: bool) -> np.ndarray:
    """Return each document's loss, nats: every token after a forward of its own over those before it in its window."""
    losses = []
    for text in documents.texts:
        ids = [WORDS.index(word) for word in text.split()]
        total = 0.0
        for start in range(0, len(ids), WINDOW):
            window = ids[start : start + WINDOW]
            for place in range(1, len(window)):
                handle = hooked(module, change, **hook)
                with torch.no_grad():
                    logits = model(torch.tensor([window[:place]])).logits[0, -1]
                handle.remove()
                total -= float(logits.double().log_softmax(-1)[window[place]])
        losses.append(total)
    return np.array(losses)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_losses_equal_one_token_at_a_time_whatever_the_padding_and_the_batch(family: str, layer: int) -> None:
    documents, edits = prose(), ByHand(16, seed=layer)
    model = loaded_lm(family).model
    block = blocks_of(model)[layer]
    base = one_token_at_a_time(model, block, None, documents)
    expected = [one_token_at_a_time(model, block, edits.functions[cell], documents) for cell in edits.cells]
    assert all(np.abs(found - base).max() > 0.1 for found in expected), "the positive control: edits do something"
    for side, batch in (("right", 1), ("left", 1), ("right", 8), ("left", 8)):
        loaded = loaded_lm(family, batch_size=batch, side=side)
        found = measured(loaded, documents, {Site(layer): edits}, edits.cells)
        assert found.measure == "perplexity"
        assert found.tokens.tolist() == [4, 27, 1, 11, 8, 11], "a window's first token has nothing before it"
        np.testing.assert_allclose(found.base, base, rtol=1e-5)
        np.testing.assert_allclose(found.edited, expected, rtol=1e-5)
        for own, by_hand in zip(found.edited, expected, strict=True):
            assert perplexity(own, found.tokens) == pytest.approx(np.exp(by_hand.sum() / 62), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("name", ["attn_out", "mlp_out", "mlp_neurons"])
@pytest.mark.parametrize("layer", [0, 2])
def test_sites_inside_a_block_equal_a_hook_by_hand(family: str, name: str, layer: int) -> None:
    documents = prose((7, 4, 14))
    loaded = loaded_lm(family, side="left")
    module = _module(family, blocks_of(loaded.model)[layer], name)
    edits = ByHand({"mlp_neurons": 64 if family == "gpt2" else 32}.get(name, 16))
    found = measured(loaded, documents, {Site(layer, name): edits}, edits.cells)
    inside = name == "mlp_neurons"
    for cell, own in zip(edits.cells, found.edited, strict=True):
        by_hand = one_token_at_a_time(loaded.model, module, edits.functions[cell], documents, is_input=inside)
        np.testing.assert_allclose(own, by_hand, rtol=1e-5)
        assert np.abs(own - found.base).max() > 1e-3


def test_edits_at_several_sites_the_last_block_included_are_all_made() -> None:
    documents, loaded = prose((7, 4, 14)), loaded_lm("llama")
    blocks = blocks_of(loaded.model)
    edits = {Site(0): ByHand(16, 1), Site(1, "mlp_out"): ByHand(16, 2), Site(2): ByHand(16, 3)}
    cells = edits[Site(0)].cells
    found = measured(loaded, documents, edits, cells)
    for cell, own in zip(cells, found.edited, strict=True):
        handles = [
            hooked(module, edits[site].functions[cell])
            for site, module in ((Site(0), blocks[0]), (Site(1, "mlp_out"), blocks[1].mlp.down_proj))
        ]
        by_hand = one_token_at_a_time(loaded.model, blocks[2], edits[Site(2)].functions[cell], documents)
        for handle in handles:
            handle.remove()
        np.testing.assert_allclose(own, by_hand, rtol=1e-5)


@pytest.mark.parametrize("family", ENCODERS)
@pytest.mark.parametrize("layer", [0, 2])
def test_pseudo_perplexity_equals_masking_one_token_at_a_time(family: str, layer: int) -> None:
    documents, edits = prose((5, 14, 2, 1)), ByHand(16)
    loaded = loaded_lm(family, start="[CLS]", end="[SEP]")
    block = blocks_of(loaded.model)[layer]
    found = measured(loaded, documents, {Site(layer): edits}, edits.cells)
    assert (found.measure, found.tokens.tolist(), found.skipped) == ("pseudo_perplexity", [5, 14, 2], 1)
    for change, own in [(None, found.base), *zip(edits.functions.values(), found.edited, strict=True)]:
        for document, text in enumerate(documents.texts[:3]):
            ids, total = [WORDS.index(word) for word in text.split()], 0.0
            for start in range(0, len(ids), WINDOW - 2):
                window = [2, *ids[start : start + WINDOW - 2], 3]
                for place in range(1, len(window) - 1):
                    masked = torch.tensor([[*window[:place], 4, *window[place + 1 :]]])
                    handle = hooked(block, change)
                    with torch.no_grad():
                        logits = loaded.model(masked, attention_mask=torch.ones_like(masked)).logits[0, place]
                    handle.remove()
                    total -= float(logits.double().log_softmax(-1)[window[place]])
            assert own[document] == pytest.approx(total, rel=1e-5)


def test_special_tokens_in_a_text_are_neither_masked_nor_counted() -> None:
    texts = ("w1 [SEP] w2 [MASK] w3 [UNK]", "[SEP] [PAD] [CLS]")
    documents = DocumentSet("d", ("a", "b"), texts, {}, "f")
    found = measured(loaded_lm("bert", start="[CLS]", end="[SEP]"), documents, {}, [])
    assert found.ids == ("a",)
    assert found.tokens.tolist() == [4], "three words and the unknown one"
    assert found.skipped == 1


def test_trap_18_every_token_counts_alike_and_a_document_of_one_token_is_skipped() -> None:
    documents, loaded = prose((3, 1, 11)), loaded_lm("llama")
    found = measured(loaded, documents, {}, [])
    assert (found.skipped, len(found.ids), found.tokens.tolist()) == (1, 2, [2, 10])
    assert found.ids == (documents.ids[0], documents.ids[2])
    losses = one_token_at_a_time(loaded.model, blocks_of(loaded.model)[0], None, documents)
    weighted = np.exp((losses[0] + losses[2]) / 12)
    unweighted = np.exp((losses[0] / 2 + losses[2] / 10) / 2)
    assert perplexity(found.base, found.tokens) == pytest.approx(weighted, rel=1e-5)
    assert abs(weighted - unweighted) > 0.1, "the positive control: the two means differ here"
    with pytest.raises(DataError, match=r"None of the 2 documents .* 2 tokens"):
        measured(loaded, prose((1, 1)), {}, [])


def test_behind_a_first_special_token_every_token_of_every_window_is_predicted() -> None:
    documents, loaded = prose((5, 30)), loaded_lm("llama", start="[CLS]")
    found = measured(loaded, documents, {}, [])
    assert found.tokens.tolist() == [5, 30]
    total, ids = 0.0, [WORDS.index(word) for word in documents.texts[1].split()]
    for start in range(0, 30, WINDOW - 1):
        window = [2, *ids[start : start + WINDOW - 1]]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([window])).logits[0].log_softmax(-1)
        total -= float(logits[range(len(window) - 1), window[1:]].sum())
    assert found.base[1] == pytest.approx(total, rel=1e-5)


def test_the_first_windows_of_a_document_are_those_of_the_document_cut_there() -> None:
    loaded = loaded_lm("llama")
    whole, cut = prose((5, 30)), prose((5, 30))
    words = cut.texts[1].split()[: 2 * WINDOW]
    shortened = DocumentSet("cut", cut.ids, (cut.texts[0], " ".join(words)), cut.dropped, "cut")
    first = measured(loaded, whole, {}, [], max_windows=2)
    np.testing.assert_allclose(first.base, measured(loaded, shortened, {}, []).base, rtol=1e-6)
    assert first.tokens[1] < measured(loaded, whole, {}, []).tokens[1]


def test_special_tokens_are_found_on_either_end() -> None:
    assert special_tokens(word_tokenizer()) == ([], [])
    assert special_tokens(word_tokenizer(start="[CLS]", end="[SEP]")) == ([2], [3])


def test_losses_of_a_half_precision_model_are_summed_in_full_precision() -> None:
    documents, edits, loaded = prose(), ByHand(16), loaded_lm("llama")
    loaded.model.to(torch.bfloat16)
    block = blocks_of(loaded.model)[1]
    found = measured(loaded, documents, {Site(1): edits}, edits.cells)
    for change, own in [(None, found.base), *zip(edits.functions.values(), found.edited, strict=True)]:
        by_hand = one_token_at_a_time(loaded.model, block, change, documents)
        assert own.sum() == pytest.approx(by_hand.sum(), rel=2e-2), "within what bf16 states differ by batch"
    assert not np.array_equal(found.base, torch.tensor(found.base).bfloat16().double().numpy())


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("tokens", [1, 30, 10_000])
def test_no_more_logits_than_asked_for_are_made_and_how_many_does_not_count(
    layer: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, edits, loaded = prose(), ByHand(16), loaded_lm("gemma2")
    expected = measured(loaded, documents, {Site(layer): edits}, edits.cells)
    sizes = []
    made = EditedReader._logits
    monkeypatch.setattr(reading, "MOST_LOGITS", 7 * len(WORDS))

    def watched(self: EditedReader, hidden: Tensor) -> Tensor:
        logits = made(self, hidden)
        sizes.append(logits.shape)
        return logits

    monkeypatch.setattr(EditedReader, "_logits", watched)
    found = measured(loaded, documents, {Site(layer): edits}, edits.cells, tokens_per_forward=tokens)
    assert max(size[0] for size in sizes) == min(tokens, 7)
    np.testing.assert_allclose(found.base, expected.base, rtol=1e-5)
    np.testing.assert_allclose(found.edited, expected.edited, rtol=1e-5)


def test_a_cell_at_the_last_layer_runs_no_block() -> None:
    documents, edits, loaded = prose(), ByHand(16), loaded_lm("llama")
    ran = []
    handles = [block.register_forward_hook(lambda *_: ran.append(1)) for block in blocks_of(loaded.model)]
    measured(loaded, documents, {Site(2): edits}, edits.cells, tokens_per_forward=10_000)
    assert len(ran) == 3, "one plain forward over one batch, whatever the number of cells"
    ran.clear()
    measured(loaded, documents, {Site(1): edits}, edits.cells, tokens_per_forward=10_000)
    assert len(ran) == 3 + 2, "and one forward of the block above for each kind of cell"
    for handle in handles:
        handle.remove()


def test_trap_11_the_model_is_left_as_it_was() -> None:
    loaded, edits = loaded_lm("gpt2"), ByHand(16)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    blocks = list(blocks_of(loaded.model))
    measured(loaded, prose(), {Site(1): edits}, edits.cells)
    assert all(torch.equal(loaded.model.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(ours is theirs for ours, theirs in zip(blocks_of(loaded.model), blocks, strict=True))
    hooks = [m for m in loaded.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


@pytest.mark.parametrize(("family", "usable"), [("roberta", POSITIONS + 1), ("bert", POSITIONS + 2)])
def test_a_window_of_every_usable_position_is_read_and_one_token_more_is_refused(family: str, usable: int) -> None:
    """RoBERTa counts positions from one past its padding index: one of the model's 100 is never used here, two of its
    own 514."""
    loaded = loaded_lm(family, start="[CLS]", end="[SEP]")
    assert loaded.model.config.max_position_embeddings == POSITIONS + 2
    documents = prose((usable,))
    found = measured(loaded, documents, {}, [], max_length=usable, max_windows=1, tokens_per_forward=10_000)
    assert found.tokens.tolist() == [usable - 2], "a window as long as the model takes, two of its tokens special"
    with torch.no_grad(), pytest.raises((IndexError, RuntimeError)):
        loaded.model(input_ids=torch.full((1, usable + 1), 7))
    with pytest.raises(
        ModelError, match=f"max_length is {usable + 1}, expected at most {usable}, the model's positions"
    ):
        measured(loaded, documents, {}, [], max_length=usable + 1)


def test_models_without_a_vocabulary_head_are_told_so() -> None:
    for family in ("bert", "llama"):
        loaded = replace(loaded_lm(family), model=tiny_model(family))
        with pytest.raises(ModelError, match="has no vocabulary head"):
            measured(loaded, prose(), {}, [])
    loaded = loaded_lm("bert")
    loaded.tokenizer.mask_token = None
    with pytest.raises(ModelError, match="no mask token"):
        measured(loaded, prose(), {}, [])
    with pytest.raises(ModelError, match="expected at most 100"):
        measured(loaded_lm("llama"), prose(), {}, [], max_length=101)
    with pytest.raises(DataError, match="leaves 0 tokens beside the special ones"):
        measured(loaded_lm("bert", start="[CLS]", end="[SEP]"), prose(), {}, [], max_length=2)


def losses_of(base: Any, edited: Any, tokens: Any) -> DocumentLosses:
    """Return a record of these numbers."""
    tokens = np.asarray(tokens)
    ids = tuple(map(str, range(len(tokens))))
    return DocumentLosses("perplexity", ids, tokens, np.asarray(base, float), np.asarray(edited, float), 0)


def test_intervals_equal_a_plain_loop_over_drawn_documents() -> None:
    generator = np.random.default_rng(3)
    tokens = generator.integers(2, 50, size=9)
    base = tokens * generator.uniform(1, 3, size=9)
    edited = base + tokens * generator.uniform(0, 1, size=9)
    (row,) = perplexity_rows(losses_of(base, [edited], tokens), Bootstrap(0.9, 300, 5))
    drawn: dict[str, list[float]] = {"base": [], "edited": [], "difference": [], "ratio": []}
    for counts in Bootstrap(0.95, 300, 5).counts(9).astype(int):
        rows = np.repeat(np.arange(9), counts)
        before, after = (np.exp(sum(x[i] for i in rows) / sum(tokens[i] for i in rows)) for x in (base, edited))
        for name, value in zip(drawn, (before, after, after - before, after / before), strict=True):
            drawn[name].append(value)
    for name, values in drawn.items():
        assert row[f"{name}_low"] == pytest.approx(np.percentile(values, 5))
        assert row[f"{name}_high"] == pytest.approx(np.percentile(values, 95))
    assert row["base"] == pytest.approx(np.exp(base.sum() / tokens.sum()))
    assert row["ratio"] == pytest.approx(row["edited"] / row["base"])
    assert (row["n"], row["n_tokens"]) == (9, tokens.sum())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.01, 6)), min_size=2, max_size=12),
    st.floats(-0.5, 2),
)
def test_intervals_are_paired(documents: list[tuple[int, float]], more: float) -> None:
    """The same nats more per token is the same ratio in every draw; unpaired draws would spread it."""
    tokens = np.array([count for count, _ in documents])
    base = tokens * np.array([loss for _, loss in documents])
    same, shifted = perplexity_rows(losses_of(base, [base, base + more * tokens], tokens), Bootstrap(0.9, 50, 0))
    assert same["difference_low"] == same["difference"] == same["difference_high"] == 0
    assert shifted["ratio_low"] == pytest.approx(np.exp(more), rel=1e-9)
    assert shifted["ratio_high"] == pytest.approx(np.exp(more), rel=1e-9)
    slack = 1e-9 * same["base"]
    losses = base / tokens
    assert np.exp(losses.min()) - slack <= same["base_low"] <= same["base_high"] <= np.exp(losses.max()) + slack


def test_trap_41_one_document_has_no_interval() -> None:
    (row,) = perplexity_rows(losses_of([4.0], [[5.0]], [2]), Bootstrap(0.95, 100, 0))
    assert row["ratio"] == pytest.approx(np.exp(0.5))
    assert all(np.isnan(row[f"{name}_{end}"]) for name in ("base", "edited", "ratio") for end in ("low", "high"))


def test_without_resamples_there_is_no_interval_and_an_overflow_is_infinite() -> None:
    (row,) = perplexity_rows(losses_of([4.0], [[4000.0]], [2]), Bootstrap(0.95, 0, 0))
    assert row["base"] == pytest.approx(np.exp(2))
    assert row["edited"] == np.inf
    assert all(np.isnan(row[f"{name}_{end}"]) for name in ("base", "edited", "ratio") for end in ("low", "high"))
