"""What no data, no model and no torch is needed to refuse: values of the configuration that nothing could make right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from neuronlens.config.entries import entries
from neuronlens.config.heads import declared, head_option
from neuronlens.config.knobs import everywhere, fits_on_tokens, gates_per_sample, needs_gradients, needs_select
from neuronlens.config.nodes import part
from neuronlens.config.rules import refusal, shown
from neuronlens.config.schema import POOLED, Config
from neuronlens.config.values import faults
from neuronlens.errors import ConfigError

SEEDS = ("dataset.seed", "model.finetune.seed")
"""Values that are those of `seed` unless they are set."""


class Problem(NamedTuple):
    """A key whose value cannot be right, and the sentence that says so."""

    key: str
    sentence: str


class Between(NamedTuple):
    """A rule between several keys; it is asked only where none of them has a problem of its own.

    Attributes:
        keys: those that it reads; one that ends in a dot stands for all below it.
        fault: gives the sentence, or None where the rule holds.
    """

    keys: tuple[str, ...]
    fault: Callable[[Config], str | None]


def check(config: Config) -> None:
    """Refuse values that no data or model could make right.

    Raises:
        ConfigError: every value found wrong, a line each, with what was expected.
    """
    refuse(problems(config))


def refuse(found: Iterable[Problem]) -> None:
    """Raise all problems as one error; do nothing where there is none.

    Raises:
        ConfigError: one sentence per problem, a line each.
    """
    sentences = list(dict.fromkeys(problem.sentence for problem in found))
    if sentences:
        raise ConfigError("\n".join(sentences))


def problems(config: Config, beside: Sequence[Problem] = ()) -> list[Problem]:
    """Return every problem of a configuration: of each value by itself, then between values.

    Args:
        beside: problems that are known already, of the parts' own arguments.
    """
    found = [*faults_of_values(config), *beside]
    wrong = {problem.key for problem in found}
    for rule in BETWEEN:
        if any(key == name or (name.endswith(".") and key.startswith(name)) for key in wrong for name in rule.keys):
            continue
        sentence = rule.fault(config)
        if sentence is not None:
            found.append(Problem(rule.keys[0], sentence))
    return found


def faults_of_values(config: Config) -> list[Problem]:
    """Return every problem of each value by itself."""
    found = [
        Problem(entry.key, sentence)
        for entry in entries(config)
        for sentence in faults(entry.key, entry.value, entry.wanted)
    ]
    # `dataset.seed` and the like are the run's `seed` where nothing else is typed: one wrong value is one problem.
    own = {problem.sentence for problem in found if problem.key == "seed"}
    inherited = {f"{key} {sentence.partition(' ')[2]}" for key in SEEDS for sentence in own}
    return [problem for problem in found if problem.sentence not in inherited]


def _one_position_to_edit(config: Config) -> str | None:
    if config.intervention.edit_positions != "record" or config.model.record_position not in POOLED:
        return None
    return (
        "intervention.edit_positions is 'record', which needs one position to edit, and model.record_position is "
        f"'{config.model.record_position}', which pools them all. Next: intervention.edit_positions=all, or "
        "model.record_position=cls or last."
    )


def _labels_of_a_head(config: Config) -> str | None:
    if config.model.labels is None:
        return None
    if declared(config.model.head).get("prompted"):
        return (
            f"model.labels names the logits of a classification head, and model.head={config.model.head} has none. Next: leave "
            "it out; dataset.prompt.labels names the words of a concept."
        )
    if config.model.finetune.blocks is not None:
        return (
            "model.labels names the logits of a checkpoint's own head, and model.finetune.blocks trains a new one. Next: leave "
            "model.labels out, or model.finetune.blocks=null."
        )
    return None


def _tokens_to_average(config: Config) -> str | None:
    if config.model.record_position == "mean":
        return None
    try:
        gates = gates_per_sample(config)
    except ConfigError:
        return None  # a gate that cannot be built is a problem of its own
    if not gates:
        return None
    found = config.model.record_position
    return (
        f"Gate '{gates[0]}' decides for whole samples from the mean of their tokens, and model.record_position is "
        f"{'what the head reads' if found is None else repr(found)}, so it would be fitted on other vectors. Next: "
        "model.record_position=mean and intervention.edit_positions=all."
    )


def _tokens_to_count(config: Config) -> str | None:
    if fits_on_tokens(config):
        return None
    try:
        gates = [
            name for name in everywhere(config, "gate") if getattr(part(config, "gate", name), "reads_tokens", False)
        ]
    except ConfigError:
        return None  # a gate that cannot be built is a problem of its own
    if not gates:
        return None
    return (
        f"Gate '{gates[0]}' counts a text's tokens, and record vectors are what is fitted on. Next: "
        "intervention.fit_positions=tokens and intervention.edit_positions=all."
    )


def _gradients_of_the_plain_model(config: Config) -> str | None:
    if config.layers.mode != "incremental":
        return None
    try:
        asked = needs_gradients(config)
    except ConfigError:
        return None  # a ranker that cannot be built is a problem of its own
    if not asked:
        return None
    return (
        "saliency=gradient is taken in the unedited model, and layers.mode=incremental ranks under the earlier layers' edits. "
        "Next: layers.mode=each or together, or another saliency."
    )


def _two_columns(config: Config) -> str | None:
    if config.dataset.text_column != config.dataset.label_column:
        return None
    return (
        f"dataset.text_column and dataset.label_column are both {shown(config.dataset.label_column)}, expected two "
        "columns: a text that holds its own label gives every concept away."
    )


def _samples_to_choose_on(config: Config) -> str | None:
    count = config.dataset.samples_per_concept.select
    if count >= 2 or not needs_select(config):
        return None
    return (
        "A gate's threshold, covariance=selected and evaluation.select are chosen on the select split, and "
        f"dataset.samples_per_concept.select is {count}, expected at least 2."
    )


def _samples_to_train_on(config: Config) -> str | None:
    count = config.dataset.samples_per_concept.train
    if config.model.finetune.blocks is None or count >= 1:
        return None
    return (
        f"Fine-tuning needs examples, and dataset.samples_per_concept.train is {count}. Next: give it some, or "
        "model.finetune.blocks=null for a model that has its head."
    )


def _words_to_be_confident_of(config: Config) -> str | None:
    if config.model.confidence != "first_token":
        return None
    head = head_option(config.model)
    if "confidence" in head.parameters:
        return None
    return (
        f"model.confidence=first_token needs a head that reads words, and model.head is '{head.name}'. Next: "
        "model.confidence=labels."
    )


def _one_token_is_taught(config: Config) -> str | None:
    head = config.model.head_options.get(config.model.head) or declared(config.model.head)
    if config.model.finetune.blocks is None or "max_new_tokens" not in head:
        return None
    return (
        f"model.head={config.model.head} reads an answer of several tokens, and fine-tuning teaches the model one token per "
        "concept. Next: model.head=label_token, or model.finetune.blocks=null."
    )


def _layers_ranked_as_one(config: Config) -> str | None:
    if config.intervention.scope != "model" or config.layers.mode == "together":
        return None
    return (
        "intervention.scope=model ranks all layers as one, and layers.mode is "
        f"'{config.layers.mode}'. Next: layers.mode=together."
    )


def _examples_drawn_or_written(config: Config) -> str | None:
    prompt = config.dataset.prompt
    if not (prompt.shots and prompt.examples):
        return None
    return refusal("dataset.prompt.shots", prompt.shots, "0 beside written examples (dataset.prompt.examples)")


def _prose_to_read(config: Config) -> str | None:
    documents = config.evaluation.general.documents
    if not config.evaluation.general.perplexity or documents.path or documents.wheel or documents.hub:
        return None
    return (
        "evaluation.general.perplexity is on, and evaluation.general.documents names no source. Next: "
        "evaluation.general.documents.path=<file or folder of prose>."
    )


def _questions_to_ask(config: Config) -> str | None:
    questions = config.evaluation.general.questions
    if not config.evaluation.general.mmlu or questions.path or questions.wheel or questions.hub:
        return None
    return (
        "evaluation.general.mmlu is on, and evaluation.general.questions names no source. Next: "
        "evaluation.general.questions.path=<folder of MMLU's format>."
    )


def _chosen_of_the_sweep(knob: str) -> Callable[[Config], str | None]:
    def fault(config: Config) -> str | None:
        general, known = config.evaluation.general, everywhere(config, knob)
        strange = [value for value in getattr(general, knob) or [] if value not in known]
        if not strange or not (general.perplexity or general.mmlu):
            return None
        return refusal(f"evaluation.general.{knob}", strange[0], f"values that the sweep has, here {known}")

    return fault


BETWEEN = (
    Between(("dataset.text_column", "dataset.label_column"), _two_columns),
    Between(("intervention.edit_positions", "model.record_position"), _one_position_to_edit),
    Between(
        ("dataset.samples_per_concept.select", "evaluation.select", "intervention.", "sweep.", "gate.", "edit."),
        _samples_to_choose_on,
    ),
    Between(("dataset.samples_per_concept.train", "model.finetune.blocks"), _samples_to_train_on),
    Between(
        ("intervention.fit_positions", "intervention.edit_positions", "intervention.gate", "sweep."), _tokens_to_count
    ),
    Between(("model.labels", "model.head", "model.finetune.blocks"), _labels_of_a_head),
    Between(("layers.mode", "saliency", "sweep."), _gradients_of_the_plain_model),
    Between(("model.record_position", "intervention.gate", "intervention.gate_grain", "sweep."), _tokens_to_average),
    Between(("model.confidence", "model.head"), _words_to_be_confident_of),
    Between(("model.head", "model.finetune.blocks", "model.head_options"), _one_token_is_taught),
    Between(("intervention.scope", "layers.mode"), _layers_ranked_as_one),
    Between(("dataset.prompt.shots", "dataset.prompt."), _examples_drawn_or_written),
    Between(("evaluation.general.perplexity", "evaluation.general.documents."), _prose_to_read),
    Between(("evaluation.general.mmlu", "evaluation.general.questions."), _questions_to_ask),
    Between(
        ("evaluation.general.top_fraction", "intervention.top_fraction", "sweep."), _chosen_of_the_sweep("top_fraction")
    ),
    Between(("evaluation.general.tau", "range.tau", "sweep."), _chosen_of_the_sweep("tau")),
)
"""The rules that no single value breaks."""
