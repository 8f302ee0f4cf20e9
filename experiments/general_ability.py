"""General ability: perplexity and MMLU of the unedited model, under the neuron mask and under the range mask."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.means import IDENTITY, mean_columns
from experiments.runner import Experiment, Runs, main
from neuronlens.report.table import PaperColumn, PaperTable


def tables(runs: Runs) -> list[PaperTable]:
    """Return one row per measure, layer and edit: base, both masks, and their difference paired by concept."""
    rows: list[dict[str, Any]] = []
    for folder in runs.part("general_ability").values():
        general = folder.read_results().general
        assert general is not None, "the part measures it"
        edited = general[general["subject"].isna() & (general["edit"] != "none")]
        for key, own in edited.groupby(["model", "dataset", "measure", "layers", "edit"], sort=False):
            values = own.pivot(index="concept", columns="gate", values="edited").dropna()
            row = dict(zip(("model", "dataset", "measure", "layer", "edit"), map(str, key), strict=True))
            row |= {"concepts": len(values), "n": int(own["n"].iloc[0])}
            row |= {name: own[name].iloc[0] for name in ("base", "base_low", "base_high")}
            row |= mean_columns("neuron", values["neuron"]) | mean_columns("range", values["range"])
            rows.append(row | mean_columns("difference", values["range"] - values["neuron"]))
    columns = (
        *IDENTITY,
        PaperColumn("measure", "measure"),
        PaperColumn("edit", "edit"),
        PaperColumn("n", "n", "", "d"),
        PaperColumn("base", "base", "", ".4g", interval=True),
        PaperColumn("neuron", "neuron mask", "", ".4g", interval=True),
        PaperColumn("range", "range mask", "", ".4g", interval=True),
        PaperColumn("difference", "range - neuron", "", "+.4g", interval=True),
    )
    caption = (
        "Every token edited, top 30 % of the neurons by max saliency, Gaussian range of tau 2.5; n counts documents or "
        "questions. Base: 95 % interval over these. Masks: means over concepts, each with its own edit, 95 % intervals over "
        "concepts, the difference paired. MMLU: the offered answer of highest probability; 0.25 is chance."
    )
    order = ["model", "dataset", "layer", "measure"]
    frame = pd.DataFrame(rows).sort_values(
        order, key=lambda column: pd.factorize(column)[0], kind="stable", ignore_index=True
    )
    return [
        PaperTable("general_ability", "What the masks cost beside the concepts", caption, frame, columns, tuple(order))
    ]


EXPERIMENT = Experiment("general_ability", ("general_ability",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
