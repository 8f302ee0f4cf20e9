"""The manifest of a run: what its results were made from, by what and on what, in `manifest.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from neuronlens.config.compose import restore
from neuronlens.config.schema import Config
from neuronlens.config.schema_data import PromptExample
from neuronlens.config.stored import completed, dotted, known_part
from neuronlens.errors import ConfigError, OutputError, reason
from neuronlens.results.formats import FORMAT, brought_up_to_date
from neuronlens.storage.files import json_types, write_json

NAME = "manifest.json"


@dataclass(frozen=True)
class Prompt:
    """What a language model was asked with.

    Attributes:
        text: the prompt with `{text}` in the place of what is asked about.
        labels: what follows it, per concept.
        examples: shown before the text.
    """

    text: str = ""
    labels: tuple[str, ...] = ()
    examples: tuple[PromptExample, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What a run rests on. Only the config stands in every manifest; what was not recorded is empty or None.

    Attributes:
        stored_config: the run's whole config as JSON types, as it was written.
        run_id: run name, date, job and a short fingerprint (`provenance.run_id`); no other run has it.
        seed: the config's.
        fingerprints: of `model`, `data` and `fitting`.
        concepts: their names, in the order of the model's labels.
        dropped_concepts: why concepts were left out, by name.
        near_duplicates: how many examples were left out because the model reads the same of another one.
        model_type: the model's family, as transformers calls it.
        layer_count: how many blocks the model has.
        model_folder: where the model was loaded from or kept; None for a hub id.
        max_length: tokens of a text that the model reads.
        prompt: of a language model that is asked in words; None where the text alone is read.
        fitting: which positions everything was fitted on, whether each text's first token was left out, and how many
            tokens were kept of how many.
        admission: what was found in the model, what was checked before any number, and the paths that were taken.
        base_correct: one row per (split, concept): how many samples the unedited model answers right.
        correct_sets: fingerprint of those samples, by split.
        timings_s: seconds per stage, and in total.
        peak_memory_gib: the most memory that the process held.
        smaller_batches: the size that fitted, where the device had no memory for a forward's, by what it counts.
        versions: of Python and of the libraries.
        git_revision: of the package's repository; None outside of one.
        machine: in words.
        command: the command line.
    """

    stored_config: Mapping[str, Any]
    run_id: str = ""
    seed: int | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    concepts: tuple[str, ...] = ()
    dropped_concepts: Mapping[str, str] = field(default_factory=dict)
    near_duplicates: int = 0
    model_type: str | None = None
    layer_count: int | None = None
    model_folder: str | None = None
    max_length: int | None = None
    prompt: Prompt | None = None
    fitting: Mapping[str, Any] = field(default_factory=dict)
    admission: Mapping[str, Any] = field(default_factory=dict)
    base_correct: tuple[Mapping[str, str | float | None], ...] = ()
    correct_sets: Mapping[str, str] = field(default_factory=dict)
    timings_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_gib: float | None = None
    smaller_batches: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    git_revision: str | None = None
    machine: str = ""
    command: tuple[str, ...] = ()

    @cached_property
    def config(self) -> Config:
        """The run's config, checked: good to run or to edit with.

        Raises:
            ConfigError: it holds what this version does not know.
        """
        try:
            return restore(self.stored_config)
        except ConfigError as error:
            raise ConfigError(
                f"The config of run '{self.run_id}' does not hold in this version of neuronlens: {error} Its tables still "
                "open in neuronlens report and neuronlens compare."
            ) from error

    @cached_property
    def _known(self) -> tuple[Config, dict[str, Any]]:
        return known_part(self.stored_config)

    @property
    def known_config(self) -> Config:
        """The run's config as far as this version knows it, unchecked: good to show and to compare what a run did."""
        return self._known[0]

    @property
    def unknown_settings(self) -> tuple[str, ...]:
        """Dotted names of the settings that this version does not know."""
        return tuple(dotted(self._known[1]))

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The run's config as JSON types: every setting of this version, and those that it does not know."""
        config, unknown = self._known
        return completed(json_types(config), unknown)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into a run folder.

        Raises:
            OutputError: it cannot be written.
        """
        content = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        content["config"] = content.pop("stored_config")
        write_json(folder / NAME, content | {"format": FORMAT})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Return the manifest of a run folder; one of an older format is brought to today's.

        Raises:
            OutputError: there is none, it is no manifest, or it has a newer format.
        """
        try:
            content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(f"'{folder}' is not the folder of a finished run: {NAME}: {reason(error)}.") from error
        if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
            raise OutputError(f"'{folder / NAME}' is not the manifest of a run: it holds no config.")
        content = brought_up_to_date(content, str(folder))
        known = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in content.items() if name in known and value is not None}
        for name in ("concepts", "base_correct", "command"):
            given[name] = tuple(given.get(name, ()))
        if "prompt" in given:
            given["prompt"] = _prompt(given["prompt"])
        return cls(stored_config=content["config"], **given)


def _prompt(stored: Mapping[str, Any]) -> Prompt:
    examples = tuple(PromptExample(**example) for example in stored.get("examples", ()))
    return Prompt(stored.get("text", ""), tuple(stored.get("labels", ())), examples)
