"""What is proved about a model before a number is believed, and which fast paths give the plain forward's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from neuronlens.errors import SiteError
from neuronlens.hooks.blocks import found_blocks
from neuronlens.hooks.replay import starts_at
from neuronlens.hooks.resolver import resolve_site
from neuronlens.hooks.takes import is_causal, takes_positions
from neuronlens.hooks.trial import Outcome, Trial, longest_alone, prompts_alone, tried
from neuronlens.hooks.wrapped import bare
from neuronlens.records import Site


@dataclass(frozen=True)
class Paths:
    """Which fast paths a model takes; each that it does not has a slower one that is exact.

    Attributes:
        replays: a cell starts at the stored output of a block; else every cell runs the whole model.
        shrinks: at the last layer the state of the positions that the head reads suffices; else whole texts are kept.
        branches: cells branch off one prompt's keys; else every cell runs the prompt.
        packs: the labels' further tokens share one row with the prompt; else only labels of one token can be read.
        pads: texts of different lengths share a batch; else a batch is one text.
        caches: a text is written with a KV cache; else without.
    """

    replays: bool = True
    shrinks: bool = True
    branches: bool = True
    packs: bool = True
    pads: bool = True
    caches: bool = True

    def start_of(self, site: Site) -> int:
        """Return the layer whose stored output a cell at this site starts from; -1 for the embeddings."""
        return starts_at(site) if self.replays else -1


@dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        passed: whether it held.
        detail: by how much.
        instead: the slower path that is taken where it did not hold.
    """

    name: str
    passed: bool
    detail: str
    instead: str = ""


@dataclass(frozen=True)
class Admission:
    """How a model was admitted: what was found in it, what was checked on real samples, and the paths that follow.

    Attributes:
        model_type: as transformers calls it.
        blocks: path of the list of blocks, below the body.
        layer_count: how many blocks.
        causal: whether no position sees a later one.
        position_ids: whether batches carry positions counted from the mask.
        sites: path below its block of the module at each site.
        paths: which fast paths are exact.
        checks: in the order in which they were made.
    """

    model_type: str
    blocks: str
    layer_count: int
    causal: bool
    position_ids: bool
    sites: Mapping[str, str]
    paths: Paths
    checks: tuple[Check, ...]

    @property
    def slower(self) -> list[str]:
        """Which slower paths are taken, in words."""
        return [check.instead for check in self.checks if check.instead and not check.passed]


INSTEAD = {
    "replays": "every cell runs the whole model",
    "shrinks": "whole texts are kept at the last layer",
    "branches": "every cell runs the prompt",
    "packs": "only labels of one token can be read",
    "pads": "every text is a batch of its own",
    "caches": "texts are written without a KV cache",
}


def admit(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    sites: Sequence[Site],
    *,
    reads: str,
    positions: str,
    writes: bool = False,
) -> Admission:
    """Return how a model is admitted for edits at some sites, after proving on a few real samples what a run relies on.

    Args:
        model: in eval mode, on the device of `inputs`.
        inputs: a few samples of different lengths as the model's batch `[sample, position]`, padded as the run's are;
            with `segment` where label continuations follow the prompt.
        sites: which are edited; the paths are proved at the lowest and highest of them and at one of each kind of block.
        reads: the position that the head reads, `cls`, `last` or `mean`.
        positions: which positions are edited, as `hooks.contexts.edited` takes it.
        writes: whether the model writes its answer.

    Raises:
        SiteError: a site is not there, an edit does not reach what is read, or the head reads another position.
    """
    checks: list[Check] = []
    paths = Paths()

    def keep(name: str, outcome: Outcome, path: str) -> None:
        nonlocal paths
        checks.append(Check(name, *outcome, INSTEAD[path]))
        if not outcome[0]:
            paths = replace(paths, **{path: False})

    def insist(name: str, outcome: Outcome, next_step: str) -> None:
        checks.append(Check(name, *outcome))
        if not outcome[0]:
            raise SiteError(f"Refused by the check '{name}': {outcome[1]}. Next: {next_step}")

    if "segment" in inputs:
        outcome = _packs(model, inputs)
        keep("labels that share a prompt", outcome, "packs")
        inputs = inputs if outcome[0] else prompts_alone(inputs)
    trial, some = Trial(model, inputs, reads=reads, positions=positions), _some_of_each_kind(model, sites)
    keep("batch size and padding", trial.alone(), "pads")
    if is_causal(model):
        checks.append(Check("padding on the other side", *trial.other_side(), "texts are padded on one side alone"))
    if not paths.pads:  # then no batch of the run has pads, and no sample of the trial either
        trial = Trial(model, longest_alone(inputs), reads=reads, positions=positions)
    if reads != "mean" and not trial.speaks:
        step = "a tokenizer whose pad token is not its end token, or another model.record_position."
        insist(f"the head reads the position '{reads}'", trial.head_reads(), step)
    step = f"model.record_position={reads}, intervention.edit_positions=all, or an earlier layer."
    for start in sorted({starts_at(site) for site in some}):
        keep(f"identity replay from block {start}", trial.identity(start), "replays")
    for site in some:
        if positions != "generated" or "segment" in inputs:
            insist(f"an edit at {site} reaches the logits", trial.reaches(site), step)
        if paths.replays:
            keep(f"an edit at {site} is the same in a replay", trial.edit_replayed(site), "replays")
    if paths.replays and any(starts_at(site) == trial.last for site in sites):
        keep("the positions that are read suffice at the last layer", trial.shrunk(), "shrinks")
    if trial.speaks:
        start = paths.start_of(min(some))
        keep("cells that branch off a prompt", trial.branched(start), "branches")
    if writes:
        keep("generation with and without a cache", trial.cached(some[-1]), "caches")
    return _admission(model, sites, paths, checks)


def _admission(model: nn.Module, sites: Sequence[Site], paths: Paths, checks: Sequence[Check]) -> Admission:
    blocks = found_blocks(model)
    return Admission(
        model_type=str(getattr(bare(model).config, "model_type", "")),
        blocks=blocks.path,
        layer_count=len(blocks.returned),
        causal=is_causal(model),
        position_ids=takes_positions(model),
        sites={str(site): _path(model, site) for site in sites},
        paths=paths,
        checks=tuple(checks),
    )


def _packs(model: nn.Module, inputs: Mapping[str, Tensor]) -> Outcome:
    """Return whether label continuations that share a prompt are read as if each stood after it alone."""
    if "position_ids" not in inputs:
        return False, "the model takes no positions"
    return tried(lambda: Trial(model, inputs, reads="last", positions="last").packed())


def _some_of_each_kind(model: nn.Module, sites: Sequence[Site]) -> list[Site]:
    """Return the lowest and the highest site and one in each kind of block, by what a block is made of and returns."""
    ordered, returned = sorted(sites), found_blocks(model).returned
    first: dict[object, Site] = {}
    for site in ordered:
        block = resolve_site(model, site).block
        modules = tuple((name, type(module)) for name, module in block.named_modules())
        first.setdefault((modules, returned[site.layer]), site)
    return sorted({ordered[0], ordered[-1], *first.values()})


def _path(model: nn.Module, site: Site) -> str:
    point = resolve_site(model, site)
    return next(name for name, module in point.block.named_modules() if module is point.module)
