"""Checks a (model, layer, head) before its numbers are believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from neuronlens.config.knobs import layers_of
from neuronlens.config.schema import Config
from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import NeuronLensError
from neuronlens.execution.console import wide_console
from neuronlens.execution.trainer import quiet_libraries
from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.masks import prompt_mask
from neuronlens.hooks.replay import replaying, starts_at
from neuronlens.hooks.takes import takes_positions
from neuronlens.models.batches import collate, text_batches
from neuronlens.models.load import load
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.source import locate
from neuronlens.records import Site
from neuronlens.report.render.console import to_console
from neuronlens.report.table import Column, Table, frame_of
from neuronlens.storage.cache import Store

TOLERANCE = 1e-4  # nats between two orders of the same float32 sums; bf16 and float16 get 0.1
TEXTS = (
    "Rain.",
    "The harbour froze over and the last ferry stayed on the other side until spring.",
    "Her bicycle has a new chain, two old tyres and a bell that nobody ever hears.",
    "They lost the match in extra time, and the whole town talked of nothing else for a week or more after that.",
    "Why would anyone paint a bridge green?",
    "A committee met on Tuesday to decide when the committee should meet.",
)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    passed: bool
    detail: str


def examine(config: Config, console: Console | None = None) -> bool:
    """Print a table of checks for the configured model, layers and head; return whether all passed.

    A model that is configured to be fine-tuned is examined as it would start, under a fresh head: the checks are about
    hooks, positions and replay, not about what the head has learned.

    Raises:
        NeuronLensError: the model cannot be loaded, or a layer is past its end.
    """
    console = console or wide_console()
    store = Store(Path(config.paths.cache_dir))
    store.claim()
    with quiet_libraries():
        source = locate(config.model, store)
        layers = layers_of(config, source.layer_count)
        loaded = load(config.model, source, stage="ready" if config.model.finetune.blocks is None else "untrained")
        sites = [Site(layer, config.layers.site) for layer in layers]
        findings = list(check(loaded, sites, edit_positions=config.intervention.edit_positions))
    console.print(to_console(_table(f"{config.model.name}, head {config.model.head}", findings)))
    failed = sum(not finding.passed for finding in findings)
    console.print(f"{len(findings) - failed} passed, {failed} failed")
    return not failed


def _table(title: str, findings: Sequence[Finding]) -> Table:
    rows = [
        {"check": finding.name, "result": "pass" if finding.passed else "FAIL", "detail": finding.detail}
        for finding in findings
    ]
    columns = (
        Column("check", "check"),
        Column("result", "result", styles={"pass": "green", "FAIL": "bold red"}),
        Column("detail", "detail"),
    )
    return Table("doctor", title, "", frame_of(rows, columns), columns)


def check(loaded: LoadedModel, sites: Sequence[Site], *, edit_positions: str) -> Iterator[Finding]:
    """Give the outcome of every check, each in turn; one that raises counts as failed."""
    inputs = text_batches(loaded, TEXTS).batches[0].inputs
    before = state_digest(loaded)
    plain = _logits(loaded, inputs)
    for site in sites:
        yield _checked(f"hook fires at {site}", partial(_hook_fires, loaded, site, inputs))
        yield _checked(f"identity replay at {site}", partial(_identity, loaded, site, inputs, plain))
        yield _checked(
            f"edit at {site} reaches the logits",
            partial(_reaches, loaded, site, inputs, plain, edit_positions),
        )
        yield _checked(f"strength 0 at {site}", partial(_strength_zero, loaded, site, inputs, plain))
    yield _checked("batch size", partial(_batch_size, loaded, inputs, plain))
    yield _checked("padding", partial(_padding, loaded, inputs, plain))
    yield _checked("weights unchanged", partial(_unchanged, loaded, before))
    yield _checked("no hook left", partial(_no_hook, loaded))


def _checked(name: str, run: Callable[[], tuple[bool, str]]) -> Finding:
    try:
        return Finding(name, *run())
    except (NeuronLensError, RuntimeError, IndexError, KeyError) as error:
        return Finding(name, False, f"{type(error).__name__}: {str(error)[:120]}")


def _logits(loaded: LoadedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return loaded.head.read(loaded.model, inputs).log_probabilities


def _captured(loaded: LoadedModel, site: Site, inputs: Mapping[str, Tensor]) -> Tensor:
    with capture(loaded.model, [site]) as recorded:
        _logits(loaded, inputs)
    return recorded[site]


def _hook_fires(loaded: LoadedModel, site: Site, inputs: Mapping[str, Tensor]) -> tuple[bool, str]:
    shape = tuple(_captured(loaded, site, inputs).shape)
    return shape[:2] == tuple(inputs["input_ids"].shape), f"recorded {list(shape)}"


def _identity(loaded: LoadedModel, site: Site, inputs: Mapping[str, Tensor], plain: Tensor) -> tuple[bool, str]:
    start = starts_at(site)
    stored = _captured(loaded, Site(start), inputs) if start >= 0 else inputs["input_ids"][..., None]
    with torch.no_grad(), replaying(loaded.model, start, inputs, stored[None]) as rows:
        replayed = loaded.head.read(loaded.model, rows).log_probabilities
    difference = float((replayed - plain).abs().max())
    return difference == 0.0, f"largest difference {difference:g}, expected 0"


def _whole(width: int, strength: float) -> GatedEdit:
    bounds = torch.full((1, 1, width), torch.inf)
    return GatedEdit(-bounds, bounds, torch.zeros(1, width), torch.ones(1, width), torch.tensor([strength]))


def _edited(loaded: LoadedModel, site: Site, inputs: Mapping[str, Tensor], strength: float, positions: str) -> Tensor:
    width = _captured(loaded, site, inputs).shape[-1]
    places: dict[str, Any] = {"attended": inputs["attention_mask"] != 0, "prompt": prompt_mask(inputs)}
    with edited(loaded.model, {site: _whole(width, strength)}, positions=positions, **places):
        return _logits(loaded, inputs)


def _reaches(
    loaded: LoadedModel, site: Site, inputs: Mapping[str, Tensor], plain: Tensor, edit_positions: str
) -> tuple[bool, str]:
    positions = loaded.record_position if edit_positions == "record" else edit_positions
    moved = float((_edited(loaded, site, inputs, 1.0, positions) - plain).abs().max())
    return moved > 0.0, f"setting every neuron to 1 at '{positions}' moves a logit by {moved:.3g}"


def _strength_zero(loaded: LoadedModel, site: Site, inputs: Mapping[str, Tensor], plain: Tensor) -> tuple[bool, str]:
    difference = float((_edited(loaded, site, inputs, 0.0, "all") - plain).abs().max())
    return difference == 0.0, f"largest difference {difference:g}, expected 0"


def _tolerance(plain: Tensor) -> float:
    return TOLERANCE if plain.dtype in (torch.float32, torch.float64) else 0.1


def _batch_size(loaded: LoadedModel, inputs: Mapping[str, Tensor], plain: Tensor) -> tuple[bool, str]:
    singles = []
    for row in range(len(inputs["input_ids"])):
        real = inputs["attention_mask"][row] != 0
        singles.append(_logits(loaded, {name: tensor[row : row + 1, real] for name, tensor in inputs.items()}))
    return _close(torch.cat(singles), plain, "one text at a time against one padded batch")


def _padding(loaded: LoadedModel, inputs: Mapping[str, Tensor], plain: Tensor) -> tuple[bool, str]:
    ids = [row[mask].tolist() for row, mask in zip(inputs["input_ids"], prompt_mask(inputs), strict=True)]
    own = loaded.tokenizer.padding_side
    options = {"pad_id": loaded.tokenizer.pad_token_id, "positions": takes_positions(loaded.model)}
    if loaded.head.reads == "last":
        side = "right" if own == "left" else "left"
        other = collate(ids, padding_side=side, continuations=loaded.head.continuations, **options)
        return _close(_logits(loaded, other), plain, f"padded {side} against padded {own}")
    pads = torch.full((len(ids), 5), loaded.tokenizer.pad_token_id)
    wider = {
        "input_ids": torch.cat([inputs["input_ids"], pads], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.zeros_like(pads)], 1),
    }
    return _close(_logits(loaded, wider), plain, "five more pads on the right (this head reads position 0)")


def _close(ours: Tensor, plain: Tensor, what: str) -> tuple[bool, str]:
    difference = float((ours - plain).abs().max())
    return difference <= _tolerance(plain), f"{what}: {difference:.2g} nats at most"


def state_digest(loaded: LoadedModel) -> str:
    """Return a hash of every weight, buffer and the config: equal before and after means nothing was left behind."""
    digest = hashlib.sha256(loaded.model.config.to_json_string().encode())
    for name, tensor in [*loaded.model.named_parameters(), *loaded.model.named_buffers()]:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _unchanged(loaded: LoadedModel, before: str) -> tuple[bool, str]:
    return state_digest(loaded) == before, "SHA-256 of weights, buffers and config before and after"


def _no_hook(loaded: LoadedModel) -> tuple[bool, str]:
    left = [name for name, module in loaded.model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    return not left, f"{len(left)} modules with hooks"
