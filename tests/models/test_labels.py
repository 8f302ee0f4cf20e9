"""A checkpoint whose labels carry no names, and the advice to one that knows nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from neuronlens.config.compose import compose
from neuronlens.errors import ModelError
from neuronlens.measures.unedited import near_chance
from neuronlens.models.classifier import classifier
from neuronlens.models.source import locate
from neuronlens.storage.cache import Store


def test_labels_without_names_get_them_from_the_config_in_the_order_of_the_logits(
    model_folder: Path, tmp_path: Path
) -> None:
    config = replace(compose(["model=local", f"model.path={model_folder}"]).model, max_length=16)
    source = locate(config, Store(tmp_path))
    own = classifier(config, source).concepts
    names = [f"name {place}" for place in range(len(own))]
    named = classifier(replace(config, labels=names), source, names[::-1])
    assert named.concepts == tuple(names)
    with pytest.raises(ModelError, match=rf"model.labels names 2 labels, and the head of model '.*' has {len(own)}"):
        classifier(replace(config, labels=["a", "b"]), source)
    if all(name.startswith("LABEL_") for name in own):
        with pytest.raises(ModelError, match=r"Next: model.labels=\[name 0,"):
            classifier(config, source, names)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "more dataset.samples_per_concept.train, more model.finetune.epochs than 4"),
        (["model=smollm2"], "another prompt, more dataset.prompt.shots"),
        (["model=local", "model.path=x"], "model.labels in another order"),
    ],
)
def test_the_advice_near_chance_fits_the_model(overrides: list[str], says: str) -> None:
    config = compose(overrides)
    counts = pd.DataFrame([{"split": "test", "concept": f"c{n}", "n": 10, "correct": 1, "low": 0.0} for n in range(12)])
    (sentence,) = near_chance(counts, config.model)
    assert says in sentence
    assert "c7 1/10 and 4 more right on test" in sentence
