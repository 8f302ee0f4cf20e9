"""The command line: verbs, exit codes, one message for bad input, and a multirun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from neuronlens import __version__, doctor
from neuronlens.cli import run_command
from neuronlens.config.groups import group_names, option_names
from neuronlens.config.schema import Config
from neuronlens.errors import ModelError


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("neuronlens: ")]
    assert len(lines) == 1, error
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runn"], "Did you mean 'run'"),
        (["run", "dataset.pth=1"], "Did you mean 'dataset.path'"),
        (["model=minilmm"], "Did you mean 'minilm'"),
        (["run", "sweep.tau=[-1]"], "tau is -1"),
        (["run", "sweep.top_fraction=[1.5]"], "in [0, 1]"),
        (["report"], "takes run folders"),
        (["report", "/nowhere/at/all"], "not the folder of a finished run"),
        (["doctor", "range=gausian"], "Did you mean 'gaussian'"),
    ],
)
def test_bad_arguments_give_exit_code_2_and_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    assert said in _said(capsys)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("layers.select=9", "past the end"),
        ("dataset.path=/nowhere", "is not there"),
        ("dataset.label_column=lable", "Did you mean 'label'"),
        ("dataset.min_samples=50", "Concept 'apple'"),
        ("model.path=/nowhere", "holds no config.json"),
    ],
)
def test_bad_input_gives_exit_code_2_and_one_sentence(
    override: str, said: str, tiny_overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["dataset.samples_per_concept.fit=60"] if "min_samples" in override else []
    assert run_command(["run", *tiny_overrides, *extra, override]) == 2
    assert said in _said(capsys)


def test_an_unwritable_output_folder_is_told_before_any_work(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run_command(["run", *tiny_overrides, f"paths.output_dir={tmp_path}/file/outputs"]) == 2
    assert "file" in _said(capsys)
    assert run_command(["run", *tiny_overrides, f"paths.cache_dir={tmp_path}/file/cache"]) == 2
    assert "paths.cache_dir" in _said(capsys)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NEURONLENS_DEBUG", "1")
    assert run_command(["run", "sweep.tau=[-1]"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, tiny_overrides: list[str]) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neuronlens.pipeline.preparation.load_concepts", interrupted)
    assert run_command(["run", *tiny_overrides]) == 130


def test_a_fault_is_1_with_its_traceback(tiny_overrides: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, neuronlens.pipeline.preparation as p, neuronlens.cli as c\n"
        "def broken(*a): raise RuntimeError('a bug of ours')\n"
        "p.load_concepts = broken; sys.argv = ['neuronlens', 'run', *sys.argv[1:]]; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *tiny_overrides], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a bug of ours" in done.stderr
    assert "Traceback" in done.stderr


def test_run_and_report_end_to_end(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, full = list(sys.argv), os.environ.get("HYDRA_FULL_ERROR")
    overrides = [*tiny_overrides, "trainer.progress=true", f"paths.output_dir={tmp_path}/outputs"]
    assert run_command(["run", *overrides]) == 0
    assert sys.argv == argv
    assert os.environ.get("HYDRA_FULL_ERROR") == full
    told = capsys.readouterr().out
    assert "Unedited model: accuracy" in told
    assert "What it costs the other concepts" in told
    assert "under range masks" in told
    (folder,) = (tmp_path / "outputs" / "tiny_bert-made_up").iterdir()
    assert (folder / ".hydra" / "overrides.yaml").is_file()
    assert "sweep" in (folder / "run.log").read_text()
    before = (folder / "table.md").read_text()
    for path in (folder / "table.md", folder / "figures" / "tradeoff.png"):
        path.unlink()
    assert run_command(["report", str(folder)]) == 0
    assert (folder / "table.md").read_text() == before
    assert (folder / "figures" / "tradeoff.png").stat().st_size > 0


def test_a_multirun_is_a_run_folder_per_job(tiny_overrides: list[str], tmp_path: Path) -> None:
    overrides = [*tiny_overrides, f"paths.output_dir={tmp_path}/outputs", "layers.select=0,1", "-m"]
    assert run_command(["run", *overrides]) == 0
    tables = [pd.read_parquet(path) for path in sorted((tmp_path / "outputs" / "multirun").rglob("results.parquet"))]
    assert [sorted(table["layer"].dropna().unique()) for table in tables] == [[0], [1]]
    (multirun,) = (tmp_path / "outputs" / "multirun").iterdir()
    gathered = pd.read_parquet(multirun / "gathered.parquet")
    assert gathered.groupby("job")["layer"].max().to_dict() == {0: 0, 1: 1}
    pd.testing.assert_frame_equal(gathered.drop(columns=["job", "overrides"]), pd.concat(tables, ignore_index=True))


def test_a_failed_job_is_a_row_with_its_reason_and_the_others_have_theirs(
    tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from neuronlens import pipeline

    load = pipeline.prepare

    def broken(config: Config, *others: object) -> object:
        if config.seed == 7:
            raise RuntimeError("a fault\nof two lines")
        if config.layers.select == 1:
            raise ModelError("Not this layer.")
        return load(config, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "prepare", broken)
    own = ["dataset.seed=0", "model.finetune.seed=0", "sweep.top_fraction=[0.5]", "quiet=true"]
    words = [*tiny_overrides, *own, f"hydra.sweep.dir={tmp_path}/several", "layers.select=0,1", "seed=1,7", "-m"]
    assert run_command(["run", *words]) == 1
    said = capsys.readouterr()
    assert "Job 2 (layers.select=1 seed=1): " in said.err
    assert "Not this layer." in said.err
    assert said.out == ""
    folder = tmp_path / "several"
    jobs = pd.read_csv(folder / "gather.csv").set_index("job")
    assert jobs["layers.select"].to_dict() == {0: 0, 1: 0, 2: 1, 3: 1}
    assert jobs["outcome"][0] == "done"
    assert jobs["outcome"][1] == jobs["outcome"][3] == "failed: RuntimeError: a fault of two lines"
    assert "Not this layer." in jobs["outcome"][2]
    assert set(pd.read_csv(folder / "gathered.csv")["job"]) == {0}
    page = (folder / "gather.html").read_text()
    assert "a fault of two lines" in page
    assert 'href="0/report.html"' in page
    shutil.rmtree(folder / "0")
    assert run_command(["gather", str(folder), f"output={tmp_path}/elsewhere"]) == 1
    assert pd.read_csv(tmp_path / "elsewhere" / "gather.csv")["outcome"][0] == "failed: It was not started."


def test_what_cannot_be_gathered_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        ([str(tmp_path)], "is not the folder of a multirun: multirun.yaml: No such file or directory"),
        ([], "gather takes the folder of one multirun; got 0"),
        ([str(tmp_path), "--outptu=x"], "Unknown option of gather"),
    ):
        assert run_command(["gather", *arguments]) == 2
        assert told in _said(capsys)


def test_help_names_every_verb_and_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    told = capsys.readouterr().out
    for word in ("run", "doctor", "report", "gaussian", "newsgroups20", "minilm"):
        assert word in told


@pytest.mark.parametrize("group", group_names())
def test_help_lists_every_group_with_its_options(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [group])
    assert option_names(group)[0] in line


@pytest.mark.parametrize("verb", ["run", "doctor", "report", "compare", "gather"])
@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_every_verb_answers_help(verb: str, asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([verb, asked]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"neuronlens {verb} ")
    assert "Hydra is an open-source" not in told


def test_help_beside_overrides_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["model=gpt2", "--help"]) == 0
    assert "Groups and their options" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["help", "sweep.tau"], ["--help", "sweep.tau"], ["run", "--help", "sweep.tau"]])
def test_help_says_what_a_key_means(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(arguments) == 0
    told = capsys.readouterr().out
    for said in ("sweep.tau", "Values of range.tau.", "A list of numbers, or null, default null", "a number >= 0"):
        assert said in told


def test_help_on_an_unknown_key_is_2_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["help", "datset.prompt"]) == 2
    assert "Did you mean 'dataset.prompt'" in _said(capsys)


def test_version_prints_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"neuronlens {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["help", "range"], ["run", "-h"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from neuronlens.cli import run_command; assert run_command({arguments}) == 0;"
        "heavy = {'hydra', 'omegaconf', 'numpy', 'pandas', 'torch', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_several_problems_are_one_message_of_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "sweep.tau=[-1]", "seed=-1", "range.tau=hello"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "neuronlens: seed is -1, expected at least 0 and at most 4,294,967,295."
    assert len(lines) == 3


def test_doctor_passes_on_a_sound_model_and_fails_on_a_broken_one(
    tiny_overrides: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(["doctor", *tiny_overrides, "layers=all"]) == 0
    told = capsys.readouterr().out
    for check in (
        "hook fires",
        "identity replay",
        "reaches the logits",
        "strength 0",
        "batch size",
        "padding",
        "weights",
    ):
        assert check in told
    assert "0 failed" in told
    own = doctor.replaying
    monkeypatch.setattr(doctor, "replaying", lambda model, layer, inputs, states: own(model, layer, inputs, states * 0))
    assert run_command(["doctor", *tiny_overrides]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_the_manifest_tells_what_a_result_rests_on(tiny_overrides: list[str], tmp_path: Path) -> None:
    assert run_command(["run", *tiny_overrides, "seed=0", f"paths.output_dir={tmp_path}/outputs"]) == 0
    (folder,) = (tmp_path / "outputs" / "tiny_bert-made_up").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert manifest["config"]["sweep"]["tau"] == [1.0, 2.5]
    assert manifest["versions"]["torch"]


def test_a_reader_that_has_seen_enough_ends_the_command_without_a_word() -> None:
    code = "import sys; from neuronlens.cli import main; sys.argv[1:] = ['help', 'dataset']; main()"
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 141
