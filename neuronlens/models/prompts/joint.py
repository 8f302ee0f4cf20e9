"""Where a prompt's tokens end and its label's begin, whatever text stands in the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neuronlens.errors import ModelError

PROBES = ("a", "Some words, 12 of them.", "What?", "Ω", '"quoted" (text)')
"""Texts of different endings, after each of which the labels have to be the same tokens."""
NEXT_STEP = (
    "Labels could not be read off the same tokens for every text. Next: a dataset.prompt.template whose end is set off "
    "from the text, as in '{text}\\nLabel:'."
)

Encode = Callable[[str, str], tuple[list[int], int]]
"""Takes a text and a label; gives the token ids of prompt and label without special tokens, and the place of the first
token that starts behind the text."""


@dataclass(frozen=True)
class Joint:
    """How prompt and label meet.

    A label's first characters can merge with the prompt's last ones ("Topic: " + "Sports" is "Topic", ":", " Sports"), so
    labels are tokenised in their place: what follows the tokens that the prompt has with any label or none.

    Attributes:
        ending: the tokens that all prompts end in behind the text.
        overlap: how many of them go to the label.
        labels: the tokens of each label.
    """

    ending: tuple[int, ...]
    overlap: int
    labels: tuple[tuple[int, ...], ...]


def joint_of(encode: Encode, label_texts: Sequence[str]) -> Joint:
    """Return how a prompt and its labels meet, found by five texts of different endings.

    Raises:
        ModelError: the labels are other tokens after other texts.
    """
    endings, joints = [], set()
    for probe in PROBES:
        found, behind = encode(probe, "")
        ids = tuple(found)
        wholes = [tuple(encode(probe, label)[0]) for label in label_texts]
        shared = min(common(ids, whole) for whole in wholes)
        joints.add((ids[shared:], tuple(whole[shared:] for whole in wholes)))
        endings.append(ids[behind:])
    left_out, labels = joints.pop()
    everywhere = min(common(endings[0][::-1], ending[::-1]) for ending in endings)
    if joints or len(left_out) > everywhere:
        raise ModelError(f"The labels are tokenised in another way after different texts. {NEXT_STEP}")
    return Joint(endings[0][len(endings[0]) - everywhere :], len(left_out), labels)


def refuse_equal_labels(
    concepts: Sequence[str], texts: Sequence[str], labels: Sequence[tuple[int, ...]], unknown_token: int | None
) -> None:
    """Refuse labels that no model could tell apart.

    Args:
        unknown_token: the token id that stands for words outside the vocabulary.

    Raises:
        ModelError: a label without tokens of its own, or two of the same tokens.
    """
    seen: dict[tuple[int, ...], str] = {}
    for concept, text, label in zip(concepts, texts, labels, strict=True):
        if not label or unknown_token in label:
            raise ModelError(
                f"The tokenizer has no tokens for label {text!r} of concept '{concept}'. Next: "
                "dataset.prompt.labels with words of its vocabulary."
            )
        if label in seen:
            raise ModelError(
                f"The labels of '{seen[label]}' and '{concept}' are the same tokens, so no model could tell them "
                "apart. Next: other words in dataset.prompt.labels."
            )
        seen[label] = concept


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many leading entries two sequences share.

    >>> common((1, 2, 3), (1, 2, 4, 5))
    2
    """
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
