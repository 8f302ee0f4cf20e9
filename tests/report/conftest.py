"""A finished run over texts and labels that would act in a page if they could, and its page as the tests read it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.pipeline import run
from tests.conftest import texts_of

SCRIPT = "<script>alert(1)</script>"
LABELS = (SCRIPT, "a \"quoted\" <b>name</b> & 'more'", "</script><!-- cloud\u2028y", "__proto__")
NASTY = (SCRIPT, '"><img src=x onerror=alert(2)>', "</script><script>alert(3)</script>", "{{ 7 * 7 }} <!-- & &amp; '")


def write_nasty_dataset(folder: Path) -> Path:
    """Write four learnable concepts whose labels and texts hold markup, quotes and separators."""
    folder.mkdir(parents=True)
    for name, count, offset in (("train", 60, 0), ("test", 20, 1000)):
        rows = [
            (f"{text} {NASTY[place % 4]} number {offset + place}", LABELS[concept])
            for concept in range(4)
            for place, text in enumerate(texts_of(concept, count, offset))
        ]
        pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def nasty_overrides(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The tiny run's overrides with that dataset."""
    folder = write_nasty_dataset(tmp_path_factory.mktemp("nasty") / "made_up")
    kept = [entry for entry in tiny_overrides if not entry.startswith("dataset.path")]
    return [*kept, f"dataset.path={folder}"]


@pytest.fixture(scope="session")
def finished(nasty_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: two layers, two rankings, two ranges, both masks."""
    folder = tmp_path_factory.mktemp("runs") / "nasty"
    more = ["sweep.layers=[0,last]", "sweep.saliency=[max,dprime]", "sweep.range=[gaussian,mixture]"]
    run(compose([*nasty_overrides, *more, "range.tau=2.5"]), folder)
    return folder


class Elements(HTMLParser):
    """Every start tag with its attributes, the text of scripts and styles by their order, and all other text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text: list[str] = []
        self._inside: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.raw:
            self._inside = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data
        else:
            self.text.append(data)


@dataclass(frozen=True)
class Page:
    """A page's HTML, its elements and the data in it."""

    html: str
    elements: Elements
    data: Any


def read_page(folder: Path) -> Page:
    """Return the report page of a run folder."""
    html = (folder / "report.html").read_text(encoding="utf-8")
    elements = Elements(html)
    return Page(html, elements, json.loads(elements.raw["script"][0]))


def floats(text: str, *shape: int) -> np.ndarray:
    """Return an array that the page holds as base64."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(shape)
