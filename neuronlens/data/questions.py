"""Multiple-choice questions in MMLU's format: four choices, one answer, a few answered examples per subject."""

from __future__ import annotations

import ast
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema_evaluation import QuestionsConfig
from neuronlens.data.columns import example_id
from neuronlens.data.concepts import draw_place
from neuronlens.data.files import read_table, split_files
from neuronlens.data.source import file_of_wheel, on_the_hub, place_of
from neuronlens.data.tables import hub_splits, reading
from neuronlens.errors import DataError, unknown
from neuronlens.storage.cache import Store

log = logging.getLogger(__name__)

LETTERS = "ABCD"
COLUMNS = ("question", "subject", "choices", "answer")
EXAMPLES_SPLIT = "dev"
OPTION = "evaluation.general.questions"


@dataclass(frozen=True)
class Question:
    """A question with four choices; `answer` is the right one's index."""

    text: str
    subject: str
    choices: tuple[str, ...]
    answer: int

    @property
    def id(self) -> str:
        """A hash of everything but the answer, so the same in every process."""
        return example_id("\n".join((self.subject, self.text, *self.choices)))


@dataclass(frozen=True)
class QuestionSet:
    """Questions, each once, and what stands before them in a prompt.

    Attributes:
        questions: sorted by subject, within one in the order of their draw.
        examples: answered examples per subject, in the source's order.
        dropped: why questions were left out -> how many.
        fingerprint: of everything that makes the prompts.
    """

    questions: tuple[Question, ...]
    examples: Mapping[str, tuple[Question, ...]]
    dropped: Mapping[str, int]
    fingerprint: str


def load_questions(config: QuestionsConfig, store: Store) -> QuestionSet:
    """Return `limit` questions per subject, drawn with the seed, and `shots` examples of each subject.

    Raises:
        DataError: no source, unreadable, a missing file or column, a row that is not in the format, an unknown subject, or
            a subject with fewer examples than `shots`.
    """
    splits = _splits(config, store)
    asked = list(_parsed(splits[config.split], config.split))
    shown = list(_parsed(splits[EXAMPLES_SPLIT], EXAMPLES_SPLIT)) if config.shots else []
    if not asked:
        raise DataError(f"The {config.split} split of '{place_of(config, 'MMLU', OPTION)}' holds no question.")
    subjects = _subjects(config, asked)
    examples = {subject: tuple(q for q in shown if q.subject == subject)[: config.shots] for subject in subjects}
    for subject, few in examples.items():
        if len(few) < config.shots:
            raise DataError(
                f"Subject '{subject}' has {len(few)} {EXAMPLES_SPLIT} examples, and {config.shots} are to be shown. "
                f"Next: {OPTION}.shots={len(few)}."
            )
    known = {example.id for few in examples.values() for example in few}
    dropped: Counter[str] = Counter()
    chosen: list[Question] = []
    for subject in subjects:
        own: dict[str, Question] = {}
        for question in (q for q in asked if q.subject == subject):
            if question.id in own:
                dropped["the same question again"] += 1
            elif question.id in known:
                dropped["also an example"] += 1
            else:
                own[question.id] = question
        chosen += [own[key] for key in sorted(own, key=lambda key: draw_place(config.seed, key))[: config.limit]]
    for reason, count in dropped.items():
        log.warning("%d questions left out: %s", count, reason)
    key = fingerprint([[(q.id, q.answer) for q in group] for group in (chosen, *examples.values())])
    return QuestionSet(tuple(chosen), examples, dict(dropped), key)


def _subjects(config: QuestionsConfig, asked: Iterable[Question]) -> list[str]:
    present = sorted({question.subject for question in asked})
    for subject in config.subjects or []:
        if subject not in present:
            raise DataError(unknown("subject", subject, present, f"{OPTION}.subjects=null for all."))
    return sorted(set(config.subjects)) if config.subjects else present


