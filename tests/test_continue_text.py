"""The example that writes with and without a concept, by the public API alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.continue_text import main
from neuronlens.hooks.contexts import edited
from neuronlens.lens.lens import Lens
from neuronlens.records import Site
from tests.conftest import tiny_model, tiny_tokenizer
from tests.lens.test_lens import causal_lens

PROMPT = "w3 w14 w15 w9 w2 w6"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lens's file and its model's folder: a tiny Llama that writes."""
    run, model_folder = tmp_path_factory.mktemp("run") / "made.lens", tmp_path_factory.mktemp("model")
    lens, model = causal_lens("llama", str(model_folder))
    model.save_pretrained(model_folder)
    tiny_tokenizer().save_pretrained(model_folder)
    lens.save(run)
    return run, model_folder


def _said(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines() if line)


@pytest.mark.parametrize("positions", ["all", "prompt", "generated"])
def test_it_prints_the_text_with_and_without_the_concept(
    folders: tuple[Path, Path], positions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = folders
    options = ["--gate", "neuron", "--edit", "complement_mean", "--tokens", "6", "--positions", positions]
    main([str(run), "drum", PROMPT, *options])
    said = _said(capsys.readouterr().out)
    model, tokenizer = causal_lens("llama")[1], tiny_tokenizer()
    inputs = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    edits = Lens.load(run).edit("drum", gate="neuron", edit="complement_mean")
    assert list(edits) == [Site(1)]
    plain = model.generate(inputs, max_new_tokens=6, do_sample=False)[0, inputs.shape[1] :]
    with edited(model, edits, positions=positions), torch.no_grad():
        without = model.generate(inputs, max_new_tokens=6, do_sample=False, use_cache=False)[0, inputs.shape[1] :]
    assert said == {"prompt": PROMPT, "as it is": tokenizer.decode(plain), "without drum": tokenizer.decode(without)}
    assert said["as it is"] != said["without drum"]


def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = folders
    tiny_model("llama").save_pretrained(tmp_path / "classifier")
    capsys.readouterr()  # transformers draws a bar
    for arguments, message in (
        ([str(run), "drun", PROMPT], "Unknown concept 'drun'. Did you mean 'drum'?"),
        ([str(run), "drum", PROMPT, "--tau", "-1"], "tau is -1.0"),
        (
            [str(run), "drum", PROMPT, "--model", str(tmp_path / "classifier")],
            "LlamaForSequenceClassification, which writes",
        ),
        ([str(tmp_path), "drum", PROMPT], "not the folder of a finished run"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        assert ended.value.code == 2
        assert message in said.err
        assert said.out == ""
        assert said.err.count("\n") == 1
