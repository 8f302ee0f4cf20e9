"""Damages files of a dataset, a model, a cache entry and a run folder in seeded ways, and reads what is left.

`python -m benchmarks.fuzz [count]` makes 2,000 mutations and prints what came of each kind of folder. A mutation is refused
in one sentence, leaves the result as it was (computed again, in the cache), or gives another input with another fingerprint:
a dataset's and a model's files are the user's own, and only a fingerprint keeps them apart. All else is printed and fails.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, set_seed

import neuronlens as nl

CONCEPTS = ("apple", "bridge")
WORDS = [f"w{number}" for number in range(40)]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
GOOD = ("same", "refused", "another input")
Outcome = str


def mutated(content: bytes, draw: random.Random) -> bytes | None:
    """Return a file's content after one seeded mutation, None for a file that is gone."""
    kind = draw.choice(["cut", "bit", "bit", "bits", "bytes", "random", "longer", "empty", "gone"])
    if kind == "gone":
        return None
    if kind == "empty" or not content:
        return b""
    if kind == "cut":
        return content[: draw.randrange(len(content))]
    if kind == "longer":
        return content + draw.randbytes(draw.randrange(1, 64))
    if kind == "random":
        return draw.randbytes(len(content))
    changed = bytearray(content)
    for _ in range(1 if kind == "bit" else 8):
        place = draw.randrange(len(changed))
        changed[place] = draw.randrange(256) if kind == "bytes" else changed[place] ^ (1 << draw.randrange(8))
    return bytes(changed)


class Subject:
    """A folder, and what is read of it.

    Attributes:
        name: dataset, model, cache or run.
        read: returns what is read of a folder as (fingerprint, content), comparable by `==`.
        own: whether the files are the user's, so that another content under another fingerprint is right.
    """

    def __init__(self, name: str, folder: Path, read: Callable[[Path], tuple[str, Any]], *, own: bool) -> None:
        """Read the folder once, as it is."""
        self.name, self.folder, self.read, self.own = name, folder, read, own
        self.files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        self.whole = read(folder)

    def outcome(self, draw: random.Random, aside: Path) -> tuple[Outcome, str]:
        """Return what came of one mutation of one file, and which."""
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(self.folder, aside)
        chosen = draw.choice(self.files)
        content = mutated((aside / chosen).read_bytes(), draw)
        if content is None:
            (aside / chosen).unlink()
        else:
            (aside / chosen).write_bytes(content)
        try:
            fingerprint, found = self.read(aside)
        except nl.NeuronLensError as error:
            return ("refused" if str(error).strip() else "refused without a word"), str(chosen)
        except KeyboardInterrupt:
            raise
        except BaseException:  # of a Rust library too
            return "traceback", f"{chosen}\n{traceback.format_exc()}"
        if found == self.whole[1]:
            return "same", str(chosen)
        told_apart = self.own and fingerprint != self.whole[0]
        return ("another input" if told_apart else "a wrong number"), str(chosen)


