"""General ability: perplexity and MMLU of the unedited model, under the neuron mask and under the range mask."""

from __future__ import annotations

from typing import Any

import pandas as pd

import neuronlens as nl
from experiments.means import IDENTITY, mean_columns, with_level
from experiments.runner import Experiment, Runs, main


def tables(runs: Runs) -> list[nl.Table]:
    """Return one row per measure, layer and edit: base, both masks, and their difference paired by concept."""
    rows: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("general_ability")
    for folder in runs.part("general_ability").values():
        general = folder.read_results().general
        assert general is not None, "the part measures it"
        edited = general[general["subject"].isna() & (general["edit"] != "none")]
        for key, own in edited.groupby(["model", "dataset", "measure", "layers", "edit"], sort=False):
            values = own.pivot(index="concept", columns="gate", values="edited").dropna()
            row = dict(zip(("model", "dataset", "measure", "layer", "edit"), map(str, key), strict=True))
            row |= {"concepts": len(values), "n": int(own["n"].iloc[0])}
            row |= {name: own[name].iloc[0] for name in ("base", "base_low", "base_high")}
            scale = nl.MeasureScale.of(row["measure"])
            masks = {mask: scale.to(values[mask].to_numpy(dtype=float)) for mask in ("neuron", "range")}
            for mask, own_values in masks.items():
                row |= {name: scale.back(value) for name, value in mean_columns(mask, own_values, bootstrap).items()}
            rows.append(row | mean_columns("difference", masks["range"] - masks["neuron"], bootstrap))
    columns = (
        *IDENTITY,
        nl.Column("measure", "measure"),
        nl.Column("edit", "edit"),
        nl.Column("n", "n", "", "d"),
        nl.Column("base", "base", "", ".4g", interval=True),
        nl.Column("neuron", "neuron mask", "", ".4g", interval=True),
        nl.Column("range", "range mask", "", ".4g", interval=True),
        nl.Column("difference", "range - neuron", "", "+.4g", interval=True),
    )
    caption = (
        "Every token edited, top 30 % of the neurons by max saliency, Gaussian range of tau 2.5; n counts documents or "
        "questions. Masks: means over concepts, each with its own edit; of perplexities the geometric mean, and as "
        "difference the mean of log(range / neuron). MMLU: the offered answer of highest probability; 0.25 is chance."
        + with_level(
            bootstrap,
            "Brackets: {} intervals, of the base over documents or questions, of the masks "
            "over concepts, the difference paired.",
        )
    )
    order = ["model", "dataset", "layer", "measure"]
    frame = pd.DataFrame(rows).sort_values(
        order, key=lambda column: pd.factorize(column)[0], kind="stable", ignore_index=True
    )
    return [
        nl.Table("general_ability", "What the masks cost beside the concepts", caption, frame, columns, tuple(order))
    ]


EXPERIMENT = Experiment("general_ability", ("general_ability",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
