"""How a prediction is read off a model's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from neuronlens.errors import ModelError
from neuronlens.hooks.masks import prompt_mask, read_index, scored_index
from neuronlens.hooks.readout import log_probability_of, reading
from neuronlens.hooks.replay import forward


@dataclass(frozen=True)
class Reading:
    """What a model says of each sample.

    Attributes:
        log_probabilities: `[sample, concept]`, float32 at least; one more column for all other words where confidence is
            the vocabulary's.
        prediction: concept index `[sample]`; -1 where a generated answer is none of them.
    """

    log_probabilities: Tensor
    prediction: Tensor


class Head(Protocol):
    """What every task head offers."""

    @property
    def name(self) -> str:
        """As in the config."""

    @property
    def reads(self) -> str:
        """The position it reads, `cls` or `last`."""

    @property
    def replays(self) -> bool:
        """Whether stored states suffice; a model that writes runs from its embeddings."""

    @property
    def continuations(self) -> tuple[tuple[int, ...], ...]:
        """Token ids that follow the prompt, per label with more than one token, its last token left out."""

    @property
    def floats_per_sample(self) -> int:
        """Logits that one sample's reading makes, for the memory they take."""

    def index(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the positions whose output the head needs `[sample, read]`."""

    def read(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Reading:
        """Return what the model says of each row of a batch, from one forward."""

    def answer(self, model: nn.Module, inputs: Mapping[str, Tensor], said: Reading) -> Tensor:
        """Return the prediction `[sample]` after that forward: its own, unless the model has to write it first."""


@dataclass(frozen=True)
class SequenceClassification:
    """A trained classification head: one logit per concept, read off one position.

    Attributes:
        reads: the position the head reads, `cls` or `last`.
    """

    reads: str
    name: str = "seq_cls"
    continuations: tuple[tuple[int, ...], ...] = ()
    floats_per_sample: int = 1
    replays: bool = True

    def index(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the one position the head reads `[sample, 1]`."""
        return read_index(inputs["attention_mask"], self.reads)[:, None]

    def read(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Reading:
        """Return the classifier's distribution over concepts and its most probable one."""
        log_probs = log_probabilities(forward(model, inputs))
        return Reading(log_probs, log_probs.argmax(-1))

    def answer(self, model: nn.Module, inputs: Mapping[str, Tensor], said: Reading) -> Tensor:
        """Return the forward's own prediction."""
        return said.prediction


@dataclass(frozen=True)
class LabelScores:
    """A language model asked for a label: its words' probabilities after the prompt.

    `label_token` takes the first token of each label, `label_logprob` the mean log-probability of all its tokens; the
    label with the highest is the prediction. Probabilities are a softmax over the labels, or (`first_token`, the published
    setting) the vocabulary's own for each label's first token, with one more column for every other word.

    Attributes:
        tokens: token ids per label, in concept order.
        vocabulary: number of words.
        confidence: `labels` or `first_token`.
    """

    name: str
    tokens: tuple[tuple[int, ...], ...]
    vocabulary: int
    confidence: str = "labels"
    reads: str = "last"
    replays: bool = True

    @cached_property
    def continuations(self) -> tuple[tuple[int, ...], ...]:
        """Token ids after the prompt, per label of more than one token; none for `label_token`."""
        if self.name == "label_token":
            return ()
        return tuple(tokens[:-1] for tokens in self.tokens if len(tokens) > 1)

    @property
    def floats_per_sample(self) -> int:
        """Logits of one sample: every scored position's over the words that are read."""
        reads = 1 + sum(map(len, self.continuations))
        return reads * (len(self.tokens) if self.words is not None else self.vocabulary)

    @cached_property
    def words(self) -> Tensor | None:
        """Token ids whose logits suffice, or None where the whole vocabulary is needed.

        Labels of one token each are compared by their logits: what normalises them is the same for all.
        """
        if self.confidence == "labels" and not self.continuations:
            return torch.tensor([tokens[0] for tokens in self.tokens])
        return None

    @cached_property
    def _targets(self) -> Tensor:
        """Token ids that are scored `[read, label]`: every label's first, then one further token of a label per row."""
        further = [token for tokens in self.tokens for token in tokens[1:]] if self.continuations else []
        return torch.tensor([[tokens[0] for tokens in self.tokens], *([token] * len(self.tokens) for token in further)])

    @cached_property
    def _owners(self) -> Tensor:
        """Label of each further token `[further]`."""
        return torch.tensor([label for label, tokens in enumerate(self.tokens) for _ in tokens[1:]], dtype=torch.long)

    def index(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the scored positions `[sample, read]`: the last prompt token, then the continuations'."""
        return scored_index(inputs)

    def read(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Reading:
        """Return the labels' distribution and the most probable one."""
        words = None if self.words is None else self.words.to(inputs["input_ids"].device)
        with reading(model, self.index(inputs), words):
            return self.of(forward(model, inputs))

    def answer(self, model: nn.Module, inputs: Mapping[str, Tensor], said: Reading) -> Tensor:
        """Return the forward's own prediction."""
        return said.prediction

    def of(self, logits: Tensor, further: Tensor | None = None) -> Reading:
        """Return the reading behind logits `[..., read, word]` at the scored positions.

        Args:
            further: as `further_tokens` gives it, where it is known already and the logits are the first position's alone.
        """
        if self.words is not None:
            scores = logits[..., 0, :].to(torch.promote_types(logits.dtype, torch.float32))
            return Reading(torch.log_softmax(scores, -1), scores.argmax(-1))
        found = self._scored(logits, self._targets[: logits.shape[-2]])
        first = scores = found[..., 0, :]
        if self.name == "label_logprob":
            further = found[..., 1:, 0] if further is None else further.expand(*first.shape[:-1], -1)
            lengths = torch.tensor([len(tokens) for tokens in self.tokens], device=first.device)
            scores = first.index_add(-1, self._owners.to(first.device), further) / lengths
        if self.confidence == "labels":
            return Reading(torch.log_softmax(scores, -1), scores.argmax(-1))
        rest = torch.log1p(-first.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-7))
        return Reading(torch.cat([first, rest], dim=-1), scores.argmax(-1))

    def further_tokens(self, logits: Tensor) -> Tensor:
        """Return log p of the labels' tokens after the first `[..., further]`, from logits `[..., further, word]`."""
        return self._scored(logits, self._targets[1:])[..., 0]

    def _scored(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return log p `[..., read, label]` of `targets` `[read, label]`."""
        rows = logits.flatten(0, -2)
        found = log_probability_of(rows, targets.to(rows.device).repeat(len(rows) // len(targets), 1))
        return found.view(*logits.shape[:-1], -1)


@dataclass(frozen=True)
class Generation:
    """A language model that writes its answer: greedy, the text after the prompt parsed and matched with the labels.

    Probabilities, for confidence and KL, are those of the labels (`label_logprob`); the prediction is what was written.

    Attributes:
        scores: the labels' probabilities.
        tokenizer: that turns tokens into text.
        answers: the labels' words, in concept order.
        parse: `first_line`, `first_word` or `contains`.
        max_new_tokens: at most so many.
    """

    scores: LabelScores
    tokenizer: Any
    answers: tuple[str, ...]
    parse: str = "first_line"
    max_new_tokens: int = 8
    name: str = "generation"
    reads: str = "last"
    replays: bool = False

    @property
    def continuations(self) -> tuple[tuple[int, ...], ...]:
        """Those of the labels' probabilities."""
        return self.scores.continuations

    @property
    def floats_per_sample(self) -> int:
        """Those of the labels' probabilities."""
        return self.scores.floats_per_sample

    def index(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the scored positions `[sample, read]`."""
        return self.scores.index(inputs)

    def read(self, model: Any, inputs: Mapping[str, Tensor]) -> Reading:
        """Return the labels' distribution, before anything is written."""
        return self.scores.read(model, inputs)

    def answer(self, model: Any, inputs: Mapping[str, Tensor], said: Reading) -> Tensor:
        """Return the index of the label that the model writes after each prompt `[sample]`, -1 for none."""
        prompts = _left_padded(inputs, self.tokenizer.pad_token_id)
        written = model.generate(
            **prompts,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=self.tokenizer.pad_token_id,
        )[:, prompts["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        found = [match(text, self.answers, self.parse) for text in texts]
        return torch.tensor(found, device=written.device)


def match(text: str, answers: Sequence[str], parse: str) -> int:
    """Return the index of the label that a written answer names, or -1.

    Compared without case, outer blanks and final stops; the first label wins that stands there whole.

    Args:
        parse: `first_line` (the whole first line is the label), `first_word`, or `contains` (the label that is named
            first anywhere; of two at one place the longer).

    >>> match(" Sports.\\nText: more", ["World", "Sports"], "first_line"), match("I say sports", ["Sports"], "contains")
    (1, 0)
    """
    plain = [answer.strip().casefold() for answer in answers]
    lines = text.strip().splitlines()
    line = lines[0].strip().casefold() if lines else ""
    if parse == "contains":
        places = [(text.casefold().find(answer), -len(answer), number) for number, answer in enumerate(plain)]
        found = [entry for entry in places if entry[0] >= 0]
        return min(found)[2] if found else -1
    said = (line.split()[0] if line.split() else "") if parse == "first_word" else line
    said = said.strip(" .,:;!?'\"")
    return plain.index(said) if said in plain else -1


def _left_padded(inputs: Mapping[str, Tensor], pad_id: int) -> dict[str, Tensor]:
    """Return the prompts alone, padded on the left as a model that writes needs them."""
    prompt = prompt_mask(inputs)
    order = torch.argsort(prompt.to(torch.int8), dim=1, stable=True)
    width = int(prompt.sum(1).max())
    ids, mask = (t.gather(1, order)[:, -width:] for t in (inputs["input_ids"], prompt.long()))
    return {"input_ids": ids.masked_fill(mask == 0, pad_id), "attention_mask": mask}


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log-softmax over the last dimension, in float32 at least."""
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def check_labels(id2label: Mapping[int, str], concepts: Sequence[str], model_name: str) -> tuple[str, ...]:
    """Return the concepts in the order of the model's labels.

    Raises:
        ModelError: the model's labels are not the dataset's concepts, so its logits would be read as others'.
    """
    labels = tuple(str(id2label[number]) for number in sorted(id2label))
    if set(labels) == set(concepts):
        return labels
    if len(labels) == len(concepts) and all(label == f"LABEL_{number}" for number, label in enumerate(labels)):
        hint = (
            "Its labels carry no names. Next: write them into the model's config (id2label) and load it from a folder."
        )
    else:
        hint = "Next: a dataset with these labels, or model.finetune.blocks=2 to train a head for this dataset."
    raise ModelError(
        f"Model '{model_name}' has the labels {', '.join(labels[:8])}{' ...' if len(labels) > 8 else ''}; the dataset's "
        f"concepts are {', '.join(concepts[:8])}{' ...' if len(concepts) > 8 else ''}. {hint}"
    )
