"""What no data, no model and no torch is needed to refuse: values of the configuration that nothing could make right."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from neuronlens.config.heads import head_option
from neuronlens.config.schema import (
    CONTROLS,
    COVARIANCES,
    EDIT_POSITIONS,
    EDITS,
    GATES,
    LAYER_MODES,
    LOGGERS,
    POOLED,
    QUESTION_EDIT_POSITIONS,
    RECORD_POSITIONS,
    SCOPES,
    SITES,
    Config,
    GridConfig,
    everywhere,
)
from neuronlens.errors import ConfigError, unknown


def check(config: Config) -> None:
    """Refuse values that no data or model could make right.

    Raises:
        ConfigError: the first value found wrong, with what was expected.
    """
    for grid in (config.sweep, *config.sweep.methods):
        for entry in fields(GridConfig):
            if getattr(grid, entry.name) == []:
                raise ConfigError(f"sweep.{entry.name} is an empty list. Give at least one value, or null.")
    if config.sweep.layers == []:
        raise ConfigError("sweep.layers is an empty list. Give at least one layer, or null.")
    for kind, names, known in (
        ("gate", everywhere(config, "gate"), GATES),
        ("edit", everywhere(config, "edit"), EDITS),
        ("control", everywhere(config, "control"), CONTROLS),
        ("edit_positions", [config.intervention.edit_positions], EDIT_POSITIONS),
        ("scope", [config.intervention.scope], SCOPES),
        ("covariance", [config.intervention.covariance], COVARIANCES),
        ("layers.site", [config.layers.site], SITES),
        ("layers.mode", [config.layers.mode], LAYER_MODES),
        ("model.confidence", [config.model.confidence], ("labels", "first_token")),
        ("model.parse", [config.model.parse], ("first_line", "first_word", "contains")),
        ("logger.kind", config.logger.kind.split("+"), LOGGERS),
        ("evaluation.fit_on", [config.evaluation.fit_on], ("all", "correct")),
        ("evaluation.select", [config.evaluation.select], ("none", "matched_erasure")),
        (
            "evaluation.general.questions.edit_positions",
            [config.evaluation.general.questions.edit_positions],
            QUESTION_EDIT_POSITIONS,
        ),
        ("dataset.rare_concepts", [config.dataset.rare_concepts], ("error", "drop")),
        ("model.dtype", [config.model.dtype], ("float32", "float64", "bfloat16", "float16")),
        ("trainer.accelerator", [config.trainer.accelerator], ("auto", "cpu", "gpu", "cuda")),
        ("model.record_position", [config.model.record_position or "cls"], RECORD_POSITIONS),
    ):
        for name in names:
            if name not in known:
                raise ConfigError(unknown(kind, str(name), known))
    for fraction in everywhere(config, "top_fraction"):
        _require("top_fraction", fraction, 0.0 <= fraction <= 1.0, "a fraction in [0, 1]")
    for tau in everywhere(config, "tau"):
        _require("tau", tau, tau is None or tau >= 0, "a number >= 0 (inf is the whole neuron)")
    for strength in everywhere(config, "strength"):
        _require("strength", strength, math.isfinite(strength), "a finite number")
    _require("intervention.beta", config.intervention.beta, 0 <= config.intervention.beta < 1, "a factor in [0, 1)")
    if config.intervention.top_count is not None:
        _require("intervention.top_count", config.intervention.top_count, config.intervention.top_count >= 0, ">= 0")
    _check_numbers(config)
    _check_general(config)
    positions, record = config.intervention.edit_positions, config.model.record_position
    if positions == "record" and record in POOLED:
        raise ConfigError(
            f"edit_positions 'record' needs one position to edit, and model.record_position is '{record}', which pools "
            "them all. Next: intervention.edit_positions=all, or model.record_position=cls or last."
        )
    needs_select = "joint" in everywhere(config, "gate") or config.evaluation.select != "none"
    if needs_select and config.dataset.samples_per_concept.select < 2:
        raise ConfigError(
            "The joint gate's threshold and evaluation.select are chosen on the select split, and "
            f"dataset.samples_per_concept.select is {config.dataset.samples_per_concept.select}, expected at least 2."
        )
    head = head_option(config.model)
    if config.model.confidence == "first_token" and "confidence" not in head.parameters:
        raise ConfigError(
            f"model.confidence=first_token needs a head that reads words, and model.head is '{head.name}'. Next: "
            "model.confidence=labels."
        )
    if config.intervention.scope == "model" and config.layers.mode != "together":
        raise ConfigError("intervention.scope=model ranks all layers as one. Next: layers.mode=together.")


def _check_numbers(config: Config) -> None:
    samples, model, evaluation = config.dataset.samples_per_concept, config.model, config.evaluation
    _require("seed", config.seed, config.seed >= 0, "a whole number >= 0")
    _require("model.finetune.seed", model.finetune.seed, model.finetune.seed >= 0, "a whole number >= 0")
    threads = config.trainer.threads
    _require("trainer.threads", threads, threads is None or threads >= 1, "at least 1, or null")
    budget = config.trainer.state_budget_gib
    _require("trainer.state_budget_gib", budget, budget > 0, "> 0")
    for split in ("fit", "test"):
        count = getattr(samples, split)
        _require(f"dataset.samples_per_concept.{split}", count, count >= 2, "at least 2")
    for split in ("train", "select"):
        count = getattr(samples, split)
        _require(f"dataset.samples_per_concept.{split}", count, count >= 0, ">= 0")
    _require("dataset.min_samples", config.dataset.min_samples, config.dataset.min_samples >= 1, "at least 1")
    prompt = config.dataset.prompt
    _require("dataset.prompt.template", repr(prompt.template), prompt.template.count("{text}") == 1, "one {text} in it")
    shots = prompt.shots == 0 or (prompt.shots > 0 and not prompt.examples)
    _require("dataset.prompt.shots", prompt.shots, shots, ">= 0 in total, and 0 beside written examples")
    for name in ("max_text_tokens", "max_shot_tokens"):
        count = getattr(prompt, name)
        _require(f"dataset.prompt.{name}", count, count is None or count >= 1, "at least 1 token")
    _require("model.max_new_tokens", model.max_new_tokens, model.max_new_tokens >= 1, "at least 1 token")
    _require("model.max_length", model.max_length, model.max_length >= 1, "at least 1 token")
    _require("model.batch_size", model.batch_size, model.batch_size >= 1, "at least 1")
    _require("evaluation.bootstrap", evaluation.bootstrap, evaluation.bootstrap >= 0, ">= 0 (0 leaves intervals out)")
    _require("evaluation.level", evaluation.level, 0 < evaluation.level < 1, "a share in (0, 1)")
    _require("evaluation.tokens_per_forward", evaluation.tokens_per_forward, evaluation.tokens_per_forward >= 1, ">= 1")
    below = evaluation.samples_below_last
    _require("evaluation.samples_below_last", below, below is None or below >= 1, "at least 1, or null for all")
    for erasure in evaluation.erasure_levels:
        _require("evaluation.erasure_levels", erasure, 0 < erasure <= 1, "shares of the base accuracy in (0, 1]")
    tune = model.finetune
    if tune.blocks is not None:
        _require("model.finetune.blocks", tune.blocks, tune.blocks >= 0, ">= 0 (0 trains the head alone)")
        slots = tune.template.count("{text}")
        _require("model.finetune.template", repr(tune.template), slots == 1, "one {text} in it")
        _require("model.finetune.epochs", tune.epochs, tune.epochs >= 1, "at least 1")
        _require("model.finetune.batch_size", tune.batch_size, tune.batch_size >= 1, "at least 1")
        _require("model.finetune.learning_rate", tune.learning_rate, tune.learning_rate > 0, "> 0")
        _require("model.finetune.warmup_fraction", tune.warmup_fraction, 0 <= tune.warmup_fraction < 1, "in [0, 1)")
        if samples.train < 1:
            raise ConfigError(
                "Fine-tuning needs examples, and dataset.samples_per_concept.train is "
                f"{samples.train}. Next: give it some, or model.finetune.blocks=null for a model that has its head."
            )


def _check_general(config: Config) -> None:
    general = config.evaluation.general
    prefix, documents, questions = "evaluation.general", general.documents, general.questions
    for name, source in (("documents", documents), ("questions", questions)):
        limit = source.limit
        _require(f"{prefix}.{name}.limit", limit, limit is None or limit >= 1, "at least 1, or null for all")
        _require(f"{prefix}.{name}.max_length", source.max_length, source.max_length >= 2, "at least 2 tokens")
        _require(f"{prefix}.{name}.seed", source.seed, source.seed >= 0, "a whole number >= 0")
    windows = documents.max_windows
    _require(f"{prefix}.documents.max_windows", windows, windows is None or windows >= 1, "at least 1, or null for all")
    _require(f"{prefix}.questions.shots", questions.shots, questions.shots >= 0, ">= 0")
    for name in ("top_fraction", "tau", "concepts"):
        if getattr(general, name) == []:
            raise ConfigError(f"{prefix}.{name} is an empty list. Give at least one value, or null for every cell.")
    if general.perplexity and not (documents.path or documents.wheel or documents.hub):
        raise ConfigError(
            f"{prefix}.documents names no source. Next: {prefix}.documents.path=<file or folder of prose>."
        )
    if general.mmlu and not (questions.path or questions.wheel or questions.hub):
        raise ConfigError(
            f"{prefix}.questions names no source. Next: {prefix}.questions.path=<folder of MMLU's format>."
        )
    if not (general.perplexity or general.mmlu):
        return
    for name in ("top_fraction", "tau"):
        for value in getattr(general, name) or []:
            known = everywhere(config, name)
            _require(f"{prefix}.{name}", value, value in known, f"values that the sweep has, here {known}")


def _require(name: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value}, expected {expected}.")
