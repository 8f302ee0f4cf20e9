"""What stands around the text of a prompt: instruction, solved examples and the place where the label follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from neuronlens.config.schema_data import PromptConfig
from neuronlens.errors import ConfigError, ModelError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLOT = "{text}"
CHAT_DATE = "26 Jul 2024"
"""Chat templates that print the date print this one (their own default), so that no prompt changes overnight."""
MARK = "<neuronlens-text>"
"""Stands for the text while a chat template is rendered."""


def label_words(prompt: PromptConfig, concepts: Sequence[str]) -> dict[str, str]:
    """Return the words that stand for each concept: its entry of `labels` where it has one, else its name.

    Raises:
        ConfigError: an entry for something that looks like a concept and is none, or an entry without words.
    """
    strange = [name for name in prompt.labels if name not in concepts]
    for concept in concepts:
        if concept not in prompt.labels and nearest(concept, strange):
            raise ConfigError(
                f"dataset.prompt.labels has no entry for concept '{concept}', but one for '{nearest(concept, strange)}', "
                f"which is no concept. Concepts: {', '.join(concepts)}. Next: ++dataset.prompt.labels.<concept>=<words>."
            )
    words = {concept: prompt.labels.get(concept, concept).strip() for concept in concepts}
    for concept, word in words.items():
        if not word:
            raise ConfigError(f"dataset.prompt.labels has no words for '{concept}', expected at least one.")
    return words


def frame(
    prompt: PromptConfig, shown: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str]:
    """Return what stands before and after the text.

    Args:
        shown: text and label of each solved example.
        tokenizer: has the chat template, where `chat` is on.

    Raises:
        ModelError: `chat` without a chat template, or with one that does not hold the question once.
    """
    return _chat_frame(prompt, shown, tokenizer) if prompt.chat else _plain_frame(prompt, shown)


def _plain_frame(prompt: PromptConfig, shown: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return it as plain text: instruction, solved examples and the open one."""
    before, _, after = prompt.template.partition(SLOT)
    space = "" if prompt.template[-1:].isspace() else " "
    parts = [prompt.instruction] if prompt.instruction else []
    parts += [before + text + after + space + word for text, word in shown]
    return prompt.separator.join([*parts, before]), after


def _chat_frame(
    prompt: PromptConfig, shown: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str]:
    """Return it as turns of a conversation: the user asks for each example's label and the assistant answers."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "dataset.prompt.chat is on and the tokenizer has no chat template. Next: dataset.prompt.chat=false."
        )
    before, _, after = prompt.template.partition(SLOT)
    turns: list[Mapping[str, str]] = []
    for text, word in [*shown, (MARK, "")]:
        opening = prompt.instruction + prompt.separator if prompt.instruction and not turns else ""
        turns.append({"role": "user", "content": opening + before + text + after})
        turns.append({"role": "assistant", "content": word})
    # Llama's and Qwen's templates read these two; the others ignore them.
    fixed = {"date_string": CHAT_DATE, "enable_thinking": False}
    written = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True, **fixed)
    head, found, tail = written.partition(MARK)
    if not found or MARK in tail:
        raise ModelError(
            "The tokenizer's chat template does not hold the question once. Next: dataset.prompt.chat=false."
        )
    return head, tail
