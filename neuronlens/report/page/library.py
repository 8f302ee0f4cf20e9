"""What draws the page's charts: Vega as one script that needs nothing else, and the charts compiled for it."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from neuronlens.config.fingerprint import fingerprint
from neuronlens.errors import OutputError
from neuronlens.report.page.charts import specifications
from neuronlens.storage.cache import Store

STAGE = "javascript"
SCRIPT, CHARTS = "vega.js", "charts.json"
SNIPPET = "window.vegaEmbed = vegaEmbed;"


class Library(NamedTuple):
    """A script that puts `vegaEmbed` into the window (about 0.9 MB), and Vega specifications by chart name."""

    script: str
    charts: dict[str, Any]


_MADE: dict[str, Library] = {}  # by fingerprint, so that a process puts it together once


def drawing_library(cache: Path) -> Library:
    """Return Vega's script and the page's charts, compiled from Vega-Lite so that the page need not.

    Putting them together takes seconds, so they are kept in the cache; a folder that is not there is not made.

    Args:
        cache: the run's cache folder.
    """
    import vl_convert

    charts = _charts()
    versions = [version("vl-convert-python"), vl_convert.get_vega_version(), vl_convert.get_vega_embed_version()]
    key, store = fingerprint([STAGE, SNIPPET, versions, charts]), Store(cache)
    if key in _MADE:
        return _MADE[key]
    kept = store.found(STAGE, key)
    if kept is not None:
        library = Library((kept / SCRIPT).read_text(encoding="utf-8"), json.loads((kept / CHARTS).read_text()))
    else:
        compiled = {name: vl_convert.vegalite_to_vega(chart) for name, chart in charts.items()}
        library = Library(str(vl_convert.javascript_bundle(SNIPPET)), compiled)
        if cache.is_dir():
            _keep(store, key, library, versions)
    _MADE[key] = library
    return library


@lru_cache(maxsize=1)
def _charts() -> dict[str, Any]:
    return specifications()


def _keep(store: Store, key: str, library: Library, versions: list[str]) -> None:
    try:
        with store.writing(STAGE, key, {"versions": versions}) as folder:
            (folder / SCRIPT).write_text(library.script, encoding="utf-8")
            (folder / CHARTS).write_text(json.dumps(library.charts))
    except OutputError:
        pass  # a cache that only others may write costs the next page some seconds, not this one its script
