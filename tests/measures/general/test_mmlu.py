"""MMLU against prompts written out here and plain forwards of a transformers model, edits hooked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from neuronlens.data.questions import Question, QuestionSet
from neuronlens.errors import DataError, ModelError
from neuronlens.hooks.resolver import blocks_of
from neuronlens.measures.estimates import of_mean, of_paired_shares
from neuronlens.measures.general.mmlu import (
    Answers,
    answer_questions,
    answer_rows,
    fitting_prompts,
    refuse_questions,
    tokenised,
)
from neuronlens.measures.intervals import Bootstrap
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Site
from tests.conftest import tiny_model, tiny_tokenizer
from tests.measures.general.language_models import CPU, WORDS, ByHand, hooked, loaded_lm, word_tokenizer

EXAMPLES = {
    "w1_w2": (
        Question("w3 w4", "w1_w2", ("w5", "w6", "w7", "w8"), 1),
        Question("w9", "w1_w2", ("w1", "w2", "w3", "w4"), 3),
    ),
    "w20": (
        Question("w21", "w20", ("w22", "w23", "w24", "w25"), 0),
        Question("w26", "w20", ("w1", "w2", "w3", "w5"), 2),
    ),
}
ASKED = (
    Question("w10 w11 w12", "w1_w2", ("w13", "w14", "w15 w16", "w17"), 2),
    Question("w30", "w20", ("w31", "w32", "w33", "w34"), 0),
    Question("w35 w36", "w20", ("w37", "w38", "w39", "w40"), 3),
    Question("w27 w28 w29", "w20", ("w30", "w31", "w32", "w1"), 1),
)
QUESTIONS = QuestionSet(ASKED, EXAMPLES, {}, "q")
FIRST = """The following are multiple choice questions (with answers) about w1 w2.

w3 w4
A. w5
B. w6
C. w7
D. w8
Answer: B

w9
A. w1
B. w2
C. w3
D. w4
Answer: D

w10 w11 w12
A. w13
B. w14
C. w15 w16
D. w17
Answer:"""
SECOND = """The following are multiple choice questions (with answers) about w20.

w21
A. w22
B. w23
C. w24
D. w25
Answer: A

w26
A. w1
B. w2
C. w3
D. w5
Answer: C

w30
A. w31
B. w32
C. w33
D. w34
Answer:"""
LETTER_IDS = [WORDS.index(letter) for letter in "ABCD"]


def answered(loaded: LoadedModel, builders: Any, cells: Any, **options: Any) -> Answers:
    """Return the package's answers."""
    chosen = {
        "shots": 2,
        "max_length": 98,
        "edit_positions": "all",
        "tokens_per_forward": 300,
        "trainer": CPU,
    } | options
    return answer_questions(loaded, options.pop("questions", QUESTIONS), builders, cells, **chosen)


def by_hand(model: Any, layer: int, text: str, change: Any, last_only: bool) -> np.ndarray:
    """Return the answers' log-probabilities after a plain forward over one text."""
    ids = word_tokenizer()(text)["input_ids"]

    def at_last(hidden: torch.Tensor) -> torch.Tensor:
        return torch.cat([hidden[:, :-1], change(hidden[:, -1:])], dim=1)

    handle = hooked(blocks_of(model)[layer], at_last if last_only and change is not None else change)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    handle.remove()
    whole = logits.double().softmax(-1)[LETTER_IDS]
    return np.log((whole / whole.sum()).numpy())


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("positions", ["all", "record"])
def test_answers_equal_plain_forwards_over_the_written_prompts(family: str, layer: int, positions: str) -> None:
    edits = ByHand(16)
    for side, batch in (("right", 1), ("left", 1), ("right", 8), ("left", 8)):
        loaded = loaded_lm(family, batch_size=batch, side=side)
        found = answered(loaded, {Site(layer): edits}, edits.cells, edit_positions=positions)
        assert (found.skipped, found.shots.tolist(), found.gold.tolist()) == (0, [2, 2, 2, 2], [2, 0, 3, 1])
        for number, text in enumerate((FIRST, SECOND)):
            plain = by_hand(loaded.model, layer, text, None, False)
            np.testing.assert_allclose(found.base[number], plain, atol=1e-5)
            for place, cell in enumerate(edits.cells):
                changed = by_hand(loaded.model, layer, text, edits.functions[cell], positions == "record")
                np.testing.assert_allclose(found.edited[place, number], changed, atol=1e-5)
                assert np.abs(changed - plain).max() > 1e-4, "the positive control: the edit does something"


