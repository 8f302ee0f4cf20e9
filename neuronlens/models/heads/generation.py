"""A language model that writes its answer, and the label that a written answer names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from neuronlens.hooks.masks import prompt_mask
from neuronlens.models.heads.base import Head, Labels, Reading
from neuronlens.models.heads.label_scores import LabelLogprob

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Generation(Head):
    """Greedy decoding after the prompt; the text is parsed and matched with the labels.

    Probabilities, for confidence and KL, are those of the labels (`label_logprob`); the prediction is what was written.

    Attributes:
        confidence: of the labels' probabilities, `labels` or `first_token`.
        parse: `first_line`, `first_word` or `contains`.
        max_new_tokens: how long an answer may be.
    """

    labels: Labels
    confidence: str = "labels"
    parse: str = "first_line"
    max_new_tokens: int = 8
    name: ClassVar[str] = "generation"
    replays: ClassVar[bool] = False

    @cached_property
    def scores(self) -> LabelLogprob:
        """The labels' probabilities."""
        return LabelLogprob(self.labels, self.confidence)

    @property
    def by_first_token(self) -> bool:
        """Whether the labels' probabilities are those of their first tokens alone."""
        return self.scores.by_first_token

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

    def read(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Reading:
        """Return the labels' distribution, before anything is written."""
        return self.scores.read(model, inputs)

    def answer(self, model: PreTrainedModel, inputs: Mapping[str, Tensor], reading: Reading) -> Tensor:
        """Return the index of the label that the model writes after each prompt `[sample]`, -1 for none."""
        tokenizer = self.labels.tokenizer
        assert tokenizer is not None, "a prompted model has a tokenizer"
        prompts = _left_padded(inputs, tokenizer.pad_token_id)
        written = model.generate(
            **prompts,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.pad_token_id,
        )[:, prompts["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        found = [match(text, self.labels.texts, self.parse) for text in texts]
        return torch.tensor(found, device=written.device)


def match(text: str, labels: Sequence[str], parse: str) -> int:
    r"""Return the index of the label that a written answer names, or -1.

    Compared without case, outer blanks and final stops; the first label wins that stands there whole.

    Args:
        parse: `first_line` (the whole first line is the label), `first_word`, or `contains` (the label that is named
            first anywhere; of two at one place the longer).

    >>> match(" Sports.\nText: more", ["World", "Sports"], "first_line"), match("I say sports", ["Sports"], "contains")
    (1, 0)
    """
    plain = [label.strip().casefold() for label in labels]
    lines = text.strip().splitlines()
    line = lines[0].strip().casefold() if lines else ""
    if parse == "contains":
        places = [(text.casefold().find(label), -len(label), number) for number, label in enumerate(plain)]
        found = [entry for entry in places if entry[0] >= 0]
        return min(found)[2] if found else -1
    named = (line.split()[0] if line.split() else "") if parse == "first_word" else line
    named = named.strip(" .,:;!?'\"")
    return plain.index(named) if named in plain else -1


def _left_padded(inputs: Mapping[str, Tensor], pad_id: int) -> dict[str, Tensor]:
    """Return the prompts alone, padded on the left as a model that writes needs them."""
    prompt = prompt_mask(inputs)
    order = torch.argsort(prompt.to(torch.int8), dim=1, stable=True)
    width = int(prompt.sum(1).max())
    ids, mask = (t.gather(1, order)[:, -width:] for t in (inputs["input_ids"], prompt.long()))
    return {"input_ids": ids.masked_fill(mask == 0, pad_id), "attention_mask": mask}
