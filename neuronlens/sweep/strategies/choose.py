"""Which way a sweep's cells are read, and at which positions they are edited: decided once, before the first forward."""

from __future__ import annotations

from neuronlens.config.schema import TOKEN_POSITIONS
from neuronlens.errors import ConfigError
from neuronlens.hooks.resolver import blocks_of
from neuronlens.models.loaded import LoadedModel
from neuronlens.sweep.strategies.base import Strategy
from neuronlens.sweep.strategies.branches import Branches
from neuronlens.sweep.strategies.prompt_alone import PromptAlone
from neuronlens.sweep.strategies.rows import Generated, Rows


def strategy_for(loaded: LoadedModel, layer: int, positions: str, tokens_per_forward: int) -> Strategy:
    """Return the cheapest way of reading cells that start at block `layer`'s output.

    - A head that writes its answer runs the whole model for every token: `Generated`.
    - At the last layer no token attends to another any more. Where the edit leaves the labels' further tokens alone,
      these are read once and a cell is one state per sample: `PromptAlone`.
    - Below it, where the edit leaves all before the record token alone, so do its keys: `Branches`.
    - Everything else, and what admission found inexact for the model, repeats the batch for every cell: `Rows`.

    Args:
        positions: as `edited_positions` returns them.
        tokens_per_forward: rows x positions that one forward may hold.
    """
    head = loaded.head
    if not head.replays:
        return Generated(loaded, positions, tokens_per_forward)
    if _is_last(loaded, layer):
        if head.scores_words and head.continuations and positions in ("last", "prompt"):
            return PromptAlone(loaded, layer, tokens_per_forward)
    elif head.scores_words and positions in ("last", "generated") and loaded.paths.branches:
        return Branches(loaded, layer, positions, tokens_per_forward)
    return Rows(loaded, layer, positions, tokens_per_forward)


def edited_positions(loaded: LoadedModel, layer: int, edit_positions: str) -> str:
    """Return the edited positions as `hooks.masks.edit_mask` takes them, `record` resolved.

    Args:
        layer: whose output the cells start from.

    Raises:
        ConfigError: the head reads nothing that an edit there can change.
    """
    head = loaded.head
    positions = loaded.record_position if edit_positions == "record" else edit_positions
    stored_alone = head.replays and _is_last(loaded, layer)
    if stored_alone and positions in TOKEN_POSITIONS and positions != head.reads:
        raise ConfigError(
            f"An edit at position '{positions}' of the last layer cannot reach the head, which reads "
            f"'{head.reads}'. Next: model.record_position={head.reads}, or an earlier layer."
        )
    if positions == "generated" and not head.continuations and head.replays:
        raise ConfigError(
            f"edit_positions 'generated' edits nothing: under head '{head.name}' no token follows the prompt. "
            "Next: intervention.edit_positions=record or all, or model.head=generation."
        )
    return positions if stored_alone else loaded.without_sink(positions)


def _is_last(loaded: LoadedModel, layer: int) -> bool:
    return loaded.paths.shrinks and layer == len(blocks_of(loaded.model)) - 1