def subjects(home: Path) -> list[Subject]:
    """Return a dataset, a model, a cache entry and a run folder of a tiny model, made below `home`."""
    data, model = _dataset(home / "data"), _model(home / "model")
    common = ["model=local", "model.max_length=16", "dataset=local", f"paths.cache_dir={home / 'cache'}", "trainer=cpu"]
    common += ["dataset.samples_per_concept={train:8,fit:8,select:4,test:8}", "dataset.min_samples=2"]
    common += ["trainer.progress=false", "logger=csv", "quiet=true", "evaluation.bootstrap=50"]

    def config(data: Path, model: Path) -> nl.Config:
        """Return the config of a run on two folders."""
        return nl.compose([*common, f"dataset.path={data}", f"model.path={model}"])

    def read_data(folder: Path) -> tuple[str, Any]:
        """Return a dataset's fingerprint and examples."""
        wanted = config(folder, model).dataset
        wanted.name = "fuzzed"
        found = nl.load_concepts(wanted, nl.Store(home / "none"))
        return found.fingerprint, (found.texts, [found.concepts[label] for label in found.labels], list(found.splits))

    def extracted(folder: Path, store: nl.Store | None) -> tuple[str, Any]:
        """Return a model's fingerprint, and what it says of the test split."""
        wanted = config(data, folder)
        examples = nl.load_concepts(wanted.dataset, nl.Store(home / "none"))
        loaded = nl.load_model(wanted.model, nl.locate(wanted.model, nl.Store(home / "none")), examples.concepts)
        found = nl.extract(loaded, examples, "test", sites=[nl.Site(1)], keep=[0], trainer=wanted.trainer, store=store)
        assert found.log_probabilities is not None, "it is run to its head"
        states = [state.tolist() for _, state in found.states[0].parts]
        values = found.activations[nl.Site(1)].values.tolist()
        return loaded.fingerprint, (values, states, found.log_probabilities.tolist(), loaded.concepts)

    def read_run(folder: Path) -> tuple[str, Any]:
        """Return every table, array and setting that is read of a run folder."""
        run = nl.RunFolder(folder)
        table, manifest = run.read_results(), run.read_manifest()
        fitted, _ = run.restore_fitted()
        (found,) = fitted.values()
        frames = [table.rows, table.matched, table.comparison, table.methods, *run.read_diagnostics()]
        frames += [run.read_samples("test"), *(one for one in (table.doses, table.budget) if one is not None)]
        arrays = [np.asarray(one.lower).tobytes() for one in found.ranges.values()]
        arrays += [one.scores.tobytes() for one in found.rankings.values()]
        told = [frame.to_json() for frame in frames]
        return "", (told, arrays, table.base, manifest.settings, manifest.concepts, run.read_summary())

    extracted(model, nl.Store(home / "entry"))
    nl.run(config(data, model), home / "run")
    return [
        Subject("dataset", data, read_data, own=True),
        Subject("model", model, lambda folder: extracted(folder, None), own=True),
        Subject("cache", home / "entry", lambda folder: extracted(model, _silent(folder)), own=False),
        Subject("run", home / "run", read_run, own=False),
    ]


def _silent(folder: Path) -> nl.Store:
    return nl.Store(folder, warn=lambda sentence: None)


def _dataset(folder: Path) -> Path:
    folder.mkdir(parents=True)
    draw = random.Random(0)
    for name, count in (("train", 30), ("test", 12)):
        rows = [
            f"{' '.join(draw.choice(WORDS[20 * place : 20 * place + 20]) for _ in range(8))},{concept}"
            for place, concept in enumerate(CONCEPTS)
            for _ in range(count)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows, ""]))
    return folder


def _model(folder: Path) -> Path:
    set_seed(0)
    labels: dict[str, Any] = {"id2label": dict(enumerate(CONCEPTS)), "label2id": {n: i for i, n in enumerate(CONCEPTS)}}
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=len(TOKENS), max_position_embeddings=32, **sizes, **labels)
    BertForSequenceClassification(config).save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(TOKENS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(folder)
    return folder


def outcomes(count: int, home: Path, seed: int = 0) -> Iterator[tuple[str, int, Outcome, str]]:
    """Give (folder, number, outcome, file) of `count` mutations, the four kinds of folder in turn."""
    with nl.quiet_libraries():
        found = subjects(home)
        for number in range(count):
            subject = found[number % len(found)]
            outcome, detail = subject.outcome(random.Random(f"{seed}-{number}"), home / "mutated")
            yield subject.name, number, outcome, detail


def main(arguments: Sequence[str]) -> int:
    """Print the counts and what should not be; the exit code is 1 where there is such a thing."""
    count = int(arguments[0]) if arguments else 2000
    counts: Counter[tuple[str, Outcome]] = Counter()
    with tempfile.TemporaryDirectory() as home:
        for name, number, outcome, detail in outcomes(count, Path(home)):
            counts[name, outcome] += 1
            if outcome not in GOOD:
                print(f"{name} mutation {number}: {outcome}: {detail}", flush=True)
    for (name, outcome), found in sorted(counts.items()):
        print(f"{name:8} {outcome:14} {found:5}")
    bad = sum(found for (_, outcome), found in counts.items() if outcome not in GOOD)
    print(f"{count} mutations, {bad} that should not be")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
