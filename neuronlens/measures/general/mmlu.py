"""MMLU of a causal language model by the log-probability of the offered answers, unedited and under every cell's edit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronlens.config.schema_run import TrainerConfig
from neuronlens.data.questions import LETTERS, OPTION, Question, QuestionSet
from neuronlens.errors import DataError, ModelError
from neuronlens.hooks.takes import is_causal
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.general.reading import (
    EditedReader,
    ReadBatches,
    Reads,
    Row,
    check_length,
    log_probability_among,
    read_all,
    vocabulary_size,
)
from neuronlens.measures.intervals import Bootstrap
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Cell, FloatArray, IntArray, Site
from neuronlens.sweep.evaluator import BuildsEdits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """A model's answer to each question, unedited and under every cell's edit.

    Attributes:
        subjects: of each question.
        gold: index of the right choice `[question]`.
        shots: examples in each question's prompt `[question]`.
        base: log-probability of each choice among those offered `[question, choice]`.
        edited: the same under each cell's edit `[cell, question, choice]`.
        skipped: questions that are too long even without examples.
    """

    subjects: tuple[str, ...]
    gold: IntArray
    shots: IntArray
    base: FloatArray
    edited: FloatArray
    skipped: int


def answer_questions(
    loaded: LoadedModel,
    questions: QuestionSet,
    builders: Mapping[Site, BuildsEdits],
    cells: Sequence[Cell],
    *,
    shots: int,
    max_length: int,
    edit_positions: str,
    tokens_per_forward: int,
    trainer: TrainerConfig,
) -> Answers:
    """Return the offered answers' log-probabilities under no edit and under each cell's.

    Args:
        builders: by site, in the order of the model; a cell edits all of them at once.
        shots: answered examples of its subject before each question, fewer where `max_length` tokens do not hold them;
            the question itself is never cut (TRAPS 21).
        edit_positions: `all` of the prompt, or `record`, its last token.
        tokens_per_forward: rows x positions that one forward may hold.

    Raises:
        ModelError: no causal vocabulary head, too few positions, or answers that the tokenizer does not tell apart.
        DataError: no question fits.
    """
    refuse_questions(loaded, max_length)
    prompts = fitting_prompts(loaded.tokenizer, questions, shots=shots, max_length=max_length)
    if not prompts:
        raise DataError(
            f"None of the {len(questions.questions)} questions fits into {max_length} tokens. Next: a larger "
            f"{OPTION}.max_length."
        )
    kept = sorted(prompts)
    rows = []
    for owner, number in enumerate(kept):
        prompt = prompts[number]
        rows.append(Row(prompt.token_ids, [len(prompt.token_ids) - 1], [prompt.answers], owner))
    found = np.zeros((1 + len(cells), len(kept), len(LETTERS)), dtype=np.float32)

    def keep(reads: Reads, scores: FloatArray) -> None:
        found[:, reads.owner] = scores

    reader = EditedReader(
        loaded.model,
        builders,
        cells,
        log_probability_among,
        positions="last" if edit_positions == "record" else loaded.without_sink("all"),
        tokens_per_forward=tokens_per_forward,
        keep=keep,
    )
    read_all(reader, ReadBatches(rows, loaded, tokens_per_forward), trainer, "MMLU")
    asked = [questions.questions[number] for number in kept]
    return Answers(
        subjects=tuple(question.subject for question in asked),
        gold=np.asarray([question.answer for question in asked], dtype=np.int64),
        shots=np.asarray([prompts[number].shots for number in kept], dtype=np.int64),
        base=found[0],
        edited=found[1:],
        skipped=len(questions.questions) - len(kept),
    )


def refuse_questions(loaded: LoadedModel, max_length: int) -> None:
    """Refuse a model that does not predict the next token.

    Raises:
        ModelError: no causal vocabulary head, too few positions, or answers that the tokenizer does not tell apart.
    """
    if not is_causal(loaded.model):
        raise ModelError(
            f"MMLU asks for the next token, and {type(loaded.model).__name__} is no causal language model. Next: "
            "evaluation.general.mmlu=false."
        )
    vocabulary_size(loaded.model)
    check_length(loaded.model, max_length, f"{OPTION}.max_length")
    tokenised(loaded.tokenizer, "Answer:")


@dataclass(frozen=True)
class Prompt:
    """A question's tokens up to where the answer starts, the token that each answer starts with, and its examples."""

    token_ids: list[int]
    answers: list[int]
    shots: int


def fitting_prompts(tokenizer: Any, questions: QuestionSet, *, shots: int, max_length: int) -> dict[int, Prompt]:
    """Return prompts by question index, each with as many examples as fit; a question that does not fit has none.

    Raises:
        ModelError: two answers start with the same token.
    """
    found: dict[int, Prompt] = {}
    for number, question in enumerate(questions.questions):
        examples = questions.examples.get(question.subject, ())[:shots]
        for count in range(len(examples), -1, -1):
            prompt = tokenised(tokenizer, prompt_text(question, examples[:count]), count)
            if len(prompt.token_ids) <= max_length:
                found[number] = prompt
                break
    cut = sum(prompt.shots < shots for prompt in found.values())
    if cut or len(found) < len(questions.questions):
        log.warning(
            "MMLU, %d questions: %d have fewer than %d examples and %d are left out, to fit %d tokens",
            *(len(questions.questions), cut, shots, len(questions.questions) - len(found), max_length),
        )
    return found


