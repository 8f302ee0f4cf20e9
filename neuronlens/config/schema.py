"""The typed configuration: one dataclass per Hydra group, and the names and lists that its values come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from neuronlens.config.schema_data import DatasetConfig
from neuronlens.config.schema_evaluation import EvaluationConfig
from neuronlens.config.schema_run import LoggerConfig, PathsConfig, TrainerConfig

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
EDIT_POSITIONS = ("record", "all", "prompt", "generated")
POOLED = ("mean", "max", "live_mean")
RECORD_POSITIONS = ("cls", "last", *POOLED)
HEADS = ("seq_cls", "label_token", "label_logprob", "generation")
DEFAULT_TAU = 2.5
COVARIANCES = ("empirical", "shrunk", "ledoit_wolf")


@dataclass
class FinetuneConfig:
    """Training of the head and the top `blocks` from the stored states of the frozen prefix; null trains nothing.

    A language model is trained on `template`, `{text}` and an end, to say one new token per concept after it.
    """

    blocks: int | None = None
    template: str = "{text} <sep>"
    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1
    seed: int = 0


@dataclass
class ModelConfig:
    """A transformers model from a local folder, a wheel (`wheel` + `folder`) or a hub id, first one set; `gguf` is a
    file in the local folder or the wheel, dequantised once.

    `confidence`: over what a label's probabilities add up to 1; `parse` and `max_new_tokens` are the generation
    head's: how an answer is matched with the labels, and how long it may be.
    """

    name: str = "model"
    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    folder: str | None = None
    gguf: str | None = None
    hub: str | None = None
    revision: str | None = None
    head: str = "seq_cls"
    confidence: str = "labels"
    parse: str = "first_line"
    max_new_tokens: int = 8
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
class Config:
    """One run of the pipeline; `quiet` leaves nothing on the console but warnings and errors."""

    run_name: str = "run"
    seed: int = 0
    quiet: bool = False
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
