"""The verbs that need a lens print what the lens gives, and refuse what is wrong in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from neuronlens.cli import run_command
from neuronlens.lens.lens import Lens
from tests.conftest import CONCEPTS, tiny_causal, tiny_model, tiny_tokenizer
from tests.lens.test_fit import fit

TEXT = "w3 w17 = w4"


def kept(model: torch.nn.Module, folder: Path) -> Path:
    """Save a model with its tokenizer, and a lens that was fitted on it beside it."""
    model.save_pretrained(folder / "model")  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(folder / "model")
    kind = AutoModelForCausalLM if "Causal" in type(model).__name__ else AutoModelForSequenceClassification
    own = kind.from_pretrained(folder / "model")
    lens = fit(own, layers=1, tau=3.0, edit="complement_mean", top_fraction=0.5, edit_positions="all")
    return lens.save(folder / "a.lens")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lens file of a tiny classifier in a folder."""
    model = tiny_model("bert")
    model.config.id2label = dict(enumerate(CONCEPTS))
    model.config.label2id = {name: number for number, name in enumerate(CONCEPTS)}
    return kept(model, tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lens file of a tiny language model in a folder."""
    return kept(tiny_causal("llama"), tmp_path_factory.mktemp("writer"))


def test_explain_prints_a_line_per_token(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "strip.html"
    assert run_command(["explain", str(classifier), TEXT, "concepts=drum, apple", "tau=1.0", f"output={page}"]) == 0
    wanted = Lens.load(classifier).explain(TEXT, concepts=["drum", "apple"], tau=1.0)
    assert capsys.readouterr().out == f"{wanted}\n\n{page}\n"
    assert wanted._repr_html_() in page.read_text()


def test_erase_shows_a_classifiers_answers_side_by_side(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["erase", str(classifier), "drum,apple", TEXT, "strength=1.0"]) == 0
    lens = Lens.load(classifier)
    model, batch = lens.loaded.model, tiny_tokenizer()(TEXT, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        plain = model(**inputs).logits.softmax(-1)[0]
        with lens.erase(model, "drum", "apple"):
            without = model(**inputs).logits.softmax(-1)[0]
    text, _, heading, *rows = capsys.readouterr().out.splitlines()
    assert text == f"text: {TEXT}"
    assert heading.split() == ["as", "it", "is", "without", "drum", "and", "apple"]
    printed = {row.split()[0]: row.split()[1:] for row in rows}
    assert printed == {name: [f"{plain[at]:.1%}", f"{without[at]:.1%}"] for at, name in enumerate(CONCEPTS)}
    assert [row.split()[0] for row in rows] == [CONCEPTS[at] for at in plain.argsort(descending=True)]
    assert any(before != after for before, after in printed.values())


def test_erase_shows_what_a_language_model_writes(writer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["erase", str(writer), "drum", "w3 w14 w9", "tokens=5"]) == 0
    lens, tokenizer = Lens.load(writer), tiny_tokenizer()
    model = lens.loaded.model
    ids = tokenizer("w3 w14 w9", return_tensors="pt")["input_ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    plain = tokenizer.decode(model.generate(ids, **options)[0, 3:])
    with lens.erase(model, "drum", positions="all"):
        without = tokenizer.decode(model.generate(ids, **options)[0, 3:])
    assert capsys.readouterr().out == f"prompt: w3 w14 w9\n\nas it is: {plain}\n\nwithout drum: {without}\n"
    assert plain != without


def test_a_loaded_language_model_reads_texts_as_the_one_in_hand(writer: Path) -> None:
    lens = Lens.load(writer)
    loaded = lens.explain("w3 w14 w9")
    lens.bind(lens.loaded.model, tiny_tokenizer())
    assert lens.explain("w3 w14 w9").tokens == loaded.tokens
    assert (lens.explain("w3 w14 w9").shares == loaded.shares).all()


def test_lens_writes_one_file(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["lens", str(classifier), "-o", str(tmp_path / "b.lens")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'b.lens'}  0.0 MB")
    assert torch.equal(
        *(next(iter(Lens.load(file).edit("drum").values())).upper for file in (classifier, tmp_path / "b.lens"))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain"], "explain takes RUN TEXT; RUN TEXT is missing. Next: neuronlens explain --help"),
        (["explain", "nowhere", "w1"], "There is no lens 'nowhere'"),
        (["explain", "LENS", "w1", "concepts=drun"], "Unknown concept 'drun'. Did you mean 'drum'"),
        (["explain", "LENS", "w1", "taw=1"], "Unknown option of explain 'taw'. Did you mean 'tau'"),
        (["explain", "LENS", "w1", "w2"], "Unknown option of explain 'w2'"),
        (["erase", "LENS", "drum"], "PROMPT is missing"),
        (["erase", "LENS", "drun", "w1"], "Unknown concept 'drun'. Did you mean 'drum'"),
        (["erase", "LENS", "drum", "w1", "tau=wide"], "tau is 'wide', expected a number"),
        (["erase", "LENS", "drum", "w1", "tokens=0"], "tokens is 0, expected 1 or more"),
        (["erase", "LENS", "drum", "w1", "layer=1.5"], "layer is '1.5', expected a whole number"),
        (["lens", "LENS"], "lens takes RUN -o FILE; -o FILE is missing"),
        (["lens", "LENS", "-p", "x"], "Unknown option of lens '-p'"),
    ],
    ids=" ".join,
)
def test_bad_words_are_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([str(classifier) if word == "LENS" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("neuronlens: ") == 1


@pytest.mark.parametrize("verb", ["explain", "erase", "lens"])
def test_each_verb_answers_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([verb, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"neuronlens {verb} RUN")
