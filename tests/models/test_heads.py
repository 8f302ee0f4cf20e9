"""What a written answer is matched with, and how many logits a sample's reading makes."""

from __future__ import annotations

import pytest

from neuronlens.models.heads import LabelScores, match

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
