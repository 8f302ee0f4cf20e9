"""Tables as CSV."""

from __future__ import annotations

import csv

from neuronlens.report.table import Table


def to_csv(table: Table) -> str:
    """Return every column of the table's frame as CSV, numbers at full precision, nulls empty."""
    plain = str(table.frame.to_csv(index=False, lineterminator="\n"))
    if "\r" not in plain:
        return plain
    # The csv module leaves a lone carriage return unquoted, where readers take it for the end of a row.
    return str(table.frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))