def test_the_prompts_are_the_written_ones() -> None:
    tokenizer = word_tokenizer()
    prompts = fitting_prompts(tokenizer, QUESTIONS, shots=2, max_length=98)
    assert prompts[0].token_ids == tokenizer(FIRST)["input_ids"]
    assert prompts[1].token_ids == tokenizer(SECOND)["input_ids"]
    assert prompts[0].answers == LETTER_IDS
    zero = fitting_prompts(tokenizer, QUESTIONS, shots=0, max_length=98)
    heading, _, question = FIRST.partition("\n\n")
    bare = f"{heading}\n\n{question[question.index('w10') :]}"
    assert zero[0].token_ids == tokenizer(bare)["input_ids"]


def test_trap_21_a_long_prompt_loses_examples_and_never_the_question() -> None:
    tokenizer = word_tokenizer()
    whole = fitting_prompts(tokenizer, QUESTIONS, shots=2, max_length=98)
    lengths = {
        count: len(fitting_prompts(tokenizer, QUESTIONS, shots=count, max_length=98)[0].token_ids)
        for count in (0, 1, 2)
    }
    question = tokenizer(FIRST[FIRST.index("w10") :])["input_ids"]
    for limit in range(lengths[0], 99):
        prompt = fitting_prompts(tokenizer, QUESTIONS, shots=2, max_length=limit)[0]
        assert len(prompt.token_ids) <= limit
        assert prompt.shots == max(count for count, length in lengths.items() if length <= limit)
        assert prompt.token_ids[-len(question) :] == question, "the question and the answer's slot are whole"
        if prompt.shots == 1:
            assert prompt.token_ids[: -len(question)] == whole[0].token_ids[: len(prompt.token_ids) - len(question)]
    shortest = lengths[0] - 1
    cut = answered(loaded_lm("llama"), {}, [], max_length=shortest)
    assert cut.skipped == 1, "the longest question is left out and counted, not cut"
    assert cut.gold.tolist() == [0, 3, 1][-len(cut.gold) :]
    with pytest.raises(DataError, match="fits into 3 tokens"):
        answered(loaded_lm("llama"), {}, [], max_length=3)


def test_trap_16_answers_that_start_with_the_same_token_are_refused() -> None:
    with pytest.raises(ModelError, match="same token"):
        tokenised(tiny_tokenizer(), FIRST)  # knows no letter, so all four are [UNK]