def _splits(config: QuestionsConfig, store: Store) -> Mapping[str, Any]:
    where = place_of(config, "MMLU", OPTION)
    wanted = [config.split] + [EXAMPLES_SPLIT] * bool(config.shots)
    splits: Mapping[str, Any]
    with reading(where, hub=on_the_hub(config), option=f"{OPTION}.path"):
        if config.path:
            files, _ = split_files(Path(config.path), wanted, f"{OPTION}.path", {})  # columns may differ
            splits = {split: read_table(path, {}).to_dict("records") for split, path in files.items()}
        elif config.wheel:
            splits = {config.split: read_table(file_of_wheel(config, OPTION, store), {}).to_dict("records")}
        else:
            splits = hub_splits(where, config.subset, config.revision, store)
    for split in wanted:
        if split not in splits:
            hint = f" Next: {OPTION}.shots=0 to ask without examples." if split == EXAMPLES_SPLIT else ""
            raise DataError(f"'{where}' holds no {split} file.{hint}")
    found = {split: [row for row in splits[split] if not _repeats_header(row)] for split in wanted}
    for split, rows in found.items():
        if len(rows) < len(splits[split]):
            log.warning("%d rows of '%s' repeat the header and are no questions", len(splits[split]) - len(rows), where)
    return {split: [_in_its_columns(row, config) for row in rows] for split, rows in found.items()}


def _repeats_header(row: Mapping[str, Any]) -> bool:
    """Return whether most values are their column's name, as where tables with headers were put one below the other."""
    return sum(value == column for column, value in row.items()) * 2 > len(row)


def _in_its_columns(row: Mapping[str, Any], config: QuestionsConfig) -> dict[str, Any]:
    named = {config.rename.get(column, column): value for column, value in row.items()}
    if config.choice_columns is not None and all(column in named for column in config.choice_columns):
        named["choices"] = [named.pop(column) for column in config.choice_columns]
    return named


def _parsed(rows: Iterable[Mapping[str, Any]], split: str) -> Iterable[Question]:
    """Give a split's rows as questions; a message counts rows from 0."""
    for number, row in enumerate(rows):
        for column in COLUMNS:
            if column not in row:
                raise DataError(unknown("column", column, map(str, row), f"{', '.join(COLUMNS)} in the {split} file."))
        place = f"Row {number} of the {split} file"
        choices = parse_choices(row["choices"])
        if choices is None or len(choices) != len(LETTERS):
            raise DataError(
                f"{place} has the choices {str(row['choices'])[:80]!r}, expected a list of {len(LETTERS)}, in a csv written "
                "as JSON."
            )
        answer = parse_answer(row["answer"])
        if answer is None:
            raise DataError(f"{place} has the answer {row['answer']!r}, expected 0 to 3 or A to D.")
        if not str(row["question"] or "").strip():
            raise DataError(f"{place} has no question.")
        yield Question(str(row["question"]).strip(), str(row["subject"]).strip(), choices, answer)


def parse_choices(value: Any) -> tuple[str, ...] | None:
    """Return the choices of a list or of its text, JSON or Python; None where it is neither.

    >>> parse_choices('["3", "4"]'), parse_choices("['3', 4]"), parse_choices("3 or 4")
    (('3', '4'), ('3', '4'), None)
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            try:
                value = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return None
    return tuple(str(entry).strip() for entry in value) if isinstance(value, (list, tuple)) else None


def parse_answer(value: Any) -> int | None:
    """Return the index of an answer given as a number from 0 or as a letter; None where it is neither.

    >>> parse_answer(2), parse_answer("c"), parse_answer("0"), parse_answer(4), parse_answer("E")
    (2, 2, 0, None, None)
    """
    text = str(value).strip().upper()
    if len(text) == 1 and text in LETTERS:
        return LETTERS.index(text)
    if text.endswith(".0"):  # a column of whole numbers with a gap is read as floats
        text = text[:-2]
    return int(text) if len(text) == 1 and text in "0123" else None
