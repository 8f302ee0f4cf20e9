"""Changed files in every folder that is read: each is refused, computed again or read as what it is; none ends in a traceback.

`python -m benchmarks.fuzz` makes 2,000 mutations (cut, flipped bits, random bytes, emptied, taken away) of the files of a
dataset folder, a model folder, a cache entry and a run folder, and prints what came of them.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import neuronlens as nl

WAYS = ("cut", "flip", "noise", "emptied", "gone", "doubled")
Read = Callable[[Path], object]


def mutate(path: Path, way: str, draw: random.Random) -> bool:
    """Change a file; return whether its bytes are others than before."""
    before = path.read_bytes()
    content = bytearray(before)
    if way == "gone":
        path.unlink()
        return True
    if way == "cut":
        content = content[: draw.randrange(len(content))]
    elif way == "flip":
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif way == "noise":
        start = draw.randrange(len(content))
        content[start : start + 16] = draw.randbytes(min(16, len(content) - start))
    elif way == "emptied":
        content = bytearray()
    elif way == "doubled":
        content = content + content
    path.write_bytes(bytes(content))
    return bytes(content) != before


def outcome(read: Read, folder: Path, expected: object) -> str:
    """Return what came of reading a changed folder: refused, the same content, other content, or a traceback."""
    try:
        found = read(folder)
    except nl.NeuronLensError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {str(error)[:80]}"
    return "the same" if found == expected else "other"


@cache
def config() -> nl.Config:
    """Return a config of few samples, whose paths are put in by each reader."""
    few = "dataset.samples_per_concept={train:2,fit:2,select:2,test:2}"
    return nl.compose(["model=local", "model.path=.", "dataset=local", "dataset.path=.", few, "dataset.min_samples=2"])


def read_data(folder: Path) -> object:
    """Return the fingerprint of a dataset folder."""
    return nl.load_concepts(replace(config().dataset, path=str(folder)), nl.Store(folder.parent / "cache")).fingerprint


def read_model(folder: Path) -> object:
    """Return the shape of the model in a folder."""
    found = nl.locate(replace(config().model, path=str(folder)), nl.Store(folder.parent / "cache"))
    return found.model_type, found.layer_count, found.width


def read_cache(folder: Path) -> object:
    """Return the content of a cache entry; None where it is to be computed again."""
    found = nl.Store(folder.parent.parent).load(folder.parent.name, folder.name)
    return None if found is None else (found[0]["x"].tolist(), found[1]["who"])


def read_run(folder: Path) -> object:
    """Return the tables of a run folder as text."""
    run = nl.RunFolder(folder)
    run.read_manifest()
    table = run.read_results()
    return [frame.to_csv() for frame in (table.rows, table.matched, table.comparison, table.methods)] + [
        str(table.base)
    ]


def write_data(folder: Path, kind: str) -> Path:
    """Write a small dataset of one kind of file."""
    folder.mkdir(parents=True)
    for split, start in (("train", 0), ("test", 100)):
        rows = [(f"text {start + number} of {label}", label) for label in "ab" for number in range(12)]
        table = pd.DataFrame(rows, columns=["text", "label"])
        if kind == "csv":
            table.to_csv(folder / f"{split}.csv", index=False)
        elif kind == "jsonl":
            table.to_json(folder / f"{split}.jsonl", orient="records", lines=True)
        else:
            table.to_parquet(folder / f"{split}.parquet")
    return folder


def folders(work: Path, model: Path | None, run: Path | None) -> Mapping[str, tuple[Path, Read, bool]]:
    """Return what is fuzzed: folder, reader, and whether other content than before would be a silent error."""
    found: dict[str, tuple[Path, Read, bool]] = {
        f"dataset, {kind}": (write_data(work / kind, kind), read_data, False) for kind in ("csv", "jsonl", "parquet")
    }
    store = nl.Store(work / "store")
    store.save("activations", "abc", {"x": np.arange(50.0)}, {"who": "first"})
    found["cache entry"] = (store.folder("activations", "abc"), read_cache, True)
    if model is not None:
        found["model folder"] = (model, read_model, False)
    if run is not None:
        found["run folder"] = (run, read_run, True)
    return found


def fuzz(count: int, work: Path, *, model: Path | None = None, run: Path | None = None, seed: int = 0) -> Counter[str]:
    """Return how often each outcome came of `count` mutations; a silent error begins with `silent`."""
    draw, counts = random.Random(seed), Counter[str]()
    places = folders(work, model, run)
    whole = {name: read(folder) for name, (folder, read, _) in places.items()}
    for number in range(count):
        name = list(places)[number % len(places)]
        folder, read, strict = places[name]
        copy = work / "changed" / folder.parent.name / folder.name
        shutil.rmtree(work / "changed", ignore_errors=True)
        shutil.copytree(folder, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size)
        path, way = draw.choice(files), draw.choice(WAYS)
        changed = mutate(path, way, draw)
        what = outcome(read, copy, whole[name])
        other = strict and what == "other" and read(copy) is not None if strict and what == "other" else False
        if changed and other:
            what = f"silent: {name}, {path.name}, {way}"
        elif what.startswith("traceback"):
            what = f"{what} ({name}, {path.name}, {way})"
        elif what == "other":
            what = "computed again" if strict else "read as the other file that it is"
        counts[what] += 1
    return counts


def main(arguments: list[str]) -> int:
    """Print the counts; return 1 where one is silent or a traceback."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description="Fuzz the readers of files.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--model", type=Path, help="a model folder")
    parser.add_argument("--run", type=Path, help="the folder of a finished run")
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as work:
        counts = fuzz(given.count, Path(work), model=given.model, run=given.run)
    for what, count in counts.most_common():
        print(f"{count:6d}  {what}")
    return int(any(what.startswith(("silent", "traceback")) for what in counts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
