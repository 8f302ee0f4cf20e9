"""Admits a loaded model: its checks run once on a few samples of the run's own, on the run's device, and are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
import transformers
from torch.utils.data import DataLoader

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.knobs import gates_per_sample
from neuronlens.config.schema import TOKEN_POSITIONS, Config
from neuronlens.config.schema_run import TrainerConfig
from neuronlens.errors import ModelError
from neuronlens.execution.trainer import make_trainer
from neuronlens.hooks.admission import Admission, Check, Paths, admit
from neuronlens.hooks.takes import takes_positions
from neuronlens.models.batches import collate
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ConceptDataset, Site
from neuronlens.storage.cache import Store
from neuronlens.storage.files import json_types

STAGE = "admission"
FORMAT = 1  # of the checks; raised when one changes
LENGTHS = (24, 9, 15)
"""Most tokens of each sample: texts of different lengths, and no more of them than a check needs."""
MOST_CONTINUATIONS = 2


def admitted(
    loaded: LoadedModel,
    texts: Sequence[str],
    sites: Sequence[Site],
    *,
    edit_positions: str,
    store: Store,
    trainer: TrainerConfig,
) -> tuple[LoadedModel, Admission]:
    """Return the model with the fast paths that are exact for it, and how it was admitted; from the store where that is known.

    Args:
        texts: of the run; the first few are used.
        sites: which are edited.
        edit_positions: `record`, `all`, `prompt` or `generated`.

    Raises:
        ModelError: the head reads a position that cannot be edited, or labels of several tokens that it cannot read.
        SiteError: a check that nothing slower replaces did not hold.
    """
    positions = _positions(loaded, edit_positions)
    writes = not loaded.head.replays
    versions = [torch.__version__, transformers.__version__]
    inputs = {"model": loaded.fingerprint, "sites": sorted(map(str, sites)), "positions": positions, "writes": writes}
    key = fingerprint({**inputs, "format": FORMAT, "versions": versions})
    found = _kept(store, key)
    if found is None:
        module = _Admitting(loaded, sites, positions=positions, writes=writes)
        batch = sample_batch(loaded, texts)
        make_trainer(trainer, STAGE).predict(module, DataLoader([batch], batch_size=None), return_predictions=False)  # type: ignore[arg-type]
        assert module.admission is not None, "the trainer ran its one batch"
        found = module.admission
        with store.writing(STAGE, key, {"inputs": inputs, "admission": json_types(found)}):
            pass
    if loaded.head.continuations and not found.paths.packs:
        why = next(check.detail for check in found.checks if check.name == "labels that share a prompt")
        raise ModelError(
            f"Refused by the check 'labels that share a prompt': model type '{found.model_type}' reads labels of several "
            f"tokens after one prompt as others ({why}). Next: model.head=label_token."
        )
    return with_paths(loaded, found.paths), found


def admit_run(
    config: Config, loaded: LoadedModel, data: ConceptDataset, groups: Sequence[Sequence[Site]], store: Store
) -> tuple[LoadedModel, Admission]:
    """Return the same for a run's own sites and edited positions, on a few of the samples that it fits on.

    Raises:
        NeuronLensError: it was not admitted.
    """
    texts = [data.texts[row] for row in data.rows("fit")[: len(LENGTHS)]]
    sites = [site for group in groups for site in group]
    where = config.intervention.edit_positions
    found, admission = admitted(loaded, texts, sites, edit_positions=where, store=store, trainer=config.trainer)
    if gates_per_sample(config):  # such a gate reads every token of a text, whichever are edited or read
        found = with_paths(found, replace(found.paths, shrinks=False, branches=False))
    return found, admission


def with_paths(loaded: LoadedModel, paths: Paths) -> LoadedModel:
    """Return the model with its paths, texts in batches of one where they cannot share a batch."""
    if not paths.caches:
        loaded.model.generation_config.use_cache = False
    return replace(loaded, paths=paths, batch_size=loaded.batch_size if paths.pads else 1)


def sample_batch(loaded: LoadedModel, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return a few texts as one batch of the run, cut in the middle to at most `LENGTHS` tokens."""
    rows = loaded.encode(list(texts[: len(LENGTHS)]))
    cut = []
    for ids, most in zip(rows, LENGTHS, strict=False):
        start = most // 3
        cut.append(list(ids) if len(ids) <= most else [*ids[:start], *ids[len(ids) - most + start :]])
    return collate(
        cut,
        pad_id=loaded.tokenizer.pad_token_id,
        padding_side=loaded.tokenizer.padding_side,
        positions=takes_positions(loaded.model),
        continuations=sorted(loaded.head.continuations, key=len)[:MOST_CONTINUATIONS],
    )


def _positions(loaded: LoadedModel, edit_positions: str) -> str:
    if edit_positions != "record":
        return edit_positions
    if loaded.record_position not in TOKEN_POSITIONS:
        raise ModelError(
            f"The head of '{loaded.name}' reads '{loaded.record_position}', which is not one position, so nothing can be "
            "edited there. Next: intervention.edit_positions=all."
        )
    return loaded.record_position


class _Admitting(pl.LightningModule):
    """Runs the checks in the place of one batch, so that they run where everything else will."""

    def __init__(self, loaded: LoadedModel, sites: Sequence[Site], *, positions: str, writes: bool) -> None:
        super().__init__()
        self.model = loaded.model
        self.loaded, self.sites, self.positions, self.writes = loaded, list(sites), positions, writes
        self.admission: Admission | None = None

    def predict_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.admission = admit(
            self.loaded.model,
            batch,
            self.sites,
            reads=self.loaded.head.reads,
            positions=self.positions,
            writes=self.writes,
        )


def _kept(store: Store, key: str) -> Admission | None:
    kept = store.found(STAGE, key)
    if kept is None:
        return None
    stored: dict[str, Any] = json.loads((kept / "manifest.json").read_text())["admission"]
    checks = tuple(Check(**check) for check in stored.pop("checks"))
    return Admission(paths=Paths(**stored.pop("paths")), checks=checks, **stored)
