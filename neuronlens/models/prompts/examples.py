"""The solved examples that a prompt shows: written out in the config, or drawn from the train split."""

from __future__ import annotations

from itertools import zip_longest

from neuronlens.config.schema_data import PromptConfig, PromptExample
from neuronlens.data.concepts import draw_place
from neuronlens.errors import DataError, unknown
from neuronlens.records import ConceptDataset


def draw_examples(data: ConceptDataset, prompt: PromptConfig) -> tuple[PromptExample, ...]:
    """Return the few-shot examples of a prompt: those written out, else `shots` drawn from the train split.

    Drawn ones are dealt round by round, one of each concept, in the order of a hash of (`seed`, id) within concept
    and round: the same in every process, and no concept is always last. A number of shots that is no multiple of the
    number of concepts shows some concepts once more than others.

    Raises:
        DataError: too few examples in the train split, or a written one whose label is no concept.
    """
    for example in prompt.examples:
        if example.label not in data.concepts:
            raise DataError(unknown("label in dataset.prompt.examples:", example.label, data.concepts))
    if prompt.examples or not prompt.shots:
        return tuple(prompt.examples)
    rows = data.rows("train")
    if prompt.shots > len(rows):
        raise DataError(
            f"dataset.prompt.shots is {prompt.shots} and dataset '{data.name}' has {len(rows)} train examples to draw "
            f"from (fit, select and test are never shown). Next: dataset.samples_per_concept.train="
            f"{-(-prompt.shots // len(data.concepts))}, or dataset.prompt.shots={len(rows)}."
        )
    place = {int(row): draw_place(prompt.seed, data.ids[row]) for row in rows}
    columns = [
        sorted((int(row) for row in rows if data.labels[row] == concept), key=place.__getitem__)
        for concept in range(len(data.concepts))
    ]
    drawn: list[int] = []
    for dealt in zip_longest(*columns):
        drawn += sorted((row for row in dealt if row is not None), key=place.__getitem__)
    return tuple(PromptExample(data.texts[row], data.concepts[int(data.labels[row])]) for row in drawn[: prompt.shots])
