"""The typed configuration of what is measured: intervals, operating points, and general ability on prose and questions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

QUESTION_EDIT_POSITIONS = ("record", "all")


@dataclass
class DocumentsConfig:
    """Prose for perplexity: a file or folder (`path`), one file of a wheel (`wheel` + `file`) or a hub id (`hub`).

    The first one set counts. `limit` documents are drawn with the seed; null takes all. A document is read in windows of
    `max_length` tokens, `max_windows` of them from its start; null reads the whole.
    """

    name: str = "documents"
    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    file: str | None = None
    read_options: dict[str, Any] = field(default_factory=dict)
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    text_column: str = "text"
    limit: int | None = 200
    max_length: int = 512
    max_windows: int | None = None
    seed: int = 0


@dataclass
class QuestionsConfig:
    """MMLU from a local folder of its format (`path`: dev and test files), one file of a wheel (`wheel` + `file`) or a hub
    id, first one set; `limit` questions per subject.

    `rename` and `choice_columns` (one column per choice) bring another layout into MMLU's columns. `shots` answered
    examples of the subject stand before the question, fewer where `max_length` tokens do not hold them.
    """

    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    file: str | None = None
    rename: dict[str, str] = field(default_factory=dict)
    choice_columns: list[str] | None = None
    hub: str | None = "cais/mmlu"
    subset: str | None = "all"
    split: str = "test"
    revision: str | None = None
    subjects: list[str] | None = None
    shots: int = 5
    limit: int | None = None
    max_length: int = 2048
    edit_positions: str = "all"
    seed: int = 0


@dataclass
class GeneralConfig:
    """What an edit costs beside the concepts: perplexity on prose, and MMLU. Off unless asked for.

    `top_fraction`, `tau` and `concepts` choose the cells that are measured, all where null; cells without the knob stay.
    """

    perplexity: bool = False
    mmlu: bool = False
    documents: DocumentsConfig = field(default_factory=DocumentsConfig)
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)
    top_fraction: list[float] | None = None
    tau: list[float] | None = None
    concepts: list[str] | None = None


@dataclass
class EvaluationConfig:
    """What statistics are fitted on, how measures get their intervals, and whether an operating point is chosen.

    `samples_below_last`: test samples of each concept that are swept where a cell replays blocks; null sweeps them all.
    """

    fit_on: str = "all"
    select: str = "none"
    diagnostics: bool = True
    bootstrap: int = 1000
    level: float = 0.95
    erasure_levels: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.6, 0.8])
    tokens_per_forward: int = 16384
    samples_below_last: int | None = None
    general: GeneralConfig = field(default_factory=GeneralConfig)