def test_a_space_that_is_a_token_of_its_own_belongs_to_the_prompt() -> None:
    characters = {character: number for number, character in enumerate(["[UNK]", *sorted({*"▁Answer:BCD w1"})])}
    core = Tokenizer(models.BPE(characters, [], unk_token="[UNK]"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    prompt = tokenised(tokenizer, "Answer:")
    assert prompt.token_ids == [characters[character] for character in "Answer:▁"]
    assert prompt.answers == [characters[character] for character in "ABCD"]


def test_models_that_cannot_be_asked_are_refused() -> None:
    with pytest.raises(ModelError, match="no causal language model"):
        refuse_questions(loaded_lm("bert"), 98)
    with pytest.raises(ModelError, match="has no vocabulary head"):
        refuse_questions(LoadedModel("llama", tiny_model("llama"), word_tokenizer(), None, "last", 16, 8, "f"), 98)
    with pytest.raises(ModelError, match="expected at most 100"):
        refuse_questions(loaded_lm("llama"), 101)


def test_measures_of_a_case_worked_out_by_hand() -> None:
    base = np.log([[0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    edited = np.log([[[0.4, 0.6, 0.0001, 0.0001], [0.3, 0.4, 0.2, 0.1], [0.1, 0.2, 0.6, 0.1]]])
    gold = np.array([0, 1, 2])
    answers = Answers(("law", "art", "law"), gold, np.full(3, 5), base, edited, 0)
    ((*rows,),) = answer_rows(answers, Bootstrap(0.95, 200, 0))
    found = {(row["measure"], row["subject"]): row for row in rows}
    assert len(found) == 3 * 3

    def numbers(measure: str, subject: str | None) -> tuple[float, float, float, int]:
        row = found[f"mmlu_{measure}", subject]
        return row["base"], row["edited"], row["difference"], row["n"]

    assert numbers("accuracy", None) == pytest.approx((2 / 3, 2 / 3, 0, 3))
    assert numbers("accuracy", "law") == pytest.approx((1 / 2, 1 / 2, 0, 2))
    assert numbers("accuracy", "art") == pytest.approx((1, 1, 0, 1))
    assert numbers("confidence", None) == pytest.approx((1.5 / 3, 1.4 / 3, -0.1 / 3, 3))
    assert numbers("confidence", "art") == pytest.approx((0.5, 0.4, -0.1, 1))
    assert numbers("flip_rate", None) == pytest.approx((0, 2 / 3, 2 / 3, 3))
    assert numbers("flip_rate", "law") == pytest.approx((0, 1, 1, 2))
    row = found["mmlu_confidence", None]
    assert (row["base_low"], row["base_high"]) == pytest.approx(
        stats.t.interval(0.95, 2, loc=0.5, scale=stats.sem([0.7, 0.5, 0.3]))
    ), "symmetric values: Student's t"
    differences = of_mean([-0.3, -0.1, 0.3], 0.95)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((differences.low, differences.high))
    row = found["mmlu_accuracy", None]
    wilson = stats.binomtest(2, 3).proportion_ci(0.95, method="wilson")
    assert (row["edited_low"], row["edited_high"]) == (row["base_low"], row["base_high"]) == pytest.approx(wilson)
    change = of_paired_shares(1, 1, 3, 0.95)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((change.low, change.high))
    row = found["mmlu_flip_rate", "law"]
    assert (row["edited_low"], row["difference_low"]) == pytest.approx((2 / (2 + 1.959964**2),) * 2)
    assert np.isnan([row["base_low"], row["base_high"]]).all(), "0 by definition, not by measurement"
    assert np.isnan(found["mmlu_confidence", "art"]["edited_low"]), "one question shows no spread"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000), st.booleans())
def test_accuracy_lies_between_0_and_1_and_a_cell_that_does_nothing_differs_nowhere(
    questions: int, seed: int, resampled: bool
) -> None:
    generator = np.random.default_rng(seed)
    base = np.log(generator.dirichlet(np.ones(4), size=questions))
    other = np.log(generator.dirichlet(np.ones(4), size=questions))
    subjects = tuple(generator.choice(["a", "b"], size=questions))
    answers = Answers(
        subjects, generator.integers(0, 4, questions), np.zeros(questions), base, np.stack([base, other]), 0
    )
    same, changed = answer_rows(answers, Bootstrap(0.9, 20 * resampled, 0))
    assert all(row["difference"] == 0 for row in same)
    for row in same:
        ends = [row["difference_low"], row["difference_high"]]
        if not resampled or (row["measure"] == "mmlu_confidence" and row["n"] < 2):
            assert np.isnan(ends).all()
        elif row["measure"] == "mmlu_confidence":
            assert ends == [0, 0]
        else:
            assert ends[0] <= 0 < ends[1] < 1, "as many questions as there are show no more than that"
    for row in changed:
        assert -1e-9 <= row["edited"] <= 1 + 1e-9
        mean_of_one = row["measure"] == "mmlu_confidence" and row["n"] < 2
        assert np.isnan(row["edited_low"]) == (not resampled or mean_of_one)
        if resampled and not mean_of_one:
            assert row["edited_low"] <= row["edited"] <= row["edited_high"]
            if row["measure"] != "mmlu_confidence":
                assert -1e-9 <= row["edited_low"] <= row["edited_high"] <= 1 + 1e-9
    assert sum(row["n"] for row in changed if row["subject"] is not None) == 3 * questions
