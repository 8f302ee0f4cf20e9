"""Whole prompts for causal language models, as token ids that are cut nowhere but in the text, and their labels'."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema_data import PromptConfig, PromptExample
from neuronlens.errors import DataError, ModelError
from neuronlens.models.checkpoint import special_tokens
from neuronlens.models.prompts.frame import SLOT, frame, label_words
from neuronlens.models.prompts.joint import NEXT_STEP, joint_of, refuse_equal_labels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


class PromptBuilder:
    """Turns texts into whole prompts, and concepts into the tokens of their labels.

    A prompt is tokenised as one string, so it is what the model would read; where the label's first characters merge
    with the prompt's last ones, the tokens that would change are left to the label. Only the text is ever cut.

    Attributes:
        examples: shown before the text, uncut.
        head, tail: what stands before and after the text.
        label_texts: what follows a prompt, per concept, with its leading space where the prompt ends in none.
    """

    def __init__(
        self,
        config: PromptConfig,
        concepts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        examples: Sequence[PromptExample] = (),
    ) -> None:
        """Frame the prompt for a tokenizer.

        Args:
            concepts: in the order that labels are wanted in.
            tokenizer: a fast one (it must know where its tokens stand in the text).
            max_length: most tokens of a prompt and its label.
            examples: shown before the text, as `draw_examples` gives them.

        Raises:
            ConfigError: labels for unknown concepts, empty or equal ones.
            ModelError: a slow tokenizer, no chat template, or labels that it cannot tell apart.
            DataError: not even an empty text fits (TRAPS 21).
        """
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"Prompts need a fast tokenizer, which knows where its tokens stand; got {type(tokenizer).__name__}. "
                "Next: a model with a tokenizer.json."
            )
        self.config, self.tokenizer, self.max_length = config, tokenizer, max_length
        self.examples = tuple(examples)
        self.concepts = tuple(concepts)
        words = label_words(config, self.concepts)
        shown = [(self.cut(example.text, config.max_shot_tokens), words[example.label]) for example in examples]
        self.head, self.tail = frame(config, shown, tokenizer)
        space = "" if self.tail[-1:].isspace() else " "
        self.label_texts = tuple(space + words[concept] for concept in self.concepts)
        self._start, _ = special_tokens(tokenizer)
        self._joint = joint_of(self._placed, self.label_texts)
        refuse_equal_labels(self.concepts, self.label_texts, self._joint.labels, tokenizer.unk_token_id)
        self._limit = max_length - max(map(len, self._joint.labels))
        least = len(self._start) + len(self._encoded("")["input_ids"]) - self._joint.overlap
        if least > self._limit:
            raise DataError(
                f"The prompt without any text takes {least} tokens ({len(shown)} examples) and its longest label "
                f"{max_length - self._limit}, but model.max_length is {max_length}. Next: a larger model.max_length, fewer "
                "dataset.prompt.shots, or a smaller dataset.prompt.max_shot_tokens."
            )

    @property
    def text(self) -> str:
        """The whole prompt, with `{text}` where the text goes."""
        return self.head + SLOT + self.tail

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides what token ids `encode` and `labels` give, the tokenizer apart."""
        limits = {"max_length": self.max_length, "max_text_tokens": self.config.max_text_tokens}
        return fingerprint(
            {"prompt": [self.head, self.tail], "labels": self.label_texts, "tokens": self.labels(), **limits}
        )

    def labels(self) -> tuple[tuple[int, ...], ...]:
        """Return each concept's label as the token ids that follow a prompt of `encode`."""
        return self._joint.labels

    def first_tokens(self) -> tuple[int, ...]:
        """Return the first token id of each concept's label, for heads that read one token only.

        Raises:
            ModelError: two labels share their first token, so one probability would stand for both (TRAPS 16).
        """
        by_token: dict[int, list[str]] = {}
        for concept, label in zip(self.concepts, self.labels(), strict=True):
            by_token.setdefault(label[0], []).append(concept)
        shared = [
            f"{', '.join(map(repr, names))} (token {self.tokenizer.convert_ids_to_tokens(token)!r})"
            for token, names in by_token.items()
            if len(names) > 1
        ]
        if shared:
            raise ModelError(
                f"Labels share their first token: {'; '.join(shared)}. A head that reads that token alone could not tell "
                "them apart. Next: model.head=label_logprob with model.confidence=labels, or other words in "
                "dataset.prompt.labels."
            )
        return tuple(label[0] for label in self.labels())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text's whole prompt.

        A text is cut at its end, between two tokens, so that prompt and longest label fit in `max_length`; instruction,
        examples and what follows the text are never cut.

        Raises:
            ModelError: a prompt whose end is tokenised otherwise than the others', so that labels would not fit on.
        """
        found = [self._fitted(text) for text in texts]
        shortened = sum(cut for _, cut in found)
        if shortened:
            log.info("%d of %d texts were cut to fit the prompt into %d tokens", shortened, len(texts), self.max_length)
        return [ids for ids, _ in found]

    def cut(self, text: str, tokens: int | None) -> str:
        """Return the text's first `tokens` tokens as text, the whole where it has no more or `tokens` is None."""
        if tokens is None:
            return text
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(offsets) <= tokens else text[: offsets[tokens][0]].rstrip()

    def _fitted(self, text: str) -> tuple[list[int], bool]:
        """Return a text's prompt, and whether the text had to be cut for it."""
        kept = self.cut(text, min(self._limit, self.config.max_text_tokens or self._limit))
        while True:
            encoded = self._encoded(kept)
            ids = encoded["input_ids"]
            excess = len(self._start) + len(ids) - self._joint.overlap - self._limit
            if excess <= 0:
                break
            begin, end = len(self.head), len(self.head) + len(kept)
            inside = [first for first, last in encoded["offset_mapping"] if begin <= first < end and last > first]
            place = inside[-excess] - begin if excess <= len(inside) else 0
            # one character less at least: a token that straddles the joint is not inside, and cutting can split another
            kept = kept[: min(place, len(kept) - 1)].rstrip()
        prompt = ids[: len(ids) - self._joint.overlap]
        ending = self._joint.ending
        usual = bool(ending) and tuple(ids[-len(ending) :]) == ending
        if not usual and not self._labels_follow(prompt, kept):
            raise ModelError(f"The labels are tokenised in another way after '{kept[-40:]}'. {NEXT_STEP}")
        return [*self._start, *prompt], kept != text

    def _labels_follow(self, prompt: list[int], text: str) -> bool:
        """Return whether a prompt whose end merged with its text still goes on with every label's own tokens."""
        pairs = zip(self.label_texts, self.labels(), strict=True)
        return all(self._encoded(text, label)["input_ids"] == [*prompt, *tokens] for label, tokens in pairs)

    def _placed(self, text: str, label: str) -> tuple[list[int], int]:
        """Return the token ids of prompt and label, and the place of the first token that starts behind the text."""
        encoded = self._encoded(text, label)
        behind = len(self.head) + len(text)
        return encoded["input_ids"], sum(first < behind for first, _ in encoded["offset_mapping"])

    def _encoded(self, text: str, label: str = "") -> Mapping[str, Any]:
        prompt = self.head + text + self.tail + label
        found: Mapping[str, Any] = self.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
        return found
