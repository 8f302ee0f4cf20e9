"""Whole prompts, labels in their place, and texts that are cut without the question."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from neuronlens.config.compose import compose
from neuronlens.config.groups import config_dir, option_names
from neuronlens.config.schema_data import DatasetConfig, PromptConfig, PromptExample, SamplesConfig
from neuronlens.data.concepts import load_concepts
from neuronlens.errors import ConfigError, DataError, ModelError
from neuronlens.models.prompts.builder import PromptBuilder
from neuronlens.models.prompts.examples import draw_examples
from neuronlens.records import ConceptDataset
from neuronlens.storage.cache import Store
from tests.conftest import CONCEPTS, tiny_tokenizer

PROSE = [
    "Topic: Sports Topic: Business Topic: Science Topic: World news, for sale. What is it about? It is about sports.",
    "The team won the game on Sunday and the market fell on Monday, said the company's report of 2004.",
    "Text: a word\nTopic: Sports\n\nText: another word\nTopic: World\n\nLabel: 12 (twelve) labels",
] * 4
NAMES = ("Sports", "Business", "Science")
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if date_string is defined %}[{{ date_string }}]{% endif %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@cache
def byte_bpe() -> PreTrainedTokenizerFast:
    """Return a tokenizer like GPT-2's: bytes, merges inside pre-tokens, a leading space inside the token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<end>", "<|end|>", "<|user|>", "<|assistant|>"]
    core.train_from_iterator(
        PROSE, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=special)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    tokenizer.chat_template = CHAT
    return tokenizer


@cache
def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Return a tokenizer like Llama 2's: spaces as pieces, no split before merging, BOS in front and EOS behind."""
    core = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    core.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    special = ["<unk>", "<s>", "</s>"]
    core.train_from_iterator(PROSE, trainers.BpeTrainer(vocab_size=300, special_tokens=special, max_token_length=12))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


BPES = {"byte": byte_bpe, "sentencepiece": sentencepiece_like}


def _builder(tokenizer: Any, max_length: int = 60, **options: Any) -> PromptBuilder:
    examples = options.pop("shown", ())
    names = options.pop("concepts", NAMES)
    config = PromptConfig(**{"template": "Text: {text}\nTopic:", **options})
    return PromptBuilder(config, names, tokenizer, max_length, examples)


def _words_builder(max_length: int = 12, **options: Any) -> PromptBuilder:
    words = {
        "labels": dict(zip(CONCEPTS, ("w50", "w51", "w52 w53", "w54"), strict=True)),
        "template": "w1 {text} w2 w3",
    }
    return _builder(tiny_tokenizer(), max_length, concepts=CONCEPTS, **{**words, **options})


# ---- the whole prompt -------------------------------------------------------------------------------------------------


def test_the_prompt_is_instruction_examples_and_the_open_question_in_order() -> None:
    shown = [PromptExample("a game", "Sports"), PromptExample("a market", "Business")]
    builder = _builder(
        byte_bpe(), 200, instruction="Say the topic.", separator="\n##\n", labels={"Business": "money"}, shown=shown
    )
    expected = (
        "Say the topic.\n##\nText: a game\nTopic: Sports\n##\nText: a market\nTopic: money\n##\nText: {text}\nTopic:"
    )
    assert builder.text == expected
    assert byte_bpe().decode(builder.encode(["one word"])[0]) == expected.replace("{text}", "one word")
    assert builder.label_texts == (" Sports", " money", " Science")


def test_braces_in_an_example_are_not_the_place_of_the_text() -> None:
    builder = _builder(byte_bpe(), 200, shown=[PromptExample("a {text} b", "Sports")])
    assert byte_bpe().decode(builder.encode(["XY"])[0]) == "Text: a {text} b\nTopic: Sports\n\nText: XY\nTopic:"


