"""Paper tables: what LaTeX, Markdown and CSV say agrees with the frame, whatever the text in it."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from neuronlens.errors import ConfigError, OutputError
from neuronlens.report.cells import rules, texts
from neuronlens.report.render.console import to_console
from neuronlens.report.render.csv import to_csv
from neuronlens.report.render.files import write_table
from neuronlens.report.render.latex import to_latex
from neuronlens.report.render.latex_text import escape
from neuronlens.report.render.markdown import to_markdown
from neuronlens.report.table import Column, Table

ENGINE = next((name for name in ("tectonic", "pdflatex") if shutil.which(name)), None)
NASTY = r"a_b % & # $ { } ~ ^ \ < > | ` [x] *y* \end{tabular} é ü ł τ ≥ ‘q’ 中文 🙂"


def main_table() -> Table:
    """The paper's main layout: two methods side by side, models and datasets printed once."""
    rows = [
        ("bert_base", "ag_news", "World", 0.941, 0.25, 0.91, 0.93, 0.89, 0.95),
        ("bert_base", "ag_news", "Sports", 0.98, -0.125, 0.88, 0.97, np.nan, np.nan),
        ("bert_base", "imdb", NASTY, 0.9, np.nan, 0.5, 0.5, 0.5, 0.5),
        ("gpt2", "imdb", "neg", 0.8, 0.5, 0.7, 0.6, 0.55, 0.65),
    ]
    names = ["model", "dataset", "concept", "base", "neuron", "neuron_c", "range_c", "range_c_low", "range_c_high"]
    return Table(
        name="main-table",
        title="Neuron mask & range mask",
        caption="Accuracy after masking 30 % of the neurons.",
        frame=pd.DataFrame(rows, columns=names),
        columns=(
            Column("model", "Model"),
            Column("dataset", "Data_set"),
            Column("concept", "Concept", wrap_cm=4),
            Column("base", "Acc", format=".1%"),
            Column("neuron", "Acc", group="Neuron mask", format="+.2f", best="low"),
            Column("neuron_c", "CAcc", group="Neuron mask", format=".3f", best="high", rivals="cacc"),
            Column("range_c", "CAcc", "Range mask", ".3f", interval=True, best="high", rivals="cacc"),
        ),
        row_groups=("model", "dataset"),
        notes=("95 % bootstrap intervals over concepts; a dash where nothing was measured.",),
    )


def one_column(values: list[object], heading: str = "X", **layout: str) -> Table:
    return Table("one", "One", "", pd.DataFrame({"x": values}), (Column("x", heading, **layout),))  # type: ignore[arg-type]


def split_row(line: str) -> list[str]:
    """Split a LaTeX row at the ampersands that separate cells, by hand: those not behind a backslash."""
    return re.split(r"(?<!\\)&", line)


def row_widths(tex: str) -> list[int]:
    body = tex.split(r"\toprule")[1].split(r"\bottomrule")[0]
    widths = []
    for line in body.splitlines():
        if line.endswith(r"\\"):
            spans = [int(number) for number in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            widths.append(len(split_row(line)) + sum(span - 1 for span in spans))
    return widths


def assert_balanced(tex: str) -> None:
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*[{}]", tex):
        depth += 1 if brace.endswith("{") else -1
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"(?<!\\)\\(begin|end)\{(\w+)\}", tex):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    dollars = re.findall(r"(?<!\\)\$", tex)
    assert len(dollars) % 2 == 0


def test_latex_has_the_papers_structure() -> None:
    tex = to_latex(main_table())
    assert_balanced(tex)
    assert row_widths(tex) == [7] * 6, "group headings, headings, four rows"
    assert [tex.count(rule) for rule in (r"\toprule", r"\bottomrule", r"\cmidrule")] == [1, 1, 2]
    assert r"\multicolumn{2}{c}{Neuron mask}" in tex
    assert r"\multicolumn{1}{c}{Range mask}" in tex
    assert r"\cmidrule(lr){5-6}\cmidrule(lr){7-7}" in tex
    assert r"\begin{tabular}{@{}llp{4cm}rrrr@{}}" in tex
    assert r"\caption{\textbf{Neuron mask \& range mask.} Accuracy after masking 30 \% of the neurons.}" in tex
    assert r"\label{tab:main-table}" in tex
    assert re.findall(r"\\usepackage\{(\w+)\}", tex) == ["booktabs"]
    assert tex.isascii()


