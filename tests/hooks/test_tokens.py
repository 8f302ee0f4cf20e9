"""The mean that a gate per sample reads, against loops over each sample's own tokens."""

from __future__ import annotations

import pytest
import torch

from neuronlens.errors import SiteError
from neuronlens.hooks.tokens import Memory, Tokens, Written


def batch(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of four samples of other lengths, and which positions are no pads."""
    features = torch.randn(4, 8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    attended = torch.zeros(4, 8, dtype=torch.bool)
    for row, length in enumerate((3, 8, 5, 1)):
        attended[row, slice(0, length) if side == "right" else slice(8 - length, 8)] = True
    return features, attended


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("over", ["so_far", "prompt"])
@pytest.mark.parametrize("causal", [True, False])
def test_the_mean_is_that_of_the_tokens_a_position_may_know(side, over, causal):
    features, attended = batch(side)
    found = Tokens(attended, attended, causal).mean(features, over).expand(4, 8, 3)
    for row in range(4):
        own = torch.where(attended[row])[0]
        for place in own:
            known = [at for at in own if at <= place or over == "prompt" or not causal]
            torch.testing.assert_close(found[row, place], features[row, known].mean(0))
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("over", ["so_far", "prompt"])
def test_labels_that_share_a_prompt_do_not_see_each_other(over):
    features, attended = batch("right")
    attended[:] = True
    segment = torch.tensor([[0, 0, 0, 1, 1, 2, 3, 3]] * 4)
    found = Tokens(attended, segment == 0, True, segment).mean(features, over).expand(4, 8, 3)
    for place in range(8):
        own = segment[0, place]
        known = [at for at in range(place + 1) if segment[0, at] in (0, own)]
        known = [0, 1, 2] if over == "prompt" else known
        torch.testing.assert_close(found[:, place], features[:, known].mean(1))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("over", ["so_far", "prompt"])
def test_forwards_under_a_cache_hand_on_what_one_forward_reads(side, over):
    features, attended = batch(side)
    attended[:, 5:] = True  # written: the prompt is five columns wide
    asked = attended.clone()
    asked[:, 5:] = False
    whole = Tokens(attended, asked, True, written=Written(0, 5, 1, {})).mean(features, over).expand(4, 8, 3)
    memory: Memory = {}
    parts = []
    for start, end in ((0, 5), (5, 6), (6, 8)):
        columns = slice(start, end)
        tokens = Tokens(attended[:, columns], asked[:, columns], True, written=Written(start, 5, 1, memory))
        other = tokens.mean(-features[:, columns], over, place=1).expand(4, end - start, 3)
        parts.append(tokens.mean(features[:, columns], over).expand(4, end - start, 3))
        assert torch.equal(other, -parts[-1]), "each gate has sums of its own"
    torch.testing.assert_close(torch.cat(parts, 1)[attended], whole[attended])


def test_generation_in_which_the_mean_cannot_be_known_is_refused():
    features, attended = batch("left")

    def mean(written: Written, over: str = "so_far", causal: bool = True) -> torch.Tensor:
        return Tokens(attended, attended, causal, written=written).mean(features, over)

    with pytest.raises(SiteError, match="num_beams=1"):
        mean(Written(0, 8, 2, {}))
    assert mean(Written(0, 8, 2, {}), "prompt").shape == (4, 1, 3)
    with pytest.raises(SiteError, match="read in parts"):
        mean(Written(0, 9, 1, {}), "prompt")
    with pytest.raises(SiteError, match="past_key_values"):
        mean(Written(4, 4, 1, {}))
    memory: Memory = {}
    mean(Written(0, 8, 1, memory))
    with pytest.raises(SiteError, match="The cache was cut"):
        mean(Written(7, 8, 1, memory))
    with pytest.raises(SiteError, match="gate per position"):
        mean(Written(0, 8, 1, {}), causal=False)
