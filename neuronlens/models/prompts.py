"""Prompts for causal models: instruction, few-shot examples, the text, and the place where the label follows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import Any

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema_data import DatasetConfig, PromptConfig, PromptExample
from neuronlens.data.concepts import draw_place
from neuronlens.errors import ConfigError, DataError, ModelError, nearest, unknown
from neuronlens.records import ConceptDataset

log = logging.getLogger(__name__)

SLOT = "{text}"
CHAT_DATE = "26 Jul 2024"
"""Chat templates that print the date print this one (their own default), so that no prompt changes overnight."""
_MARK = "<neuronlens-text>"
_PROBES = ("a", "Some words, 12 of them.", "What?", "Ω", '"quoted" (text)')
_JOINT_STEP = (
    "Labels could not be read off the same tokens for every text. Next: a dataset.prompt.template whose end is set off "
    "from the text, as in '{text}\\nLabel:'."
)


def draw_examples(data: ConceptDataset, config: DatasetConfig) -> tuple[PromptExample, ...]:
    """Return the few-shot examples of a prompt: those written out, else `prompt.shots` drawn from the train split.

    Drawn ones are dealt round by round, one of each concept, in the order of a hash of (prompt.seed, id) within concept
    and round: the same in every process, and no concept is always last. A number of shots that is no multiple of the
    number of concepts shows some concepts once more than others.

    Raises:
        DataError: too few examples in the train split, or a written one whose label is no concept.
    """
    prompt = config.prompt
    for example in prompt.examples:
        if example.label not in data.concepts:
            raise DataError(unknown("label in dataset.prompt.examples:", example.label, data.concepts))
    if prompt.examples or not prompt.shots:
        return tuple(prompt.examples)
    rows = data.rows("train")
    if prompt.shots > len(rows):
        raise DataError(
            f"dataset.prompt.shots is {prompt.shots} and dataset '{data.name}' has {len(rows)} train examples to draw "
            f"from (fit, select and test are never shown). Next: dataset.samples_per_concept.train="
            f"{-(-prompt.shots // len(data.concepts))}, or dataset.prompt.shots={len(rows)}."
        )
    place = {int(row): draw_place(prompt.seed, data.ids[row]) for row in rows}
    columns = [
        sorted((int(row) for row in rows if data.labels[row] == concept), key=place.__getitem__)
        for concept in range(len(data.concepts))
    ]
    drawn: list[int] = []
    for dealt in zip_longest(*columns):
        drawn += sorted((row for row in dealt if row is not None), key=place.__getitem__)
    return tuple(PromptExample(data.texts[row], data.concepts[int(data.labels[row])]) for row in drawn[: prompt.shots])


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
        tokenizer: Any,
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
        words = _words(config, self.concepts)
        shown = [(self.cut(example.text, config.max_shot_tokens), words[example.label]) for example in examples]
        frame = _chat_frame if config.chat else _plain_frame
        self.head, self.tail = frame(config, shown, tokenizer)
        space = "" if self.tail[-1:].isspace() else " "
        self.label_texts = tuple(space + words[concept] for concept in self.concepts)
        self._start = _start_of(tokenizer)
        self._ending, self._overlap, self._labels = self._joint()
        self._check_labels()
        self._limit = max_length - max(map(len, self._labels))
        least = len(self._start) + len(self._encoded("")["input_ids"]) - self._overlap
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
            {"prompt": [self.head, self.tail], "labels": self.label_texts, "tokens": self._labels, **limits}
        )

    def labels(self) -> tuple[tuple[int, ...], ...]:
        """Return each concept's label as the token ids that follow a prompt of `encode`."""
        return self._labels

    def first_tokens(self) -> tuple[int, ...]:
        """Return the first token id of each concept's label, for heads that read one token only.

        Raises:
            ModelError: two labels share their first token, so one probability would stand for both (TRAPS 16).
        """
        by_token: dict[int, list[str]] = {}
        for concept, label in zip(self.concepts, self._labels, strict=True):
            by_token.setdefault(label[0], []).append(concept)
        shared = [
            f"{', '.join(map(repr, names))} (token {self.tokenizer.convert_ids_to_tokens(token)!r})"
            for token, names in by_token.items()
            if len(names) > 1
        ]
        if shared:
            raise ModelError(
                f"Labels share their first token: {'; '.join(shared)}. Head label_token reads that token alone and "
                "could not tell them apart. Next: model.head=label_logprob, or other words in dataset.prompt.labels."
            )
        return tuple(label[0] for label in self._labels)

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
            excess = len(self._start) + len(ids) - self._overlap - self._limit
            if excess <= 0:
                break
            begin, end = len(self.head), len(self.head) + len(kept)
            inside = [first for first, last in encoded["offset_mapping"] if begin <= first < end and last > first]
            place = inside[-excess] - begin if excess <= len(inside) else 0
            # one character less at least: a token that straddles the joint is not inside, and cutting can split another
            kept = kept[: min(place, len(kept) - 1)].rstrip()
        prompt = ids[: len(ids) - self._overlap]
        usual = bool(self._ending) and tuple(ids[-len(self._ending) :]) == self._ending
        if not usual and not self._labels_follow(prompt, kept):
            raise ModelError(f"The labels are tokenised in another way after '{kept[-40:]}'. {_JOINT_STEP}")
        return [*self._start, *prompt], kept != text

    def _labels_follow(self, prompt: list[int], text: str) -> bool:
        """Return whether a prompt whose end merged with its text still goes on with every label's own tokens."""
        pairs = zip(self.label_texts, self._labels, strict=True)
        return all(self._encoded(text, label)["input_ids"] == [*prompt, *tokens] for label, tokens in pairs)

    def _encoded(self, text: str, label: str = "") -> Any:
        prompt = self.head + text + self.tail + label
        return self.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)

    def _joint(self) -> tuple[tuple[int, ...], int, tuple[tuple[int, ...], ...]]:
        """Return the tokens all prompts end in behind the text, how many of them go to the label, and each label's tokens.

        A label's first characters can merge with the prompt's last ones ("Topic: " + "Sports" is "Topic", ":", " Sports"),
        so labels are tokenised in their place: what follows the tokens that the prompt has with any label or none.
        """
        endings, joints = [], set()
        for probe in _PROBES:
            encoded = self._encoded(probe)
            ids = tuple(encoded["input_ids"])
            wholes = [tuple(self._encoded(probe, label)["input_ids"]) for label in self.label_texts]
            shared = min(_common(ids, whole) for whole in wholes)
            joints.add((ids[shared:], tuple(whole[shared:] for whole in wholes)))
            behind = len(self.head) + len(probe)
            endings.append(ids[sum(first < behind for first, _ in encoded["offset_mapping"]) :])
        left_out, labels = joints.pop()
        common = min(_common(endings[0][::-1], ending[::-1]) for ending in endings)
        if joints or len(left_out) > common:
            raise ModelError(f"The labels are tokenised in another way after different texts. {_JOINT_STEP}")
        return endings[0][len(endings[0]) - common :], len(left_out), labels

    def _check_labels(self) -> None:
        seen: dict[tuple[int, ...], str] = {}
        for concept, text, label in zip(self.concepts, self.label_texts, self._labels, strict=True):
            if not label or self.tokenizer.unk_token_id in label:
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


