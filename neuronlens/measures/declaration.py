"""What is declared of a column of the results, and the lists that follow from the declarations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal, get_args

import pandas as pd

from neuronlens.measures.estimates import ENDS

Kind = Literal["identity", "knob", "measure", "extra"]
Identity = Literal["run", "concept", "count", "record"]
Knob = Literal["place", "method", "range", "dose", "share"]
Measure = Literal["level", "base", "erasure", "collateral", "balance", "change"]
Extra = Literal["extent", "recovery"]
Role = Identity | Knob | Measure | Extra
KINDS: dict[str, Kind] = {
    **dict.fromkeys(get_args(Identity), "identity"),
    **dict.fromkeys(get_args(Knob), "knob"),
    **dict.fromkeys(get_args(Measure), "measure"),
    **dict.fromkeys(get_args(Extra), "extra"),
}


@dataclass(frozen=True)
class ResultColumn:
    """One column of the results.

    Attributes:
        key: its name in every file.
        role: what part it plays. Of a knob: `place` (where the edit is made: methods are compared with these equal),
            `method`, `range` (what a range mask has of its own beside the neuron mask), `dose` (along which a method's
            curve may run) or `share` (a dose in other words). Of a measure: `level` (under the edit), `base` (unedited),
            `erasure`, `collateral` (what the other concepts pay), `balance` of both, or other `change`. Figures of a cell
            that have no interval: `extent` (how far the edit reaches) or `recovery` (what a probe still reads).
        about: what it holds, in one sentence.
        label: as a heading or an axis shows it; the key in words where it is empty.
        short: its name where the context says the rest, such as `accuracy` under "cost to the other concepts".
        published: the paper's name of a measure.
        unit: of its numbers; empty for shares and plain counts.
        better: which values of a measure are better.
        dtype: the pandas type of the column, where it is not the one that pandas finds.
        behind: stands behind the measures in the results file, where scripts that count columns do not meet it.
        derived: follows from another knob, so it is not shown beside that.
        tuned: one of those whose best value is looked for on the select split.
        words: how a knob's value stands in a method's name, `{}` for the value.
        code: the same in keys that programs read.
        percent: a share that names show as a percentage.
        neutral: the value that names leave out.
        apart: names hold the knob only where a table has several of its values.
    """

    key: str
    role: Role
    about: str
    _: KW_ONLY
    label: str = ""
    short: str = ""
    published: str = ""
    unit: str = ""
    better: Literal["", "high", "low"] = ""
    dtype: str = ""
    behind: bool = False
    derived: bool = False
    tuned: bool = False
    words: str = "{}"
    code: str = "{}"
    percent: bool = False
    neutral: float | None = None
    apart: bool = False

    @property
    def kind(self) -> Kind:
        """Whether it says which row this is, what was done, or what came of it: `identity`, `knob`, `measure` or `extra`."""
        return KINDS[self.role]

    @property
    def heading(self) -> str:
        """Its label, or its key in words."""
        return self.label or self.key.replace("_", " ")

    @property
    def ends(self) -> tuple[str, str]:
        """The columns of its interval's bounds."""
        return f"{self.key}{ENDS[1]}", f"{self.key}{ENDS[2]}"


@dataclass(frozen=True)
class Columns:
    """Declared columns in the order in which people read them; every list of columns follows from it."""

    declared: tuple[ResultColumn, ...]

    def __post_init__(self) -> None:
        """Assert that no column is declared twice."""
        keys = [column.key for column in self.declared]
        assert len(set(keys)) == len(keys), "each column is declared once"

    def __getitem__(self, key: str) -> ResultColumn:
        """Return a column's declaration.

        Raises:
            KeyError: it has none.
        """
        return self._by_key[key]

    @cached_property
    def _by_key(self) -> dict[str, ResultColumn]:
        return {column.key: column for column in self.declared}

    def keys(self, *roles: Role, kind: Kind | None = None) -> list[str]:
        """Return the columns of these roles, or of a kind, in the order declared."""
        return [column.key for column in self.declared if column.role in roles or column.kind == kind]

    @property
    def method(self) -> list[str]:
        """The columns in which the methods of a run differ: every knob, first where the edit is made, last its dose."""
        return [*self.keys("place"), *self.keys("method", "range"), *self.keys("dose"), *self.keys("share")]

    @property
    def settings(self) -> list[str]:
        """The knobs as a person sets them: a method's without those that follow from another one."""
        return [key for key in self.method if not self[key].derived]

    @property
    def curve(self) -> list[str]:
        """What all points of a method's curve share: a method without its dose."""
        return [key for key in self.method if self[key].role not in ("dose", "share")]

    @property
    def family(self) -> list[str]:
        """What is left of a method once the select split has chosen among its cells."""
        return [key for key in self.method if not self[key].tuned]

    @property
    def front(self) -> list[str]:
        """The columns before the measures in the results file."""
        return [column.key for column in self.declared if column.kind != "measure" and not column.behind]

    @property
    def behind(self) -> list[str]:
        """The columns behind the measures and their intervals in the results file."""
        return [column.key for column in self.declared if column.behind]

    @property
    def measures(self) -> list[str]:
        """Every measure."""
        return self.keys(kind="measure")

    @property
    def in_file(self) -> list[str]:
        """The columns of the results file, left to right."""
        ends = [end for key in self.measures for end in self[key].ends]
        return [*self.front, *self.measures, *ends, *self.behind]

    def dtypes(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the pandas types of those columns that declare one."""
        return {key: self[key].dtype for key in keys if key in self._by_key and self[key].dtype}

    def completed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table of methods or cells with the knobs it lacks as null columns.

        Runs of an older version have no column for a knob that was added since.
        """
        missing = [key for key in self.method if key not in table]
        return table.assign(**dict.fromkeys(missing)) if missing and len(table.columns) else table


def leading(keys: Sequence[str], *first: str) -> list[str]:
    """Return some of the keys first, in the order given, then all others as they were.

    >>> leading(["a", "b", "c"], "c", "z")
    ['c', 'a', 'b']
    """
    front = [key for key in first if key in keys]
    return front + [key for key in keys if key not in front]