def test_row_groups_are_printed_once_with_a_rule_between_models() -> None:
    lines = to_latex(main_table()).splitlines()
    first, last = lines.index(r"\midrule"), lines.index(r"\bottomrule")
    body = [[cell.strip() for cell in split_row(line)[:2]] for line in lines[first + 1 : last]]
    assert body == [["bert\\_base", "ag\\_news"], ["", ""], ["", "imdb"], [r"\midrule"], ["gpt2", "imdb"]]


def test_values_intervals_nulls_and_the_best_of_each_contest() -> None:
    rows = to_markdown(main_table()).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("| ")]
    assert cells[0] == [
        *("Model", "Data_set", "Concept", "Acc"),
        *("Neuron mask: Acc", "Neuron mask: CAcc", "Range mask: CAcc"),
    ]
    assert cells[1] == ["bert_base", "ag_news", "World", "94.1%", "+0.25", "0.910", "**0.930** [0.890, 0.950]"]
    assert cells[2] == ["", "", "Sports", "98.0%", "**-0.12**", "0.880", "**0.970**"], "best is low within ag_news"
    assert cells[3][-3:] == ["-", "0.500", "0.500 [0.500, 0.500]"], "a tie as printed marks nobody"
    assert cells[4] == ["gpt2", "imdb", "neg", "80.0%", "+0.50", "**0.700**", "0.600 [0.550, 0.650]"]
    tex = to_latex(main_table())
    assert r"\textbf{0.930} [0.890, 0.950]" in tex
    assert r"\textbf{$-$0.12}" in tex


def test_equal_as_printed_share_the_mark_and_a_lone_value_has_none() -> None:
    shared = to_markdown(one_column([0.5004, 0.5001, 0.1], format=".3f", best="high"))
    assert shared.count("**0.500**") == 2
    assert "**" not in to_markdown(one_column([0.5], format=".3f", best="high"))


def test_markdown_rows_have_one_width_and_text_stays_text() -> None:
    text = to_markdown(main_table())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {7 + 2}
    assert "| 5 &amp;lt; 6 & 7 |" in to_markdown(one_column(["5 &lt; 6 & 7"]))
    assert "<script>" not in to_markdown(one_column(["<script>alert(1)</script>"]))
    assert "| complement_mean |" in to_markdown(one_column(["complement_mean"])), "no noise where none is needed"
    assert r"\_lead\_" in to_markdown(one_column(["_lead_"]))


