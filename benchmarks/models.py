"""Which text model types of the installed transformers are admitted, on tiny random models of every one of them.

python -m benchmarks.models              # writes docs/reference/models.md, about a quarter of an hour on one core
python -m benchmarks.models bert llama   # prints these types' rows
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import neuronlens as nl
from benchmarks.tiny import HEADS, quiet, tiny_model

PAGE = Path("docs/reference/models.md")
INNER = ("attn_out", "mlp_out", "mlp_neurons")
TITLES = {"seq_cls": "Sequence classification", "causal": "Causal language models"}
LENGTHS = (9, 5, 7)
_TITLE, _REFUSED = ("type", "reads", *INNER, "slower path"), ("type", "why not")


@dataclass(frozen=True)
class Row:
    """How one model type fares under one head.

    Attributes:
        admitted: whether an edit at `resid_post` of every block is exact.
        reads: the position that the head reads.
        inner: by site, in how many blocks an edit there is exact, as `3 of 3`; empty for none.
        slower: the slower paths that replace what is not exact.
        why: the sentence that refuses it; empty where it is admitted.
    """

    model_type: str
    head: str
    admitted: bool
    reads: str = ""
    inner: tuple[str, ...] = ("", "", "")
    slower: tuple[str, ...] = ()
    why: str = ""


def measured(model_type: str, head: str) -> Row:
    """Return how a tiny random model of a type is admitted.

    Args:
        head: `seq_cls` or `causal`.
    """
    refused = Row(model_type, head, admitted=False)
    try:
        model = tiny_model(model_type, head)
    except Exception as error:  # transformers' own classes do not build it or do not run: theirs to say
        return replace(refused, why=f"no tiny model can be built of its config: {_sentence(error)}")
    with quiet():
        try:
            reads = nl.position_read(model)
            batch = made_up_batch(model, head)
            admission = _admitted(model, batch, reads, head, [])
            count = admission.layer_count
            admission = _admitted(model, batch, reads, head, [nl.Site(layer) for layer in range(count)])
            difference = _by_hand(model, batch, admission)
        except nl.NeuronLensError as error:
            return replace(refused, why=_sentence(error))
        except Exception as error:  # of transformers' own code: one type must not cost the page of all
            return replace(refused, why=f"{type(error).__name__}: {_sentence(error)}")
        if difference > 0:
            return replace(refused, why=f"an edit differs from a plain hook's by {difference:.2g}")
        inner = [_inner(model, batch, reads, head, name, count) for name in INNER]
    slower = dict.fromkeys([*admission.slower, *(path for _, paths in inner for path in paths)])
    return Row(model_type, head, True, reads, tuple(found for found, _ in inner), tuple(slower))


def made_up_batch(model: Any, head: str) -> dict[str, Tensor]:
    """Return three texts of made-up tokens as the model's batch; an end token last where its head looks for one."""
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(8, 60, (length,), generator=generator).tolist() for length in LENGTHS]
    if model.config.is_encoder_decoder:
        texts = [[*ids[:-1], model.config.eos_token_id] for ids in texts]
    side = "left" if head == "causal" else "right"
    return nl.collate(texts, pad_id=0, padding_side=side, positions=nl.takes_positions(model))


def _admitted(model: Any, batch: dict[str, Tensor], reads: str, head: str, sites: Sequence[nl.Site]) -> nl.Admission:
    positions = "all" if reads == "mean" else reads
    return nl.admit(model, batch, sites or [nl.Site(-1)], reads=reads, positions=positions, writes=head == "causal")


def _inner(
    model: Any, batch: dict[str, Tensor], reads: str, head: str, name: str, count: int
) -> tuple[str, Sequence[str]]:
    """Return in how many of the blocks an inner site is exact, and the slower paths taken there."""
    sites = [site for layer in range(count) if _is_there(model, site := nl.Site(layer, name))]
    if not sites:
        return "", []
    try:
        admission = _admitted(model, batch, reads, head, sites)
    except nl.NeuronLensError:
        return "", []
    return f"{len(sites)} of {count}", admission.slower


def _is_there(model: nn.Module, site: nl.Site) -> bool:
    try:
        with nl.capture(model, [site]):
            return True
    except nl.NeuronLensError:
        return False