@pytest.mark.parametrize("kind", BPES)
@pytest.mark.parametrize("template", ["Text: {text}\nTopic:", "Text: {text}\nTopic: ", "{text}\nTopic:\n", "{text} ->"])
def test_prompt_and_label_tokens_are_the_tokens_of_prompt_and_label_as_one_string(kind: str, template: str) -> None:
    tokenizer = BPES[kind]()
    builder = _builder(tokenizer, 200, template=template, shown=[PromptExample("the game", "Sports")])
    texts = ["The team won on Sunday.", "it", "12 labels (twelve)", "“odd” — marks"]
    for text, ids in zip(texts, builder.encode(texts), strict=True):
        for label, tokens in zip(builder.label_texts, builder.labels(), strict=True):
            whole = tokenizer(builder.text.replace("{text}", text) + label)["input_ids"]
            assert [*ids, *tokens] == (whole[:-1] if kind == "sentencepiece" else whole)


def test_a_label_that_merges_with_the_prompts_last_space_takes_it_along() -> None:
    tokenizer = byte_bpe()
    builder = _builder(tokenizer, template="Text: {text}\nTopic: ")
    assert [tokenizer.convert_ids_to_tokens(label[0]) for label in builder.labels()] == [
        "ĠSports",
        "ĠBusiness",
        "ĠScience",
    ]
    assert tokenizer.decode(builder.encode(["it"])[0]) == "Text: it\nTopic:"


@pytest.mark.parametrize("template", ["{text}\nTopic:", "{text} Topic: "])
def test_the_start_token_comes_once_and_the_end_token_never(template: str) -> None:
    tokenizer = sentencepiece_like()
    ids = _builder(tokenizer, template=template).encode(["it is"])[0]
    assert (ids[0], ids.count(1), ids.count(2)) == (1, 1, 0)


def test_whole_words_need_no_space() -> None:
    builder = _words_builder()
    known = tiny_tokenizer().get_vocab()
    assert builder.labels() == tuple(
        tuple(known[w] for w in label.split()) for label in ("w50", "w51", "w52 w53", "w54")
    )
    assert tiny_tokenizer().convert_ids_to_tokens(builder.encode(["w7 w8"])[0]) == ["w1", "w7", "w8", "w2", "w3"]


# ---- cutting ----------------------------------------------------------------------------------------------------------


def _kept(builder: PromptBuilder, tokenizer: Any, text: str, ids: list[int]) -> str:
    """Return the part of the text that a prompt holds, found by trying every one, longest first."""
    label, tokens = builder.label_texts[0], builder.labels()[0]
    for length in range(len(text), -1, -1):
        whole = tokenizer(builder.text.replace("{text}", text[:length]) + label)["input_ids"]
        if [token for token in whole if token != 2] == [*ids, *tokens]:
            return text[:length]
    raise AssertionError(f"no beginning of {text!r} gives these tokens")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=120), st.sampled_from(sorted(BPES)), st.integers(28, 70))
def test_trap_21_head_and_tail_survive_every_text(text: str, kind: str, max_length: int) -> None:
    tokenizer = BPES[kind]()
    builder = _builder(tokenizer, max_length, instruction="Name it.", template="Text: {text}\nTopic:")
    text = text.strip()
    ids = builder.encode([text])[0]
    assert len(ids) + max(map(len, builder.labels())) <= max_length
    kept = _kept(builder, tokenizer, text, ids)
    assert text.startswith(kept)
    wholes = [tokenizer(builder.text.replace("{text}", text) + label)["input_ids"] for label in builder.label_texts]
    fits = max(map(len, wholes)) - (kind == "sentencepiece") <= max_length
    assert not fits or kept == text


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["the", "game", "Sunday", "market", "2004", "sports,"]), min_size=45, max_size=60))
def test_trap_21_no_more_of_a_text_is_cut_than_has_to_be(words: list[str]) -> None:
    builder = _builder(byte_bpe(), 40)
    room = 40 - max(map(len, builder.labels()))
    assert room - 1 <= len(builder.encode([" ".join(words)])[0]) <= room


