"""The documents against the code: links, files, identifiers, settings, names, columns, layout, and the tests of each trap."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

from tests.test_structure import HOMES, PACKAGE, RANKS, ROOT

DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
OURS = [*DOCS, ROOT / "CONTRIBUTING.md"]
FOLDERS = ("neuronlens", "conf", "experiments", "benchmarks", "docs", "tests", ".ci")
VAGUE = r"\b(told|spoken|said|brings so far)\b"


def _title(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _spans(text: str) -> list[str]:
    """Return what stands in backticks outside fenced blocks, on one line each."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def _read(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def _section(number: int) -> str:
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", _read("SPEC.md"), flags=re.S | re.M)
    assert found, f"SPEC has no section {number}"
    return found[0]


def _rows(text: str, heading: str) -> list[list[str]]:
    """Return the rows of the table whose first heading this is, cell by cell."""
    found = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[-| ]+\|\n((?:\|.*\n?)+)", text, flags=re.M)
    assert found, f"no table under '{heading}'"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def _names(text: str, heading: str) -> list[str]:
    """Return the names in backticks in a table's first column."""
    return [name for row in _rows(text, heading) for name in _spans(row[0])]


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_title)
def test_every_link_leads_to_a_file_and_a_heading_of_this_repository(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{target} leads nowhere"
        assert ROOT in (path, *path.parents), f"{target} leads out of the repository"
        assert not anchor or anchor in _anchors(path), f"{target}: no such heading"


def test_the_index_links_every_page() -> None:
    index = _read("README.md")
    for page in DOCS:
        if page != ROOT / "docs" / "README.md":
            assert f"({page.relative_to(ROOT / 'docs')})" in index, f"docs/README.md leaves out {page.name}"


@pytest.mark.parametrize("page", OURS, ids=_title)
def test_no_page_points_out_of_the_repository(page: Path) -> None:
    assert not re.search(r"\.\./shared|/work/|METHODS\.md|STYLE\.md", page.read_text())


@pytest.mark.parametrize("page", OURS, ids=_title)
def test_every_file_and_identifier_exists(page: Path) -> None:
    for span in _spans(page.read_text()):
        if re.search(r"[<>*{}]|\.\.\.", span):  # a placeholder
            continue
        if re.fullmatch(r"[\w./-]+", span) and (
            (span.split("/")[0] in FOLDERS and "/" in span) or span.endswith(".py")
        ):
            here = [ROOT / span, PACKAGE / span]
            assert any(path.exists() for path in here), f"no file {span}"
        elif re.fullmatch(r"neuronlens(\.\w+)+", span):
            assert _exists(span), f"no {span}"


def _exists(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return name == "neuronlens.conf"  # conf/ under the name that it has in a wheel


@pytest.mark.parametrize("page", OURS, ids=_title)
def test_every_setting_is_one_of_the_config(page: Path) -> None:
    from neuronlens.config.groups import option_names

    _settings_hold(page)
    for group, option in re.findall(r"`(model|dataset|saliency|range|preset|layers)=(\w+)`", page.read_text()):
        assert option in option_names(group), f"no option {group}={option}"


def _settings_hold(page: Path) -> None:
    from neuronlens.config.help import every_entry
    from neuronlens.config.schema import Config

    hints, known = get_type_hints(Config), {entry.key for _, entry in every_entry()}
    for span in _spans(page.read_text()):
        group, _, rest = span.partition(".")
        key = re.match(r"[\w.]*", rest)
        typed = hints.get(group)
        if not key or not key[0] or "..." in span or typed is None:
            continue
        if dataclasses.is_dataclass(typed):
            assert _is_field(typed, key[0].split(".")), f"no setting {span}"
        elif group != "parts":  # a group of parts: the parameters of all its options
            assert f"{group}.{key[0]}" in known, f"no setting {span} of any option of {group}"


def _is_field(typed: object, path: list[str]) -> bool:
    for place, name in enumerate(path):
        if not dataclasses.is_dataclass(typed):
            return place > 0  # below a free mapping
        hints = get_type_hints(typed)
        if name not in hints:
            return False
        typed = hints[name]
    return True


@pytest.mark.parametrize("page", OURS, ids=_title)
def test_the_words_that_the_glossary_rules_out_are_not_used(page: Path) -> None:
    if page.name != "glossary.md":
        prose = re.sub(r"`[^`]+`", "", page.read_text())
        assert not re.findall(VAGUE, prose)


def test_the_layout_names_what_lies_at_the_top_of_the_package_and_no_other_module() -> None:
    rows = _rows(_read("DESIGN.md"), "in `neuronlens/`")
    listed = {_spans(row[0])[0].rstrip("/"): _spans(row[2]) for row in rows}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(listed) == folders | {path.name for path in PACKAGE.glob("*.py")}
    for room, modules in listed.items():
        for module in modules:
            there = PACKAGE / room / module
            assert there.is_dir() or there.with_suffix(".py").is_file(), f"neuronlens/{room} has no {module}"


def test_the_order_of_imports_and_the_homes_of_libraries_are_those_that_are_checked() -> None:
    design = _read("DESIGN.md")
    chain = re.search(r"^ {4}(errors <- .*?)\n\n", design, flags=re.S | re.M)
    assert chain
    assert [{room.strip() for room in step.split(",")} for step in chain[1].split("<-")] == RANKS
    homes = {library: set(re.split(r", ?", row[1])) for row in _rows(design, "library") for library in _spans(row[0])}
    assert homes == HOMES


def test_the_wheels_are_those_of_the_configuration() -> None:
    pinned = {
        match[1]
        for path in (ROOT / "conf").rglob("*.yaml")
        for match in re.finditer(r"^wheel: (\S+)", path.read_text(), flags=re.M)
    }
    assert {_spans(row[1])[0] for row in _rows(_read("DESIGN.md"), "what") if "==" in row[1]} == pinned


def test_the_columns_of_results_are_those_of_the_code() -> None:
    from neuronlens.measures.columns import MEASURES, RESULTS

    names = _names(_section(8), "columns")
    at = names.index("<measure>_low")
    assert names[at + 1] == "<measure>_high"
    intervals = [f"{measure}_{end}" for measure in MEASURES for end in ("low", "high")]
    assert [*names[:at], *intervals, *names[at + 2 :]] == RESULTS.in_file
    assert f"each of the {len(MEASURES)} measures" in _section(8)


def test_the_tables_of_names_are_those_of_the_code() -> None:
    from neuronlens.config.groups import option_names
    from neuronlens.config.schema import CONTROLS, EDIT_POSITIONS, RECORD_POSITIONS, SITES
    from neuronlens.records import SPLITS

    assert _names(_section(1), "`layers.site`") == list(SITES)
    assert set(_names(_section(1), "value")) == set(RECORD_POSITIONS)
    assert set(EDIT_POSITIONS) <= set(_spans(_section(1)))
    assert sorted(_names(_section(2), "`saliency`")) == option_names("saliency")
    assert sorted(_names(_section(3), "`range`")) == option_names("range")
    assert sorted(_names(_section(4), "`edit`")) == option_names("edit")
    assert sorted(_names(_section(4), "`gate`")) == option_names("gate")
    assert _names(_section(4), "`control`") == list(CONTROLS)
    assert _names(_section(5), "split") == list(SPLITS)
    assert sorted(_names(_section(6), "`model.head`")) == option_names("head")


def test_the_public_names_are_all_described() -> None:
    import neuronlens

    public = {f"nl.{name}" for name in neuronlens.__all__ if not name.startswith("__")}
    rows = [line.split("|")[1] for line in _section(8).splitlines() if line.startswith("| `nl.")]
    described = re.findall(r"`(nl\.\w+)`", "\n".join(rows))
    assert sorted(described) == sorted(public)


def test_the_example_of_an_own_edit_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from neuronlens.config.compose import compose
    from neuronlens.config.nodes import part
    from neuronlens.config.plan import grid
    from tests.ranges.activations import activation_set

    page = _read("extending.md")
    module, option, command = (
        re.search(rf"```{kind}\n(.*?)```", page, flags=re.S) for kind in ("python", "yaml", "bash")
    )
    assert module
    assert option
    assert command
    (tmp_path / "my_edits.py").write_text(module[1])
    (tmp_path / "options" / "edit").mkdir(parents=True)
    (tmp_path / "options" / "edit" / "mirror.yaml").write_text(option[1])
    monkeypatch.syspath_prepend(tmp_path)
    before, _, overrides = command[1].strip().partition(" --config-dir options ")
    assert before == "PYTHONPATH=. neuronlens run"
    config = compose(overrides.split(), config_dir=tmp_path / "options")
    assert {(knobs.edit, knobs.parameters) for knobs in grid(config)} == {("zero", None), ("mirror", "gain=0.5")}
    activations = activation_set([[1.0], [3.0]], [[5.0], [7.0]])  # the other concept's mean is 6
    target = part(config, "edit", "mirror").target(activations, 0)
    np.testing.assert_allclose(target.scale * activations.values + target.shift, [[8.5], [7.5], [6.5], [5.5]])


def _test_names() -> set[str]:
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


def _traps() -> dict[int, str]:
    entries = re.split(r"^(\d+)\. ", _read("TRAPS.md"), flags=re.M)[1:]
    return {int(number): text for number, text in zip(entries[::2], entries[1::2], strict=True)}


def test_every_trap_stands_with_its_tests_or_says_that_it_has_none() -> None:
    traps, known = _traps(), _test_names()
    assert list(traps) == list(range(1, len(traps) + 1))
    for number, text in traps.items():
        named = [span for span in _spans(text) if span.startswith("test_")]
        assert set(named) <= known, f"trap {number}: no test {sorted(set(named) - known)}"
        assert ("No test yet" in text) != bool(named), f"trap {number} names tests or says 'No test yet', not both"


def test_every_test_that_bears_a_traps_number_stands_with_that_trap() -> None:
    traps = _traps()
    for name in _test_names():
        numbered = re.match(r"test_trap_((?:(?:\d+|and)_)+)", name)
        for number in re.findall(r"\d+", numbered[1]) if numbered else []:
            assert name in _spans(traps[int(number)]), f"TRAPS.md, {number}: add {name}"


def _citations(kind: str) -> Iterator[tuple[str, str]]:
    """Yield (file, what is cited) for every citation of a page in the code."""
    for folder in ("neuronlens", "conf", "experiments", "benchmarks", "tests"):
        for ending in ("py", "yaml", "md"):
            for path in sorted((ROOT / folder).rglob(f"*.{ending}")):
                if path != Path(__file__):
                    yield from ((_title(path), found) for found in re.findall(kind, path.read_text()))


def test_every_citation_of_a_page_in_the_code_holds() -> None:
    cited = list(_citations(r"SPEC section (\d+(?:, `[^`]+`)?)"))
    assert len(cited) > 5
    for place, citation in cited:
        number, _, name = citation.partition(", ")
        words = _spans(name)[0].split(": ") if name else []
        assert all(word in _section(int(number)) for word in words), f"{place}: SPEC section {citation}"
    traps = _traps()
    numbered = list(_citations(r"TRAPS ((?:\d+(?:, | and )?)+)"))
    assert len(numbered) > 10
    for place, citation in numbered:
        assert {int(number) for number in re.findall(r"\d+", citation)} <= set(traps), f"{place}: TRAPS {citation}"
    assert not list(_citations(r"METHODS\.md|STYLE\.md|\.\./shared")), "a citation points out of the repository"


def test_the_glossary_has_every_word_of_the_house() -> None:
    terms = re.findall(r"^\| \*\*([^*]+)\*\* \|", _read("glossary.md"), flags=re.M)
    assert len(terms) == len(set(terms))
    for term in (
        *("concept", "complement", "sample", "position", "site", "layer", "neuron", "activation", "record position"),
        *(
            "edit position",
            "saliency",
            "salient neuron",
            "range",
            "interval",
            "gate",
            "edit",
            "strength",
            "dose",
            "cell",
        ),
        *("method", "erased", "erasure level", "matched erasure", "collateral", "drop", "baseline", "control", "split"),
        *("train", "fit", "select", "test", "head", "replay", "run folder", "fingerprint"),
    ):
        assert term in terms, f"the glossary has no '{term}'"


def test_the_checks_would_find_what_is_wrong(tmp_path: Path) -> None:
    assert _exists("neuronlens.edits.gated.apply_gated")
    assert not _exists("neuronlens.edits.gated.apply_gate")
    assert not _exists("neuronlens.schema")
    from neuronlens.config.schema import Config

    assert _is_field(Config, ["evaluation", "general", "perplexity"])
    assert not _is_field(Config, ["evaluation", "bootstraps"])
    assert _spans("a `b c`\n```\n`d`\n```\n`e\nf`") == ["b c", "e f"]
    assert _rows("| `x` | y |\n|---|---|\n| `a`, `b` | c |\n", "`x`") == [["`a`, `b`", "c"]]
    page = tmp_path / "page.md"
    page.write_text("# A `b` page: c\n")
    assert _anchors(page) == {"a-b-page-c"}
    page.write_text("`range.max_components=2`, `edit.dampen.beta`, `saliency.l1`, `evaluation.level`")
    _settings_hold(page)
    for wrong in ("range.max_component", "edit.zero.beta", "evaluation.levels"):
        page.write_text(f"`{wrong}`")
        with pytest.raises(AssertionError, match="no setting"):
            _settings_hold(page)
