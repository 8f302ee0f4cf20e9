"""A model of another shape is refused in a sentence that reads well for one site and for several."""

from __future__ import annotations

import pytest

from neuronlens.errors import ModelError
from neuronlens.lens.shape import check_shape, shape_text
from neuronlens.records import Site
from tests.conftest import tiny_model


def test_the_shape_of_one_site_of_several_and_of_none() -> None:
    three = {Site(0): 16, Site(1): 16, Site(2): 16}
    assert shape_text("bert", 3, {Site(2): 16}) == "bert of 3 layers with 16 neurons at resid_post.2"
    assert shape_text("bert", 3, three) == (
        "bert of 3 layers with 16 neurons at resid_post.0, resid_post.1 and resid_post.2"
    )
    two_widths = {Site(0): 16, Site(1, "mlp_neurons"): 32}
    assert shape_text("gpt2", 3, two_widths) == "gpt2 of 3 layers with 16 neurons at resid_post.0, 32 at mlp_neurons.1"
    assert shape_text("llama", 1, {}) == "llama of 1 layer"
    assert shape_text("Linear", None, {}) == "Linear"


def test_a_model_of_the_same_shape_passes_and_another_width_is_named() -> None:
    model = tiny_model("bert")
    widths = {Site(0): 16, Site(1, "mlp_neurons"): 32}
    check_shape(model, model_type="bert", layer_count=3, widths=widths)
    message = (
        "fitted on a bert of 3 layers with 16 neurons at resid_post.0, 33 at mlp_neurons.1; this model is a bert of 3 layers "
        "with 16 neurons at resid_post.0, 32 at mlp_neurons.1. Next"
    )
    with pytest.raises(ModelError, match=message):
        check_shape(model, model_type="bert", layer_count=3, widths=widths | {Site(1, "mlp_neurons"): 33})
