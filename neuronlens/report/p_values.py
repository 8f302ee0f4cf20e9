"""p values in tables: each beside its difference, and read together with the other comparisons of its table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neuronlens.measures.significance import holm
from neuronlens.measures.verdict import FEWEST_CONCEPTS, TOO_FEW
from neuronlens.report.table import Column

NOTE = (
    "p: exact sign-flip test of the paired differences; Holm: the same, read together with every other comparison of this "
    f"table. Over fewer than {FEWEST_CONCEPTS} concepts nothing is called shown."
)


def p_columns(name: str = "p", group: str = "") -> tuple[Column, Column]:
    """Return the columns of a p value and of Holm's adjustment of it, as `with_holm` fills them."""
    return Column(name, "p", group, ".2g"), Column(f"{name}_holm", "Holm", group, ".2g", otherwise="too_few")


def with_holm(frame: pd.DataFrame, concepts: str, names: Sequence[str] = ("p",)) -> pd.DataFrame:
    """Return a table with Holm's adjustment of its p values, over all rows and all of the columns `names` together.

    Args:
        frame: one row per comparison; a p value that is missing (runs of an older version) stays so.
        concepts: the column with the number of concepts that a comparison is over. Where it is below `FEWEST_CONCEPTS` the
            comparison is no part of the family and `too_few` says so.
    """
    few = pd.to_numeric(frame[concepts]).lt(FEWEST_CONCEPTS) & pd.to_numeric(frame[concepts]).gt(0)
    p = frame.reindex(columns=list(names)).astype(float)
    family = p.where(~few, np.nan).to_numpy()
    adjusted = holm(family.ravel()).reshape(family.shape)
    columns = {name: p[name] for name in names}
    columns |= {f"{name}_holm": adjusted[:, place] for place, name in enumerate(names)}
    return frame.assign(**columns, too_few=few.map({True: TOO_FEW, False: None}))
