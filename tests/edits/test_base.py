"""What every batch of edits can do, whatever its kind; and parts that do not give what they declare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neuronlens.config.schema import Config
from neuronlens.edits.base import EditBatch
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.detected import DetectedEdit, stacked
from neuronlens.edits.fitting import Fitted
from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.errors import ConfigError
from neuronlens.ranges.gaussian import GaussianRange
from neuronlens.records import ActivationSet, Cell, Knobs
from neuronlens.saliency.max import MaxSaliency

KNOBS = Knobs(saliency="max", top_fraction=0.6, range="gaussian", tau=1.0, gate="range", edit="zero", strength=1.0)
FREE = replace(KNOBS, gate="neuron", range=None, tau=None)
JOINT = replace(FREE, gate="joint")
KINDS: dict[str, tuple[type[Any], list[Knobs]]] = {
    "gated": (GatedEdit, [KNOBS, replace(FREE, edit="dampen_distance"), replace(KNOBS, gate="outside", strength=0.5)]),
    "projected": (ProjectionEdit, [replace(FREE, edit="leace"), replace(FREE, edit="directional_ablation")]),
    "detected": (DetectedEdit, [KNOBS, JOINT, replace(JOINT, edit="mean")]),
    "detected projections": (DetectedEdit, [replace(FREE, edit="leace"), replace(JOINT, edit="leace", strength=1.5)]),
}


@pytest.fixture(scope="module")
def builder(skewed: ActivationSet) -> EditBuilder:
    """A builder of every kind of cell."""
    ranges: dict[Any, Any] = {("gaussian", 1.0): GaussianRange(tau=1.0).fit(skewed)}
    return EditBuilder(Config(), {"none": Fitted(skewed, {"max": MaxSaliency().rank(skewed)}, ranges)}, select=skewed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_cells_is_its_single_cells_stacked_and_takes_every_mask(kind: str, builder: EditBuilder) -> None:
    expected, knobs = KINDS[kind]
    cells: list[Cell] = [(own, concept) for own in knobs for concept in (0, 2)]
    singles = [builder.batch([cell]) for cell in cells]
    whole: EditBatch = builder.batch(cells)
    assert isinstance(whole, expected)
    assert whole.cells == len(cells)
    generator = torch.Generator().manual_seed(0)
    hidden = 3 * torch.randn(1, 40, 2, 5, generator=generator) + 2
    mask = torch.rand(40, 2, generator=generator) < 0.7
    allowed = torch.rand(len(cells), 40, 2, generator=generator) < 0.7
    together = stacked(singles).to("cpu")
    assert together.cells == len(cells)
    for batch in (whole, together):
        found = batch(hidden, mask, allowed=allowed)
        for place, single in enumerate(singles):
            torch.testing.assert_close(found[place], single(hidden, mask, allowed=allowed[place : place + 1])[0])
        closed = ~(mask & allowed)
        assert torch.equal(found[closed], hidden.expand(len(cells), -1, -1, -1)[closed])
        assert (found != hidden).flatten(1).any(1).all(), "every cell changes something"


def test_a_part_that_does_not_give_what_it_declares_is_refused(
    builder: EditBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuronlens.edits.gates.joint import JointGate
    from neuronlens.edits.gates.neuron import NeuronGate
    from neuronlens.edits.replacements import Zero

    own = EditBuilder(builder.config, builder.fits, select=builder.select)
    monkeypatch.setattr(Zero, "mixes_neurons", True)
    with pytest.raises(ConfigError, match=r"edit\.zero gave Affine, and its declarations promise Projection"):
        own.batch([(FREE, 0)])
    monkeypatch.undo()
    own = EditBuilder(builder.config, builder.fits, select=builder.select)
    monkeypatch.setattr(NeuronGate, "grain", "position")
    monkeypatch.setattr(JointGate, "__init__", lambda gate, *, grain: setattr(gate, "grain", "value"))
    with pytest.raises(ConfigError, match=r"gate\.neuron gave tuple, and its declarations promise Score"):
        own.batch([(FREE, 0)])
    with pytest.raises(ConfigError, match=r"gate\.joint gave Score, and its declarations promise intervals"):
        own.batch([(JOINT, 0)])


def test_the_whole_neuron_is_what_a_gate_that_decides_nothing_opens(builder: EditBuilder) -> None:
    batch = builder.batch([(replace(FREE, top_fraction=1.0), 1)])
    assert isinstance(batch, GatedEdit)
    assert np.isneginf(batch.lower.numpy()).all()
    assert np.isposinf(batch.upper.numpy()).all()
