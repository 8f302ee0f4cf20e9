"""A lens on the Hugging Face hub: one file in a repository, with a README made of its card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuronlens.errors import OutputError

FILE = "neuronlens.lens"
"""The lens's file in a repository of the hub."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Return whether a name can be that of a repository on the hub.

    >>> is_hub_id("owner/fear-lens"), is_hub_id("outputs/run/2026"), is_hub_id("fear.lens")
    (True, False, False)
    """
    return HUB_ID.fullmatch(name) is not None


def download(repository: str, revision: str | None = None) -> Path:
    """Return the lens file of a hub repository, from the hub's own cache where it is there.

    Raises:
        OutputError: no such repository, no lens in it, or no network.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, FILE, revision=revision))
    except Exception as error:  # the client's own types for a missing repository, a missing file and a dead network
        words = " ".join(str(error).split())[:200]
        raise OutputError(
            f"There is no lens '{repository}': no such file or folder here, and the hub gives none: {words} Next: a file of "
            "lens.save, or a run folder."
        ) from error


def upload(file: Path, repository: str, page: str, *, private: bool, revision: str | None) -> str:
    """Put a lens file and its page into a hub repository, which is made where it is not there; return its address.

    Raises:
        OutputError: the hub refuses, or there is no network or no token.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True, private=private)
        for content, name in ((page.encode(), "README.md"), (file.read_bytes(), FILE)):
            api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repository, revision=revision)
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise OutputError(
            f"The hub does not take '{repository}': {words} Next: hf auth login, and a name of yours."
        ) from error
    return str(address)


def page_of(card: Mapping[str, Any], repository: str) -> str:
    """Return a repository's README: what the lens is, how it is used, and its card."""
    model, fitted = card["model"], card["fitted_on"]
    concepts = ", ".join(fitted["samples"])
    sentences = "\n".join(f"- **{name}**: {text}" for name, text in card["definitions"].items())
    shown = {name: value for name, value in card.items() if name != "recipe"}
    return f"""---
library_name: neuronlens
tags: [neuronlens, interpretability]
---
# A lens for {model["name"]}

Concepts: {concepts}. Fitted on {fitted["dataset"]}, {sum(fitted["samples"].values())} texts, at the position
`{fitted["position"]}`.

```python
import neuronlens as nl

lens = nl.Lens.load("{repository}")
with lens.erase(model, "{next(iter(fitted["samples"]))}"):
    model(**inputs)
```

{sentences}

```json
{json.dumps(shown, indent=1, ensure_ascii=False)}
```
"""