def test_trap_21_the_words_in_front_and_behind_are_there_and_the_text_fills_the_rest() -> None:
    text = " ".join(f"w{10 + number}" for number in range(30))
    for max_length in (6, 9, 12):
        tokens = tiny_tokenizer().convert_ids_to_tokens(_words_builder(max_length).encode([text])[0])
        room = max_length - 3 - 2  # three words around the text, two for the longest label
        assert tokens == ["w1", *(f"w{10 + number}" for number in range(room)), "w2", "w3"]


def test_trap_21_a_prompt_that_leaves_no_room_is_told_with_figures() -> None:
    with pytest.raises(
        DataError, match=r"takes 3 tokens \(0 examples\) and its longest label 2, but .* is 4"
    ) as caught:
        _words_builder(4)
    assert "\n" not in str(caught.value)
    assert _words_builder(5).encode(["w9 w9"]) == _words_builder(5).encode(["w8"])


def test_texts_and_examples_have_limits_of_their_own() -> None:
    shown = [PromptExample("w20 w21 w22", "apple")]
    builder = _words_builder(40, shown=shown, max_text_tokens=2, max_shot_tokens=1, separator=" ")
    tokens = tiny_tokenizer().convert_ids_to_tokens(builder.encode(["w7 w8 w9"])[0])
    assert " ".join(tokens) == "w1 w20 w2 w3 w50 w1 w7 w8 w2 w3"


# ---- labels -----------------------------------------------------------------------------------------------------------


def test_trap_16_labels_that_share_a_first_token_are_refused_by_name() -> None:
    labels = dict(zip(CONCEPTS, ("w50 w51", "w52", "w50 w53", "w54"), strict=True))
    builder = _words_builder(20, labels=labels)
    with pytest.raises(ModelError, match=r"'apple', 'cloud' \(token 'w50'\)"):
        builder.first_tokens()
    assert len(set(builder.labels())) == 4  # whole labels differ, so label_logprob may use them
    known = tiny_tokenizer().get_vocab()
    assert _words_builder(20).first_tokens() == tuple(known[word] for word in ("w50", "w51", "w52", "w54"))


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        ({"aple": "w50"}, ConfigError, "no entry for concept 'apple', but one for 'aple'"),
        ({"apple": " "}, ConfigError, "no words for 'apple'"),
        ({"apple": "w50", "bridge": "w50"}, ModelError, "'apple' and 'bridge' are the same tokens"),
        ({"apple": "w50", "bridge": "unheard"}, ModelError, "no tokens for label ' unheard' of concept 'bridge'"),
    ],
)
def test_bad_labels_are_told(labels: dict[str, str], error: type[Exception], said: str) -> None:
    full = {"cloud": "w52", "drum": "w53"} | labels
    with pytest.raises(error, match=said):
        _words_builder(20, labels=full)


def test_labels_of_concepts_that_are_left_out_do_no_harm() -> None:
    builder = _builder(byte_bpe(), labels={"Sports": "games", "Weather": "rain"})
    assert builder.label_texts == (" games", " Business", " Science")


def test_a_label_whose_tokens_depend_on_the_text_is_refused() -> None:
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", "a", " ", "y", "n", "a ", " y", " n"])}
    core = Tokenizer(models.BPE(vocabulary, [("a", " "), (" ", "y"), (" ", "n")], unk_token="[UNK]"))
    glued = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    assert [glued.tokenize(text) for text in ("a y", "? y")] == [["a ", "y"], ["[UNK]", " y"]]
    with pytest.raises(ModelError, match="set off from the text"):
        _builder(glued, template="{text} ", concepts=("y", "n"))


