"""Rules for lists, mappings, joined names and null, each made of a rule for what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuronlens.config.rules import OneOf, Rule, refusal, shown


@dataclass(frozen=True)
class ListOf(Rule):
    """A list of at least so many entries, each of which holds a rule."""

    entry: Rule
    least: int = 1

    @property
    def _least(self) -> str:
        return {1: "one", 2: "two"}.get(self.least, str(self.least))

    @property
    def _noun(self) -> str:
        return "value" if self.least == 1 else "values"

    @property
    def words(self) -> str:
        """How many entries, and what each must hold."""
        return f"{f'{self._least} or more, ' if self.least else ''}each {self.entry.words}"

    def holds(self, value: Sequence[Any]) -> bool:
        """Return whether there are enough entries and each holds."""
        return len(value) >= self.least and all(map(self.entry.holds, value))

    def faults(self, key: str, value: Sequence[Any]) -> list[str]:
        """Return one sentence per problem, each once."""
        if not value and self.least:
            return [f"{key} is an empty list. Give at least {self._least} {self._noun}, or null."]
        if len(value) < self.least:
            return [refusal(key, list(value), self.words)]
        return list(dict.fromkeys(fault for entry in value for fault in self.entry.faults(key, entry)))


@dataclass(frozen=True)
class Distinct(Rule):
    """A list that holds a rule and no entry twice."""

    rule: ListOf

    @property
    def words(self) -> str:
        """The rule's words, and that each entry stands once."""
        return f"{self.rule.words}, none twice"

    def holds(self, value: Sequence[Any]) -> bool:
        """Return whether the rule holds and all entries differ."""
        return self.rule.holds(value) and len(set(value)) == len(value)

    def faults(self, key: str, value: Sequence[Any]) -> list[str]:
        """Return the rule's problems, and one sentence that names what stands twice."""
        twice = sorted({str(entry) for entry in value if list(value).count(entry) > 1})
        if twice:
            return [f"{key} names {', '.join(map(shown, twice))} twice, expected each once."]
        return self.rule.faults(key, value)


@dataclass(frozen=True)
class ValuesOf(Rule):
    """A mapping each of whose values holds a rule."""

    entry: Rule

    @property
    def words(self) -> str:
        """What each value must hold."""
        return f"each {self.entry.words}"

    def holds(self, value: Mapping[str, Any]) -> bool:
        """Return whether each value holds."""
        return all(map(self.entry.holds, value.values()))

    def faults(self, key: str, value: Mapping[str, Any]) -> list[str]:
        """Return one sentence per problem, under the value's own key."""
        return [fault for name, entry in value.items() for fault in self.entry.faults(f"{key}.{name}", entry)]


@dataclass(frozen=True)
class Joined(Rule):
    """One name or several in one text, as in `wandb+csv`."""

    names: OneOf
    mark: str = "+"

    @property
    def words(self) -> str:
        """The names, and what joins several."""
        return f"{self.names.words}, or several joined by {self.mark}"

    def holds(self, value: str) -> bool:
        """Return whether every name is known."""
        return all(map(self.names.holds, value.split(self.mark)))

    def faults(self, key: str, value: str) -> list[str]:
        """Return one sentence per unknown name."""
        return [fault for name in dict.fromkeys(value.split(self.mark)) for fault in self.names.faults(key, name)]


@dataclass(frozen=True)
class Nullable(Rule):
    """What holds a rule, or null, with the words for both; `meaning` is what null stands for ("all")."""

    rule: Rule
    meaning: str = ""

    @property
    def words(self) -> str:
        """The rule's words, and null."""
        return f"{self.rule.words}, or null{f' for {self.meaning}' if self.meaning else ''}"

    def holds(self, value: Any) -> bool:
        """Return whether the value is null or holds the rule."""
        return value is None or self.rule.holds(value)
