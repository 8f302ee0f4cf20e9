"""What a written answer is matched with, and what labels score, against SciPy over the whole vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from neuronlens.hooks import readout
from neuronlens.hooks.readout import log_probability_of
from neuronlens.models.heads.heads import LabelScores, match

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


def test_logits_of_a_sample_are_counted_over_what_is_read() -> None:
    tokens = ((1,), (2, 3), (4, 5, 6))
    assert LabelScores("label_token", tokens, 100).floats_per_sample == 3
    assert LabelScores("label_token", tokens, 100, "first_token").floats_per_sample == 100
    assert LabelScores("label_logprob", tokens, 100).floats_per_sample == 4 * 100, "the prompt's end and three more"
    assert LabelScores("label_logprob", tokens, 100).continuations == ((2,), (4, 5))


@pytest.mark.parametrize("confidence", ["labels", "first_token"])
@pytest.mark.parametrize("tokens", [((1,), (2, 3), (4, 5, 6)), ((1,), (7,), (4,)), ((1, 2), (3, 4))], ids=str)
@pytest.mark.parametrize("known", [False, True], ids=["at once", "further tokens known"])
def test_label_log_probabilities_are_means_over_tokens(
    tokens: tuple[tuple[int, ...], ...], confidence: str, known: bool
) -> None:
    head = LabelScores("label_logprob", tokens, 11, confidence)
    logits = torch.randn(2, 5, 1 + sum(map(len, head.continuations)), 11) * 3
    before = logits.clone()
    if head.words is not None:
        assert not head.continuations
        said = head.of(logits[..., head.words])
    elif known and head.continuations:
        said = head.of(logits[..., :1, :], head.further_tokens(logits[..., 1:, :]))
    else:
        said = head.of(logits)
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
    np.testing.assert_array_equal(said.prediction, scores.argmax(-1))
    if confidence == "labels":
        expected = log_softmax(scores, axis=-1)
    else:
        first = exact[..., 0, [label[0] for label in tokens]]
        expected = np.concatenate([first, np.log1p(-np.exp(first).sum(-1, keepdims=True))], axis=-1)
    np.testing.assert_allclose(said.log_probabilities, expected, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("at_once", [1, 250, 1 << 22])
def test_log_probabilities_in_pieces_are_those_of_the_whole(
    dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(readout.MOST_AT_ONCE, "cpu", at_once)
    logits, target = (torch.randn(7, 101) * 20).to(dtype), torch.randint(0, 101, (7, 3))
    found = log_probability_of(logits, target)
    assert found.dtype == torch.float32
    exact = np.take_along_axis(log_softmax(logits.double().numpy(), axis=-1), target.numpy(), axis=1)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