def test_a_text_that_merges_with_the_words_behind_it_is_no_fault_while_the_labels_stay() -> None:
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", "d", ":", " y", " n", "y", "n", " ", "d:"])}
    core = Tokenizer(models.BPE(vocabulary, [(" ", "y"), (" ", "n"), ("d", ":")], unk_token="[UNK]"))
    joined = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    builder = _builder(joined, template="{text}:", concepts=("y", "n"))
    assert joined.convert_ids_to_tokens(builder.encode(["d"])[0]) == ["d:"]
    assert builder.labels() == ((3,), (4,))


def test_a_label_that_merges_with_one_text_alone_is_refused_at_that_text() -> None:
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", "d", " y", " n", "y", "n", " ", "d y"])}
    core = Tokenizer(models.BPE(vocabulary, [(" ", "y"), (" ", "n"), ("d", " y")], unk_token="[UNK]"))
    joined = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]")
    builder = _builder(joined, template="{text}", concepts=("y", "n"))
    with pytest.raises(ModelError, match="in another way after 'd'"):
        builder.encode(["n", "d"])


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="got Slow"):
        _builder(Slow())


# ---- chat -------------------------------------------------------------------------------------------------------------


def test_a_chat_shows_examples_as_turns_and_ends_where_the_assistant_speaks() -> None:
    shown = [PromptExample("a game", "Sports")]
    options = {"instruction": "Be short.", "template": "{text}\nTopic?", "separator": " ", "chat": True}
    builder = _builder(byte_bpe(), 200, shown=shown, **options)
    assert builder.text == (
        "<|user|>\nBe short. a game\nTopic?<|end|>\n<|assistant|>\nSports<|end|>\n"
        "<|user|>\n{text}\nTopic?<|end|>\n[26 Jul 2024]<|assistant|>\n"
    )
    assert builder.label_texts == NAMES  # the line ends in a newline, so no space
    long = "the market fell " * 80
    cut = byte_bpe().decode(builder.encode([long])[0])
    assert cut.startswith("<|user|>\nBe short. a game")
    assert cut.endswith("\nTopic?<|end|>\n[26 Jul 2024]<|assistant|>\n")


def test_a_chat_needs_a_chat_template() -> None:
    with pytest.raises(ModelError, match="no chat template"):
        _builder(sentencepiece_like(), chat=True)


# ---- fingerprints -----------------------------------------------------------------------------------------------------


def test_trap_23_every_prompt_option_that_matters_changes_the_fingerprint() -> None:
    base: dict[str, Any] = {"shown": [PromptExample("a game and a market", "Sports")], "instruction": "Say it."}
    changes: list[dict[str, Any]] = [
        {"template": "Text: {text}\nKind:"},
        {"instruction": "Say it!"},
        {"separator": "\n"},
        {"shown": [PromptExample("a game and a market", "Science")]},
        {"shown": []},
        {"labels": {"Sports": "games"}},
        {"chat": True},
        {"max_text_tokens": 9},
        {"max_shot_tokens": 2},
        {"concepts": NAMES[::-1]},
        {"max_length": 90},
    ]
    prints = [_builder(byte_bpe(), **{"max_length": 100, **base, **change}).fingerprint for change in [{}, *changes]]
    assert len(set(prints)) == len(prints)
    assert _builder(byte_bpe(), 100, **base).fingerprint == prints[0]


# ---- drawing ----------------------------------------------------------------------------------------------------------


def _data(folder: Path, tmp_path: Path, train: int = 12) -> ConceptDataset:
    config = DatasetConfig(path=str(folder), samples_per_concept=SamplesConfig(train=train, fit=15, select=5, test=10))
    return load_concepts(config, Store(tmp_path))


def _drawing(shots: int, **options: Any) -> PromptConfig:
    return PromptConfig(shots=shots, **options)


