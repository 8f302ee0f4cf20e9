"""What a head is: it reads a prediction off a model's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from torch import Tensor

from neuronlens.hooks.masks import read_index
from neuronlens.hooks.replay import forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Reading:
    """What a model answers for each sample.

    Attributes:
        log_probabilities: `[sample, concept]`, float32 at least; one more column for all other words where confidence is
            the vocabulary's.
        prediction: concept index `[sample]`; -1 where a generated answer is none of them.
        scores: what the labels are compared by before they are normalised, the logits, `[sample, concept]`; None where a
            head has none but the log-probabilities.
    """

    log_probabilities: Tensor
    prediction: Tensor
    scores: Tensor | None = None


@dataclass(frozen=True)
class Labels:
    """The concepts' labels in a loaded model: what a head is made from, beside its own parameters.

    Attributes:
        reads: the position whose output gives them, `cls` or `last`.
        tokens: token ids that follow the prompt, per concept; none for a classifier, whose logits are the concepts.
        texts: the words that these tokens spell, per concept; none for a classifier.
        vocabulary: how many words the model's output scores; 0 for a classifier.
        tokenizer: turns tokens into text.
    """

    reads: str
    tokens: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()
    vocabulary: int = 0
    tokenizer: PreTrainedTokenizerBase | None = None


class Head(Protocol):
    """What every head offers. A class that inherits it needs `of` alone: the rest is that of a classification head.

    A head is made by its class from `labels` and the parameters of its option (conf/head/), which enter the fingerprint.

    Attributes:
        labels: the concepts' labels in the model.
        name: as in the config, for messages.
        replays: whether stored states suffice; a model that writes runs from its embeddings.
        scores_words: whether `of` takes the logits of words at the positions of `index`, so that cells can branch off a
            prompt, and the labels' further tokens can be read apart from it.
        by_first_token: whether some figure rests on the labels' first tokens alone, which then have to differ.
    """

    labels: Labels
    name: ClassVar[str] = "custom"
    replays: ClassVar[bool] = True
    scores_words: ClassVar[bool] = False

    @property
    def by_first_token(self) -> bool:
        """Whether some figure rests on the labels' first tokens alone."""
        return False

    @property
    def reads(self) -> str:
        """The position it reads, `cls` or `last`."""
        return self.labels.reads

    @property
    def continuations(self) -> tuple[tuple[int, ...], ...]:
        """Token ids that follow the prompt, per label with more than one token, its last token left out."""
        return ()

    @property
    def words(self) -> Tensor | None:
        """Token ids whose logits suffice, or None where the whole output is needed."""
        return None

    @property
    def floats_per_sample(self) -> int:
        """How many logits one sample's reading makes, for the memory that they take."""
        return 1

    def index(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the positions whose output the head needs `[sample, read]`."""
        return read_index(inputs["attention_mask"], self.reads)[:, None]

    def read(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Reading:
        """Return what the model answers for each row of a batch, from one forward."""
        return self.of(forward(model, inputs))

    def of(self, logits: Tensor, further: Tensor | None = None) -> Reading:
        """Return the reading behind a model's logits.

        Args:
            logits: `[..., concept]` of a classification head; `[..., read, word]` where the head scores words.
            further: as `further_tokens` gives it, where it is known already and the logits are the first position's alone.
        """
        raise NotImplementedError

    def further_tokens(self, logits: Tensor) -> Tensor:
        """Return log p of the labels' tokens after the first `[..., further]`, from logits `[..., further, word]`."""
        return logits.new_zeros(*logits.shape[:-2], 0)

    def answer(self, model: PreTrainedModel, inputs: Mapping[str, Tensor], reading: Reading) -> Tensor:
        """Return the prediction `[sample]` after that forward: its own, unless the model has to write it first."""
        return reading.prediction