def _words(config: PromptConfig, concepts: Sequence[str]) -> dict[str, str]:
    """Return what is said for each concept: `labels` where it has an entry, else the concept's name."""
    strange = [name for name in config.labels if name not in concepts]
    for concept in concepts:
        if concept not in config.labels and nearest(concept, strange):
            raise ConfigError(
                f"dataset.prompt.labels has no entry for concept '{concept}', but one for '{nearest(concept, strange)}', "
                f"which is no concept. Concepts: {', '.join(concepts)}. Next: ++dataset.prompt.labels.<concept>=<words>."
            )
    words = {concept: config.labels.get(concept, concept).strip() for concept in concepts}
    for concept, word in words.items():
        if not word:
            raise ConfigError(f"dataset.prompt.labels has no words for '{concept}', expected at least one.")
    return words


def _plain_frame(config: PromptConfig, shown: Sequence[tuple[str, str]], tokenizer: Any) -> tuple[str, str]:
    """Return what stands before and after the text: instruction, solved examples and the open one."""
    before, _, after = config.template.partition(SLOT)
    space = "" if config.template[-1:].isspace() else " "
    parts = [config.instruction] if config.instruction else []
    parts += [before + text + after + space + word for text, word in shown]
    return config.separator.join([*parts, before]), after


def _chat_frame(config: PromptConfig, shown: Sequence[tuple[str, str]], tokenizer: Any) -> tuple[str, str]:
    """Return the same as turns of a conversation: examples are asked by the user and answered by the assistant."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "dataset.prompt.chat is on and the tokenizer has no chat template. Next: dataset.prompt.chat=false."
        )
    before, _, after = config.template.partition(SLOT)
    turns: list[Mapping[str, str]] = []
    for text, word in [*shown, (_MARK, "")]:
        opening = config.instruction + config.separator if config.instruction and not turns else ""
        turns.append({"role": "user", "content": opening + before + text + after})
        turns.append({"role": "assistant", "content": word})
    fixed = {
        "date_string": CHAT_DATE,
        "enable_thinking": False,
    }  # read by Llama's and Qwen's templates, ignored by others
    written = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True, **fixed)
    head, found, tail = written.partition(_MARK)
    if not found or _MARK in tail:
        raise ModelError(
            "The tokenizer's chat template does not hold the question once. Next: dataset.prompt.chat=false."
        )
    return head, tail


def _start_of(tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens that the tokenizer puts in front of every text, such as BOS; what it puts behind is left out."""
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return tuple(whole[:start])
    raise ModelError(f"The tokenizer turns 'a' into {whole} with its special tokens, which does not hold {bare}.")


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many leading entries two sequences share.

    >>> _common((1, 2, 3), (1, 2, 4, 5))
    2
    """
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