def test_examples_are_drawn_from_train_alone_one_of_each_concept_in_turn(dataset_folder: Path, tmp_path: Path) -> None:
    data = _data(dataset_folder, tmp_path)
    drawn = draw_examples(data, _drawing(48))
    assert {example.text for example in drawn} == {data.texts[row] for row in data.rows("train")}
    for start in range(0, 48, 4):
        assert {example.label for example in drawn[start : start + 4]} == set(CONCEPTS)
    orders = {tuple(example.label for example in drawn[start : start + 4]) for start in range(0, 48, 4)}
    assert len(orders) > 1, "no concept is always last"
    labels = {data.texts[row]: data.concepts[data.labels[row]] for row in data.rows("train")}
    assert all(labels[example.text] == example.label for example in drawn)
    assert draw_examples(data, _drawing(6)) == drawn[:6]
    assert draw_examples(data, _drawing(6, seed=1)) != drawn[:6]
    assert draw_examples(data, _drawing(0)) == ()


def test_trap_20_the_same_examples_in_every_process(dataset_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from neuronlens.data.concepts import load_concepts;"
        "from neuronlens.models.prompts.examples import draw_examples; from neuronlens.config.schema_data import *;"
        "from neuronlens.storage.cache import Store;"
        "c = DatasetConfig(path=sys.argv[1], prompt=PromptConfig(shots=7));"
        "print(draw_examples(load_concepts(c, Store(Path(sys.argv[2]))), c.prompt))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, str(dataset_folder), str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin", "HOME": str(tmp_path)},
            cwd=Path(__file__).resolve().parents[2],
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_without_train_examples_there_is_nothing_to_show(dataset_folder: Path, tmp_path: Path) -> None:
    data = _data(dataset_folder, tmp_path, train=0)
    with pytest.raises(DataError, match=r"shots is 4 and .* has 0 train examples .*train=1"):
        draw_examples(data, _drawing(4))
    written = [PromptExample("w1 w2", "cloud")]
    assert draw_examples(data, _drawing(0, examples=written)) == tuple(written)
    with pytest.raises(DataError, match="Did you mean 'cloud'"):
        draw_examples(data, _drawing(0, examples=[PromptExample("w1", "clud")]))


# ---- the shipped prompts ----------------------------------------------------------------------------------------------

PROMPTED = sorted(set(option_names("dataset")) - {"local"})


@pytest.mark.parametrize("name", PROMPTED)
def test_the_shipped_prompts_show_no_concept_more_often_than_another(name: str) -> None:
    prompt = compose([f"dataset={name}"]).dataset.prompt
    assert prompt.template != PromptConfig().template, "a prompt of its own"
    assert not prompt.labels or prompt.shots % len(set(prompt.labels.values())) in (0, prompt.shots)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.prompt.template=nothing", "one {text} in it"),
        ("dataset.prompt.shots=-1", "at least 0"),
        ("dataset.prompt={shots:2,examples:[{text:a,label:b}]}", "0 beside written examples"),
        ("dataset.prompt.max_text_tokens=0", "at least 1 token"),
        ("dataset.prompt.max_shot_tokens=0", "at least 1 token"),
        ("dataset.prompt.shot=1", "Did you mean 'dataset.prompt.shots'"),
    ],
)
def test_bad_prompt_options_are_told(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        compose([override])


def test_trap_22_legacy_dataset_ids_are_not_used() -> None:
    hub = {path.stem: OmegaConf.load(path).get("hub") for path in sorted((config_dir() / "dataset").glob("*.yaml"))}
    named = {name: identifier for name, identifier in hub.items() if identifier}
    assert {named[name] for name in ("ag_news", "emotions", "dbpedia_14", "imdb", "sst2")} == {
        "fancyzhx/ag_news",
        "dair-ai/emotion",
        "fancyzhx/dbpedia_14",
        "stanfordnlp/imdb",
        "stanfordnlp/sst2",
    }
    for name, identifier in named.items():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", identifier), f"{name}: '{identifier}' has no namespace"


def test_examples_are_replaced_not_changed() -> None:
    example = PromptExample("w20 w21 w22", "apple")
    before = replace(example)
    _words_builder(40, shown=[example], max_shot_tokens=1)
    assert example == before