def prompt_text(question: Question, examples: Sequence[Question]) -> str:
    """Return the standard prompt (Hendrycks et al. 2021), up to where the answer follows.

    >>> print(prompt_text(Question("1 + 1?", "high_school_mathematics", ("1", "2", "3", "4"), 1), ()))
    The following are multiple choice questions (with answers) about high school mathematics.
    <BLANKLINE>
    1 + 1?
    A. 1
    B. 2
    C. 3
    D. 4
    Answer:
    """
    heading = "The following are multiple choice questions (with answers) about "
    shown = "".join(f"{_asked(example)} {LETTERS[example.answer]}\n\n" for example in examples)
    return f"{heading}{question.subject.replace('_', ' ')}.\n\n{shown}{_asked(question)}"


def _asked(question: Question) -> str:
    choices = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    return f"{question.text}{choices}\nAnswer:"


def tokenised(tokenizer: Any, text: str, shots: int = 0) -> Prompt:
    """Return a text's tokens as they stand before an answer, found by where the four answered texts part.

    A tokenizer may join the space to the letter or let it stand alone, so the answers' tokens are read off whole texts.

    Raises:
        ModelError: two answers start with the same token.
    """
    encoded = tokenizer([f"{text} {letter}" for letter in LETTERS], verbose=False)["input_ids"]
    shared = 0
    for tokens in zip(*encoded, strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    answers = [ids[shared] for ids in encoded if len(ids) > shared]
    if len(set(answers)) < len(LETTERS):
        raise ModelError(
            f"The tokenizer starts two of the answers {', '.join(LETTERS)} with the same token ({answers}), so their "
            "probabilities would be one number. Expected four different ones."
        )
    return Prompt(list(encoded[0][:shared]), answers, shots)


def answer_rows(answers: Answers, bootstrap: Bootstrap) -> list[list[dict[str, Any]]]:
    """Return, per cell, a row per measure of every subject and of all questions (subject None), with intervals.

    `mmlu_accuracy`, `mmlu_confidence` (probability of the right answer among those offered, over all questions) and
    `mmlu_flip_rate` (share of questions answered otherwise than unedited, where base is 0 by definition and has no
    interval). Shares have Wilson's interval, the difference of two accuracies Tango's, paired by question; a mean
    confidence and its difference have that of a mean.
    """
    subjects = np.asarray(answers.subjects)
    groups: list[tuple[str | None, IntArray]] = [(None, np.arange(len(subjects)))]
    groups += [(str(subject), np.flatnonzero(subjects == subject)) for subject in sorted(set(answers.subjects))]
    base = _outcomes(answers.base[None], answers)
    edited = _outcomes(answers.edited, answers)
    rows: list[list[dict[str, Any]]] = [[] for _ in answers.edited]
    for subject, members in groups:
        for measure, values in edited.items():
            before, after = base[measure][:, members], values[:, members]  # [1 or cell, question]
            found = _ESTIMATES[measure](before, after, bootstrap)
            columns = {key: part for name, one in found.items() for key, part in one.columns(name).items()}
            columns = {key: np.broadcast_to(part, len(after)) for key, part in columns.items()}
            for cell, own in enumerate(rows):
                row: dict[str, Any] = {"measure": f"mmlu_{measure}", "subject": subject, "n": len(members)}
                own.append(row | {key: float(part[cell]) for key, part in columns.items()})
    return rows


def _accuracy(before: FloatArray, after: FloatArray, bootstrap: Bootstrap) -> dict[str, Estimate]:
    n = after.shape[1]
    gained, lost = ((after > before).sum(axis=1), (after < before).sum(axis=1))
    rise = bootstrap.of_paired_shares(gained, lost, n)
    return {
        "edited": bootstrap.of_share(after.sum(axis=1), n),
        "difference": rise,
        "base": bootstrap.of_share(before.sum(axis=1), n),
    }


def _confidence(before: FloatArray, after: FloatArray, bootstrap: Bootstrap) -> dict[str, Estimate]:
    ends = {"edited": after, "difference": after - before, "base": before}
    return {name: bootstrap.of_mean(values) for name, values in ends.items()}


def _flip_rate(before: FloatArray, after: FloatArray, bootstrap: Bootstrap) -> dict[str, Estimate]:
    flipped = bootstrap.of_share(after.sum(axis=1), after.shape[1])
    return {"edited": flipped, "difference": flipped, "base": Estimate.bare(before.mean(axis=1))}


_ESTIMATES = {"accuracy": _accuracy, "confidence": _confidence, "flip_rate": _flip_rate}


def _outcomes(log_probabilities: FloatArray, answers: Answers) -> dict[str, FloatArray]:
    """Return each measure's value per question `[cell, question]` float64."""
    answered = log_probabilities.argmax(-1)
    gold = np.take_along_axis(log_probabilities, answers.gold[None, :, None], axis=-1)[..., 0]
    return {
        "accuracy": (answered == answers.gold).astype(np.float64),
        "confidence": np.exp(gold.astype(np.float64)),
        "flip_rate": (answered != answers.base.argmax(-1)).astype(np.float64),
    }