@torch.no_grad()
def _by_hand(model: nn.Module, batch: dict[str, Tensor], admission: nl.Admission) -> float:
    """Return how far logits under an edit are from those under a plain PyTorch hook that does the same."""
    layer = admission.layer_count // 2
    rows = slice(None) if admission.paths.pads else slice(1)  # the first text is the longest: no pads
    tokens = {name: batch[name][rows] for name in ("input_ids", "attention_mask")}
    real = tokens["attention_mask"] != 0

    def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else output[0]
        changed = torch.where(real[..., None], hidden * 0.5, hidden)
        return changed if isinstance(output, Tensor) else type(output)((changed, *output[1:]))

    def half(hidden: Tensor, mask: Tensor | None) -> Tensor:
        return hidden * 0.5 if mask is None else torch.where(mask[..., None], hidden * 0.5, hidden)

    block = next(m for name, m in model.named_modules() if f".{name}".endswith(f".{admission.blocks}.{layer}"))
    with ExitStack() as stack:
        stack.callback(block.register_forward_hook(hook).remove)
        expected = model(**tokens).logits
    with nl.edited(model, {nl.Site(layer): half}):
        found = model(**tokens).logits
    return float((found - expected).abs().max())


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:240] or type(error).__name__


def all_rows(types: Sequence[str] = ()) -> Iterator[Row]:
    """Yield a row for every type that transformers registers under a head, or for the given types alone."""
    for head, (_, registered) in HEADS.items():
        for model_type in sorted(types or registered):
            if model_type in registered:
                yield measured(model_type, head)


def page(rows: Sequence[Row]) -> str:
    """Return the page: counts, then what is admitted and what is refused under each head."""
    version = transformers.__version__
    lines = [
        "# Model types that are admitted\n",
        f"Written by `python -m benchmarks.models`: every text model type of transformers {version}, as a tiny random model.",
        "A type is admitted where an edit at `resid_post` of every block gives, to the last bit, what a plain PyTorch hook",
        "gives, fast paths or slower ones. A run proves the same of its own model on a few of its own texts.\n",
        "| head | types | admitted | every fast path | " + " | ".join(f"`{name}`" for name in INNER) + " | all three |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_counts(head, [row for row in rows if row.head == head]) for head in HEADS]
    lines.append("\nThe columns of sites say in how many of the tiny model's blocks an edit there was proved exact.")
    for head in HEADS:
        own = [row for row in rows if row.head == head]
        admitted = [[row.model_type, row.reads, *row.inner, "; ".join(row.slower)] for row in own if row.admitted]
        lines += [f"\n## {TITLES[head]}: admitted\n", *_table(_TITLE, admitted)]
        lines += [
            f"\n## {TITLES[head]}: refused\n",
            *_table(_REFUSED, [[row.model_type, row.why] for row in own if not row.admitted]),
        ]
    return "\n".join(lines) + "\n"


def _counts(head: str, rows: Sequence[Row]) -> str:
    admitted = [row for row in rows if row.admitted]
    fast = sum(not row.slower for row in admitted)
    sites = [sum(bool(row.inner[place]) for row in admitted) for place in range(len(INNER))]
    every = sum(all(row.inner) for row in admitted)
    return f"| {TITLES[head]} | {' | '.join(map(str, [len(rows), len(admitted), fast, *sites, every]))} |"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[f"`{first}`", *(cell.replace("|", "\\|") for cell in rest)] for first, *rest in rows]
    return [f"| {' | '.join(row)} |" for row in [list(names), ["---"] * len(names), *cells]]


def rows_on(text: str) -> dict[tuple[str, str], Row]:
    """Return the rows of a page that was written before, by type and head."""
    found: dict[tuple[str, str], Row] = {}
    head, admitted = "", False
    for line in text.splitlines():
        title, _, what = line.removeprefix("## ").partition(": ")
        if line.startswith("## "):
            head, admitted = next(head for head, own in TITLES.items() if own == title), what == "admitted"
        elif line.startswith("| `"):
            first, *rest = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            kind = first.strip("`")
            if admitted:
                reads, *inner, slower = rest
                row = Row(kind, head, True, reads, tuple(inner), tuple(slower.split("; ")) if slower else ())
            else:
                row = Row(kind, head, False, why=rest[0].replace("\\|", "|"))
            found[kind, head] = row
    return found


def main(types: Sequence[str]) -> None:
    """Print the rows of some types, or write the page of all of them."""
    rows = []
    for row in all_rows(types):
        rows.append(row)
        print(f"{row.model_type} {row.head}: {' | '.join([*row.inner, *row.slower]) if row.admitted else row.why}")
    if not types:
        PAGE.write_text(page(rows))
        print(PAGE)


if __name__ == "__main__":
    main(sys.argv[1:])
