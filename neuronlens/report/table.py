"""Tables for papers, pages and terminals: one record, which the renderers write as Markdown, LaTeX, CSV or rich."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from neuronlens.errors import ConfigError, unknown


@dataclass(frozen=True)
class Column:
    """How one column of a table's frame is shown to people.

    Attributes:
        name: the frame's column; where `interval` is set `<name>_low` and `<name>_high` stand behind the value.
        heading: over the column.
        group: a second heading over neighbouring columns of the same group; empty for none.
        format: of a number, as Python's `format` takes it (`.3f`, `+.3f`, `.0%`, `d`); text is shown as it is.
        best: which value is printed bold, `high` or `low`; ties as printed are all bold; empty for none.
        rivals: a word; columns that share it compete within each row. Empty: the rows of a row group compete.
        wrap_cm: width in LaTeX of a column of long text, which is then broken into lines; 0 for none.
        align: empty sets numbers to the right and text to the left.
        otherwise: a column of the frame whose text is shown where the value is null; a dash without one.
        styles: text -> the style that a terminal shows it in.
    """

    name: str
    heading: str
    group: str = ""
    format: str = ""
    interval: bool = False
    best: Literal["", "high", "low"] = ""
    rivals: str = ""
    wrap_cm: float = 0.0
    align: Literal["", "left", "right"] = ""
    otherwise: str = ""
    styles: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of the frame that it shows."""
        ends = (f"{self.name}_low", f"{self.name}_high") if self.interval else ()
        return (self.name, *ends, *([self.otherwise] if self.otherwise else ()))

    @property
    def title(self) -> str:
        """The heading where a table has one line of them: a group's heading leads."""
        return f"{self.group}: {self.heading}" if self.group else self.heading


@dataclass(frozen=True)
class Table:
    """A table and how it is laid out.

    Attributes:
        name: stem of the files and the LaTeX label (`tab:<name>`): letters, digits, `-`, `_` and `.`.
        title: its heading in Markdown, the first words of its caption in LaTeX.
        caption: what is shown; a blank line separates paragraphs.
        frame: raw numbers and text in tidy columns, all of which go to the CSV; rows in the order shown.
        columns: those shown, left to right.
        row_groups: the first shown columns' names whose value is printed once per run of equal rows (model, dataset).
        ruled: columns of the frame; a rule is drawn where one of them changes. Empty: where the first row group does.
        notes: below the table, one paragraph each.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    row_groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ruled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the layout against the frame.

        Raises:
            ConfigError: a column that the frame does not hold, a name that is no file stem, misplaced row groups.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ConfigError(f"A table's name is a file stem of letters, digits, '-', '_' and '.'; got '{self.name}'.")
        if not self.columns:
            raise ConfigError(f"Table '{self.name}' shows no column. Expected one Column or more.")
        for needed in (*(name for column in self.columns for name in column.needs), *self.ruled):
            if needed not in self.frame.columns:
                raise ConfigError(unknown(f"column of table '{self.name}'", needed, map(str, self.frame.columns)))
        first = tuple(column.name for column in self.columns[: len(self.row_groups)])
        if first != tuple(self.row_groups):
            raise ConfigError(f"Row groups are the first columns shown; got {self.row_groups}, expected {first}.")

    @property
    def right_aligned(self) -> list[bool]:
        """Which of the columns shown are set to the right."""
        return [
            column.align == "right" or (not column.align and is_number(column, self.frame)) for column in self.columns
        ]


def is_number(column: Column, frame: pd.DataFrame) -> bool:
    """Return whether a column shows numbers."""
    return bool(column.format) or column.interval or pd.api.types.is_numeric_dtype(frame[column.name])


def frame_of(rows: Sequence[Mapping[str, object]], columns: Sequence[Column], *more: str) -> pd.DataFrame:
    """Return rows as a frame that holds what the columns show, and `more`, even where there is no row."""
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*(n for column in columns for n in column.needs), *more])))
