"""Fits a lens on a model in hand, without a configuration of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from neuronlens.activations.moments import ConceptMoments
from neuronlens.config.compose import compose
from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.layers import resolve_layers
from neuronlens.config.recipe import narrowed
from neuronlens.config.schema import RECORD_POSITIONS, SITES, TOKEN_POSITIONS, Config
from neuronlens.edits.fitting import fit_site
from neuronlens.errors import ConfigError, SiteError, unknown
from neuronlens.execution.progress import counting, one_stage
from neuronlens.hooks.admission import admit
from neuronlens.hooks.blocks import blocks_of
from neuronlens.hooks.contexts import capture, read_positions
from neuronlens.hooks.masks import prompt_mask
from neuronlens.hooks.replay import run_body
from neuronlens.hooks.resolver import recorded_position
from neuronlens.hooks.wrapped import device_of
from neuronlens.lens.hub import is_hub_id
from neuronlens.lens.labels import Label, concepts_of, indices, plain_labels
from neuronlens.lens.lens import Lens
from neuronlens.models.admission import sample_batch, with_paths
from neuronlens.models.batches import text_batches
from neuronlens.models.identity import weight_sample
from neuronlens.models.in_hand import check_texts, evaluating, in_hand
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ActivationSet, IntArray, Site

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def fit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[Label],
    *,
    layers: int | str | Sequence[int | str] = "last",
    site: str = "resid_post",
    positions: str | None = None,
    concepts: Sequence[str] | None = None,
    select: tuple[Sequence[str], Sequence[Label]] | None = None,
    saliency: str = "max",
    range: str = "gaussian",
    tau: float | None = None,
    gate: str = "range",
    edit: str = "zero",
    top_fraction: float = 0.3,
    edit_positions: str | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    name: str | None = None,
    dataset: str = "texts in hand",
    progress: bool = True,
) -> Lens:
    """Return a lens fitted on labelled texts, bound to the model.

    The model runs on its own device and in its own dtype, and is left as it was found. The lens is what a run on the same
    model, texts, batches and settings fits.

    Args:
        texts: as the model is to read them: of a language model whole prompts.
        labels: a concept's name per text, or its number.
        layers: a number, negatives from the end, `last`, `all` or a list of these. Several are edited at once.
        site: a place in the block: `resid_post`, `mlp_out`, `attn_out` or `mlp_neurons`.
        positions: which vector of a text is recorded: `cls`, `last`, `mean`, `max` or `live_mean`; None for the one that
            the model's head reads.
        concepts: names and order of the concepts; None for the labels of the model's head where the labels are these, else
            the labels, sorted.
        select: further texts and labels, on which the gate `joint` chooses its threshold.
        saliency, range, tau, gate, edit, top_fraction: what the lens does where nothing else is asked for.
        edit_positions: where it edits: `record`, `all`, `prompt` or `generated`; None for `record` where one position is
            recorded, else `all`.
        max_length: tokens of a text; None for what model and tokenizer take, 512 at most.
        name, dataset: for the card.
        progress: draw a bar on a terminal and print a line when it is done.

    Raises:
        DataError: no texts, an empty one, all of one label, or a label that is none of `concepts`.
        ShapeError: not a label for each text.
        ConfigError: an unknown option, or a value out of its range.
        SiteError: no such layer or site, or an edit there does not reach the model's answer.
        ModelError: the tokenizer has no pad token.
    """
    found = check_texts(texts, "nl.fit")
    given = plain_labels(labels, len(found))
    if positions is not None and positions not in RECORD_POSITIONS:
        raise ConfigError(unknown("record position", positions, RECORD_POSITIONS))
    if site not in SITES:
        raise SiteError(unknown("site", site, SITES))
    options = {"record_position": positions, "max_length": max_length, "batch_size": batch_size, "name": name}
    loaded = in_hand(model, tokenizer, **options)  # type: ignore[arg-type]
    named = concepts_of(given, loaded.concepts, concepts)
    index = indices(given, named)
    sites = [Site(layer, site) for layer in resolve_layers(layers, len(blocks_of(model)))]
    where = edit_positions or ("record" if loaded.record_position in TOKEN_POSITIONS else "all")
    knobs = {"saliency": saliency, "range": range, "gate": gate, "edit": edit, "top_fraction": top_fraction}
    config = _config(loaded, sites, where, knobs, tau)
    config.dataset.name = dataset
    with evaluating(model):
        loaded = _admitted(loaded, found, sites, where)
        with one_stage("activations", shown=progress):
            fitted = _recorded(loaded, found, index, named, sites, "fit")
            chosen = {}
            if select is not None:
                more = check_texts(select[0], "nl.fit, select")
                own = indices(plain_labels(select[1], len(more)), named)
                chosen = _recorded(loaded, more, own, named, sites, "select")
    lens = Lens(
        config,
        {place: fit_site(config, activations) for place, activations in fitted.items()},
        select=chosen,
        model_type=str(loaded.model.config.model_type),
        layer_count=len(blocks_of(model)),
        model_folder=loaded.name if Path(loaded.name).is_dir() else None,
        kind=type(loaded.model).__name__,
        weights=weight_sample(model, sites[-1].layer),
    )
    return lens.bind(model, tokenizer)


def _config(
    loaded: LoadedModel, sites: Sequence[Site], edit_positions: str, knobs: dict[str, object], tau: float | None
) -> Config:
    """Return the checked config that a call comes to.

    Raises:
        ConfigError: an unknown option, or a value out of its range.
    """
    base = compose([f"saliency={knobs['saliency']}", f"range={knobs['range']}", "sweep=single"])
    base.layers.select = [site.layer for site in sites]
    base.layers.site = sites[0].name
    base.layers.mode = "each" if len(sites) == 1 else "together"
    base.model = replace(
        base.model,
        name=loaded.name,
        path=None,
        wheel=None,
        sha256=None,
        folder=None,
        hub=loaded.name if is_hub_id(loaded.name) and not Path(loaded.name).is_dir() else None,
        record_position=loaded.record_position,
        max_length=loaded.max_length,
        batch_size=loaded.batch_size,
    )
    base.model.finetune.blocks = None
    base.intervention = replace(
        base.intervention,
        gate=str(knobs["gate"]),
        edit=str(knobs["edit"]),
        top_fraction=float(knobs["top_fraction"]),  # type: ignore[arg-type]
        edit_positions=edit_positions,
        fit_positions="record",  # one vector of each text
        skip_first="never",
    )
    if tau is not None:
        if "tau" not in base.range:
            raise ConfigError(f"tau={tau!r} plays no part with range '{knobs['range']}'. Next: leave it out.")
        base.range = {**base.range, "tau": float(tau)}
    return narrowed(base, {})


def _admitted(loaded: LoadedModel, texts: Sequence[str], sites: Sequence[Site], edit_positions: str) -> LoadedModel:
    """Return the model with its exact paths, proved on a few of the texts; as it is where it gives no logits.

    Raises:
        SiteError: an edit at a site does not reach the logits.
    """
    speaks = getattr(loaded.model, "get_output_embeddings", lambda: None)() is not None
    if not loaded.concepts and not speaks:
        return loaded
    batch = {key: tensor.to(device_of(loaded.model)) for key, tensor in sample_batch(loaded, texts).items()}
    where = loaded.record_position if edit_positions == "record" else edit_positions
    where = "all" if where == "generated" else where
    found = admit(loaded.model, batch, sites, reads=loaded.head.reads, positions=where)
    return with_paths(loaded, found.paths)


def _recorded(
    loaded: LoadedModel,
    texts: Sequence[str],
    labels: IntArray,
    concepts: tuple[str, ...],
    sites: Sequence[Site],
    split: str,
) -> dict[Site, ActivationSet]:
    """Return the texts' vectors at the record position with their moments, by site."""
    device, deepest = device_of(loaded.model), sites[-1].layer
    values: dict[Site, Tensor] = {}
    moments: dict[Site, ConceptMoments] = {}
    batches = text_batches(loaded, texts).batches
    with counting(split, len(texts), "texts") as advance:
        for batch in batches:
            rows = torch.from_numpy(batch.rows)
            inputs = batch.to(device).inputs
            with capture(loaded.model, sites) as recorded:
                run_body(loaded.model, inputs, deepest=deepest)
            for site in sites:
                place = recorded_position(loaded.model, site, loaded.record_position, reads=loaded.head.reads)
                vectors = read_positions(recorded[site], prompt_mask(inputs), place)
                if site not in values:
                    values[site] = torch.empty(len(texts), vectors.shape[1], dtype=torch.float32)
                    moments[site] = ConceptMoments(len(concepts), vectors.shape[1], vectors.device)
                values[site][rows] = vectors.float().cpu()
                moments[site].update(vectors, torch.from_numpy(labels[batch.rows]).to(vectors.device))
            advance(float(len(batch.rows)))
    ids = tuple(map(str, np.arange(len(texts))))
    return {
        site: ActivationSet(
            site,
            values[site].numpy(),
            labels,
            concepts,
            ids,
            moments[site].statistics(),
            fingerprint([loaded.fingerprint, split, list(texts), str(site)]),
        )
        for site in sites
    }
