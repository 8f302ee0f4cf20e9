"""What a written answer is matched with, and what labels score, against SciPy in float64 over the whole vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp

from neuronlens.hooks import readout
from neuronlens.hooks.readout import log_probability_of, log_probability_of_others
from neuronlens.models.heads.base import Head, Labels
from neuronlens.models.heads.generation import Generation, match
from neuronlens.models.heads.label_scores import LabelLogprob, LabelToken
from neuronlens.models.heads.seq_cls import SequenceClassification

ANSWERS = (" World", " Sports", " Business news", " News")


@pytest.mark.parametrize(
    ("text", "parse", "found"),
    [
        (" Sports", "first_line", 1),
        ("sports.\nText: World", "first_line", 1),
        (" Sports and World", "first_line", -1),
        (" Business news", "first_line", 2),
        (" World peace", "first_word", 0),
        (" 'World', I think", "first_word", 0),
        ("I would say: business news.", "contains", 2),
        ("old news", "contains", 3),
        ("", "first_line", -1),
        ("\n\n", "first_word", -1),
        ("nothing of it", "contains", -1),
    ],
)
def test_a_written_answer_names_the_label_or_none(text: str, parse: str, found: int) -> None:
    assert match(text, ANSWERS, parse) == found


def test_the_first_label_named_counts_and_the_longer_of_two_at_one_place() -> None:
    assert match("news of business news", ANSWERS, "contains") == 3
    assert match("business news", ["business", "business news"], "contains") == 1


Tokens = tuple[tuple[int, ...], ...]


def labels_of(tokens: Tokens, words: int) -> Labels:
    """Return labels of these tokens in a vocabulary of so many words."""
    return Labels("last", tokens, tuple(map(str, tokens)), words)


def draws(seed: int) -> torch.Generator:
    """Return a generator of its own for a test."""
    return torch.Generator().manual_seed(seed)


def test_logits_of_a_sample_are_counted_over_what_is_read() -> None:
    labels = labels_of(((1,), (2, 3), (4, 5, 6)), 100)
    assert LabelToken(labels).floats_per_sample == 3
    assert LabelToken(labels, "first_token").floats_per_sample == 100
    assert LabelLogprob(labels).floats_per_sample == 4 * 100, "the prompt's end and three more"
    assert LabelLogprob(labels).continuations == ((2,), (4, 5))
    assert LabelToken(labels).continuations == ()


def test_heads_say_what_the_sweep_and_the_loader_ask_of_them() -> None:
    labels = labels_of(((1,), (2, 3)), 100)
    heads: list[Head] = [
        SequenceClassification(Labels("cls")),
        LabelToken(labels),
        LabelLogprob(labels),
        Generation(labels),
    ]
    asked = [(head.name, head.reads, head.replays, head.scores_words, head.by_first_token) for head in heads]
    assert asked == [
        ("seq_cls", "cls", True, False, False),
        ("label_token", "last", True, True, True),
        ("label_logprob", "last", True, True, False),
        ("generation", "last", False, False, False),
    ]
    assert [head.continuations for head in heads] == [(), (), ((2,),), ((2,),)]
    assert LabelLogprob(labels, "first_token").by_first_token
    assert Generation(labels, confidence="first_token").by_first_token
    plain = heads[0]
    assert (plain.words, plain.floats_per_sample) == (None, 1)
    assert plain.further_tokens(torch.zeros(5, 3, 7)).shape == (5, 0)


@pytest.mark.parametrize("confidence", ["labels", "first_token"])
@pytest.mark.parametrize("tokens", [((1,), (2, 3), (4, 5, 6)), ((1,), (7,), (4,)), ((1, 2), (3, 4))], ids=str)
@pytest.mark.parametrize("known", [False, True], ids=["at once", "further tokens known"])
@pytest.mark.parametrize("spread", [3.0, 60.0])
def test_label_log_probabilities_are_means_over_tokens(
    tokens: Tokens, confidence: str, known: bool, spread: float
) -> None:
    head = LabelLogprob(labels_of(tokens, 11), confidence)
    logits = torch.randn(2, 5, 1 + sum(map(len, head.continuations)), 11, generator=draws(len(tokens))) * spread
    before = logits.clone()
    if head.words is not None:
        assert not head.continuations
        read = head.of(logits[..., head.words])
    elif known and head.continuations:
        read = head.of(logits[..., :1, :], head.further_tokens(logits[..., 1:, :]))
    else:
        read = head.of(logits)
    assert torch.equal(logits, before), "the logits are the model's"
    exact = log_softmax(logits.double().numpy(), axis=-1)
    means, place = [], 1
    for label in tokens:
        steps = [exact[..., 0, label[0]]]
        for token in label[1:]:
            steps.append(exact[..., place, token])
            place += 1
        means.append(np.mean(steps, axis=0))
    scores = np.stack(means, axis=-1)
    np.testing.assert_array_equal(read.prediction, scores.argmax(-1))
    if confidence == "labels":
        expected = log_softmax(scores, axis=-1)
    else:
        firsts = [label[0] for label in tokens]
        others = np.delete(exact[..., 0, :], firsts, axis=-1)
        expected = np.concatenate([exact[..., 0, firsts], logsumexp(others, axis=-1, keepdims=True)], axis=-1)
    np.testing.assert_allclose(read.log_probabilities, expected, rtol=1e-6, atol=2e-5)


def test_first_tokens_are_compared_alone_where_the_head_reads_no_other() -> None:
    labels = labels_of(((1,), (2, 3), (4, 5, 6)), 11)
    logits = torch.randn(5, 1, 11, generator=draws(3)) * 3
    plain, normalised = LabelToken(labels, "first_token"), LabelToken(labels)
    assert normalised.words is not None
    exact = log_softmax(logits[:, 0].double().numpy(), axis=-1)[:, [1, 2, 4]]
    np.testing.assert_allclose(plain.of(logits).log_probabilities[:, :3], exact, atol=2e-6)
    same = normalised.of(logits[..., normalised.words])
    np.testing.assert_allclose(same.log_probabilities, log_softmax(exact, axis=-1), atol=2e-6)
    assert (plain.of(logits).prediction == same.prediction).all()


@pytest.mark.parametrize("gap", [-200.0, -40.0, -17.0, -1.0, 0.0, 1.0, 17.0, 40.0, 200.0])
def test_trap_49_log_p_of_all_other_words_does_not_cancel(gap: float) -> None:
    """Labels above all other words by up to 200 nats, where 1 minus their probabilities is 0 in float32, and below."""
    logits, target = torch.randn(9, 101, generator=draws(1)), torch.tensor([[3, 50, 100]]).repeat(9, 1)
    logits[:, target[0]] += gap
    before = logits.clone()
    found = log_probability_of_others(logits, target)
    assert torch.equal(logits, before)
    exact = np.delete(log_softmax(logits.double().numpy(), axis=-1), target[0].numpy(), axis=-1)
    np.testing.assert_allclose(found, logsumexp(exact, axis=-1), rtol=1e-5, atol=1e-14)
    if gap == 40.0:
        by_difference = torch.log1p(-log_probability_of(logits, target).exp().sum(-1))
        assert not torch.isfinite(by_difference).all(), "the positive control: the difference is lost in float32"


def test_where_every_word_is_a_label_the_rest_is_as_good_as_nothing() -> None:
    logits, target = torch.randn(4, 3, generator=draws(2)), torch.tensor([[0, 1, 2]]).repeat(4, 1)
    found = log_probability_of_others(logits, target)
    assert torch.isfinite(found).all()
    assert (found.exp() == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("at_once", [1, 250, 1 << 22])
def test_log_probabilities_in_pieces_are_those_of_the_whole(
    dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(readout.MOST_AT_ONCE, "cpu", at_once)
    logits = (torch.randn(7, 101, generator=draws(0)) * 20).to(dtype)
    target = torch.stack([torch.randperm(101, generator=draws(row))[:3] for row in range(7)])
    exact = log_softmax(logits.double().numpy(), axis=-1)
    found, others = log_probability_of(logits, target), log_probability_of_others(logits, target)
    assert found.dtype == others.dtype == torch.float32
    wanted = np.take_along_axis(exact, target.numpy(), axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    np.put_along_axis(exact, target.numpy(), -np.inf, axis=1)
    np.testing.assert_allclose(others, logsumexp(exact, axis=1), rtol=1e-5, atol=1e-5)
