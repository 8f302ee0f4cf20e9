"""Is a text's first token an attention sink, to be left out of what is fitted and edited?

Models park attention on the first token, whose state then dwarfs all others: SmolLM2's has a norm of 24,000 against 180. It
says nothing of the text, and it would set every mean and covariance by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuronlens.config.knobs import fits_on_tokens
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError
from neuronlens.hooks.contexts import capture
from neuronlens.hooks.masks import prompt_mask
from neuronlens.hooks.replay import run_body
from neuronlens.hooks.resolver import blocks_of
from neuronlens.models.batches import text_batches
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ConceptDataset, Site

SINK = 10.0
"""A first token is a sink where its norm is more than this many times the median of the other tokens' norms."""
TEXTS = 8
"""Texts of the fit split that are looked at; the median of their ratios decides."""


def skips_first(config: Config, loaded: LoadedModel, data: ConceptDataset, groups: Sequence[Sequence[Site]]) -> bool:
    """Return whether the run leaves out each text's first token: one answer for all its sites, splits, fits and edits.

    `auto` leaves it out where it is a sink at any of the sites, but never where the head reads it. It plays no part where
    one token alone is fitted on and edited.

    Raises:
        ConfigError: `always`, at the last block of a model whose head reads the first token: nothing would be edited.
    """
    own, sites = config.intervention, [site for group in groups for site in group]
    if own.skip_first == "never" or not (fits_on_tokens(config) or own.edit_positions in ("all", "prompt")):
        return False
    reads_it = loaded.head.reads == "cls"
    if own.skip_first == "always":
        if reads_it and any(site.layer == len(blocks_of(loaded.model)) - 1 for site in sites):
            raise ConfigError(
                "intervention.skip_first is 'always', and the head reads the first token, so an edit at the last layer "
                "would not be read. Next: intervention.skip_first=auto, or an earlier layer."
            )
        return True
    texts = [data.texts[row] for row in data.rows("fit")[:TEXTS]]
    return not reads_it and bool(texts) and sink_ratio(loaded, texts, sites) > SINK


def sink_ratio(loaded: LoadedModel, texts: Sequence[str], sites: Sequence[Site]) -> float:
    """Return how many times the median norm of a text's other tokens its first one has: the median text, the worst site."""
    device = next(loaded.model.parameters()).device
    ratios: dict[Site, list[float]] = {site: [] for site in sites}
    for prepared in text_batches(loaded, texts).batches:
        batch = prepared.to(device)
        with torch.inference_mode(), capture(loaded.model, sites) as recorded:
            if loaded.paths.replays:
                run_body(loaded.model, batch.inputs, deepest=max(site.layer for site in sites))
            else:
                loaded.head.read(loaded.model, batch.inputs)
        attended = prompt_mask(batch.inputs)
        for site in sites:
            for norms, own in zip(recorded[site].float().norm(dim=-1), attended, strict=True):
                first, *others = norms[own].tolist()
                if others:
                    ratios[site].append(first / max(float(torch.tensor(others).median()), 1e-30))
    return max((float(torch.tensor(found).median()) for found in ratios.values() if found), default=0.0)
