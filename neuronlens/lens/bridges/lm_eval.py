"""lm-evaluation-harness with concepts erased: the model type `neuronlens`.

    python -m neuronlens.lens.bridges.lm_eval run --model neuronlens \
        --model_args pretrained=gpt2,lens=fear.lens,concept=fear --tasks hellaswag

The harness scores by forwards without an attention mask, padded on the right, so only positions that need none are edited
there: all of them. A pad on the right is edited too and read by nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from neuronlens.errors import ConfigError, unknown
from neuronlens.lens.cells import NAMES, CellKnobs
from neuronlens.lens.lens import Lens

POSITIONS = ("all",)


@register_model("neuronlens")
class ErasedLM(HFLM):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """A causal language model of transformers whose every forward has concepts erased."""

    def __init__(self, pretrained: Any, *, lens: Lens | str, concept: str, positions: str = "all", **more: Any) -> None:
        """Load the model and the lens.

        Args:
            pretrained: a model, its folder or its hub id, as the harness takes it.
            lens: a lens, its file, a run folder, or a hub id.
            concept: one, or several joined by `+`.
            positions: `all`.
            more: knobs of the lens's cell (`tau`, `gate`, `edit`, ...); the rest goes to the harness's own model.

        Raises:
            ConfigError: positions that need an attention mask, or an unknown concept.
            NeuronLensError: a cell that cannot be made, or another model than the lens's.
        """
        if positions not in POSITIONS:
            raise ConfigError(
                unknown(
                    "positions",
                    positions,
                    POSITIONS,
                    "the harness passes no attention mask, so no single one is known.",
                )
            )
        asked = {name: more.pop(name) for name in CellKnobs.__annotations__ if name in more}
        self._knobs: CellKnobs = {name: _value(name, value) for name, value in asked.items()}  # type: ignore[assignment]
        self._lens = lens if isinstance(lens, Lens) else Lens.load(lens)
        self._concepts = concept.split("+")
        for name in self._concepts:
            self._lens.edit(name, **self._knobs)  # refused before the model is loaded
        super().__init__(pretrained, **more)

    @contextmanager
    def _erased(self) -> Iterator[None]:
        with self._lens.erase(self.model, *self._concepts, positions="all", **self._knobs):
            yield

    def _model_call(self, *arguments: Any, **named: Any) -> Any:
        with self._erased():
            return super()._model_call(*arguments, **named)

    def _model_generate(self, *arguments: Any, **named: Any) -> Any:
        with self._erased():
            return super()._model_generate(*arguments, **named)


def _value(name: str, value: Any) -> Any:
    """Return a knob's value, which the harness's command line gives as a number or as text."""
    return str(value) if name in NAMES else value


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