def test_csv_reads_back_as_the_frame() -> None:
    table = main_table()
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(to_csv(table)), float_precision="round_trip"), table.frame)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.lists(st.floats(width=64), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_text_and_number_keeps_every_format_whole(texts: list[str], numbers: list[float]) -> None:
    height = min(len(texts), len(numbers))
    frame = pd.DataFrame({"text": texts[:height], "number": numbers[:height]})
    columns = (
        Column("text", texts[0], wrap_cm=3),
        Column("number", "n", texts[0], ".3g", best="high"),
    )
    table = Table("any", texts[0], texts[-1], frame, columns, notes=tuple(texts))
    tex = to_latex(table)
    assert_balanced(tex)
    assert set(row_widths(tex)) == {2}
    assert len(row_widths(tex)) == height + 1 + bool(texts[0])
    assert tex.isascii()
    rows = [line for line in to_markdown(table).split("\n") if line.startswith("|")]
    assert len(rows) == height + 2
    assert {len(re.split(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {4}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_text_survives_the_csv(texts: list[str]) -> None:
    table = one_column([*texts])
    again = pd.read_csv(io.BytesIO(to_csv(table).encode()), keep_default_na=False, skip_blank_lines=False, dtype=str)
    assert again["x"].tolist() == texts


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("_%&#${}", r"\_\%\&\#\$\{\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("a<b>c|d", "a$<$b$>$c$|$d"),
        ("é Ż ç", r"\'{e} \.{Z} \c{c}"),
        ("ą ½ ﬁ", "a 1/2 fi"),
        ("λ Ω", r"$\lambda$ $\Omega$"),
        ("a\nb\tc", "a b c"),
        ("中", "U+4E2D"),
    ],
)
def test_escape(text: str, tex: str) -> None:
    assert escape(text) == tex


def test_write_gives_three_files(tmp_path: Path) -> None:
    table = main_table()
    paths = write_table(table, tmp_path / "new")
    assert [path.name for path in paths] == ["main-table.md", "main-table.csv", "main-table.tex"]
    assert [path.read_text() for path in paths] == [to_markdown(table), to_csv(table), to_latex(table)]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    with pytest.raises(OutputError, match="Cannot write"):
        write_table(table, paths[0] / "below_a_file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "file stem"),
        ({"columns": ()}, "shows no column"),
        ({"columns": (Column("y", "Y"),)}, "Unknown column of table 'one' 'y'"),
        ({"columns": (Column("x", "X", interval=True),)}, "'x_low'"),
        ({"row_groups": ("x", "y")}, "Row groups are the first columns"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    settings_ = {"name": "one", "title": "", "caption": "", "frame": pd.DataFrame({"x": [1]})}
    with pytest.raises(ConfigError, match=message):
        Table(**({**settings_, "columns": (Column("x", "X"),)} | change))  # type: ignore[arg-type]


@pytest.mark.skipif(ENGINE is None, reason="neither tectonic nor pdflatex is on PATH")
def test_latex_compiles(tmp_path: Path) -> None:
    table = main_table()
    every = Table(
        "every", NASTY, NASTY, pd.DataFrame({"x": [NASTY, "[first]", "*", "", "µ σ ² ª"]}), (Column("x", NASTY),)
    )
    compile_latex(to_latex(table) + to_latex(every), tmp_path)


def compile_latex(body: str, folder: Path) -> None:
    """Set a document of these floats with the engine found, and fail with its log where it stops."""
    document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n" + body + "\\end{document}\n"
    (folder / "page.tex").write_text(document)
    stop = ["-interaction=nonstopmode", "-halt-on-error"] if ENGINE == "pdflatex" else []
    done = subprocess.run([str(ENGINE), *stop, "page.tex"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "page.pdf").stat().st_size > 1000


def test_a_wide_or_long_table_is_set_to_fit_and_loses_no_row(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(12)]
    frame = pd.DataFrame({name: np.arange(80) / 7 for name in names})
    narrow = Table("narrow", "T", "C", frame[:3], (Column("c0", "value", "", ".3f"),))
    wide = Table("wide", "T", "C", frame, tuple(Column(name, f"{name} of many words", "", ".3f") for name in names))
    assert r"\small" in to_latex(narrow)
    assert "landscape" not in to_latex(narrow)
    assert r"\tiny" in to_latex(wide)
    assert "landscape" in to_latex(wide)
    text = next(path for path in write_table(wide, tmp_path) if path.suffix == ".tex").read_text()
    assert text.count(r"\begin{table}") == text.count(r"\bottomrule") == 3
    shown = [line.split("&")[0].strip() for line in text.splitlines() if line.count("&") == 11 and "words" not in line]
    assert shown == [f"{value:.3f}" for value in frame["c0"]]


def console_text(table: Table, **more: Any) -> list[str]:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(to_console(table, **more))
    return capture.get().splitlines()


def test_a_terminal_gets_the_same_text_with_groups_printed_once_and_rules_between_models() -> None:
    table = main_table()
    lines = console_text(table)
    assert lines[0].strip() == table.title
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    shown = [row for row in rows if any(re.search(r"%$", cell) for cell in row)]
    _, expected = texts(table)
    assert [[row[0], row[3]] for row in shown] == [[row[0], row[3]] for row in expected]
    assert sum(line.startswith("├") for line in lines) == 1
    assert rules(table) == [False, False, False, True]
    assert console_text(table, most=1, rest="main-table.md")[-1].strip() == "3 more in main-table.md"


def test_a_null_shows_the_text_that_stands_in_for_it_and_styles_change_no_text() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan, np.nan], "why": [None, "never reached", None], "ok": ["yes", "NO", "NO"]})
    columns = (Column("x", "X", format=".1f", otherwise="why"), Column("ok", "ok", align="right", styles={"NO": "red"}))
    table = Table("nulls", "T", "First.\n\nSecond *paragraph*.", frame, columns, ruled=("ok",))
    assert texts(table) == (["X", "ok"], [["1.0", "yes"], ["never reached", "NO"], ["-", "NO"]])
    assert rules(table) == [False, True, False]
    assert to_latex(table).count(r"\midrule") == 2
    assert "never reached & NO" in to_latex(table)
    text = to_markdown(table)
    assert "\n\nFirst.\n\nSecond \\*paragraph\\*.\n\n| X | ok |\n|---:|---:|\n" in text
    (styled,) = [cell for cell in to_console(table).columns[1].cells if str(cell) == "NO"][:1]
    assert styled.style == "red"


def test_brackets_are_escaped_where_they_could_be_a_link_only() -> None:
    assert "| difference [95 %] |" in to_markdown(one_column([1.0], heading="difference [95 %]"))
    for text in ("[a](http://b)", "[a][b]", "[a]: b", "![a]", "[^1]"):
        assert "[" not in to_markdown(one_column([text])).replace("\\[", ""), text
