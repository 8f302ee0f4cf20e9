"""The verbs of the command line that need a lens: explain, erase, lens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neuronlens.errors import NeuronLensError, printable, unknown
from neuronlens.execution.verb import Verb

if TYPE_CHECKING:
    from neuronlens.lens.lens import Lens
    from neuronlens.models.loaded import LoadedModel

Options = dict[str, Any]
KNOBS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys(("gate", "edit", "saliency", "range", "site"), str),
    **dict.fromkeys(("tau", "strength", "top_fraction"), float),
    **dict.fromkeys(("top_count", "layer"), int),
}
"""Options of a cell, each with the type of its value."""
TOKENS = 40


class Parsed(NamedTuple):
    """The words of a command: those that stand in their places, and `name=value` behind them."""

    words: list[str]
    options: Options


def parsed(
    verb: str, arguments: Sequence[str], places: Sequence[str], known: Mapping[str, Callable[[str], Any]]
) -> Parsed:
    """Return a command's words and options.

    Args:
        places: what the first words are, which may hold `=` themselves.
        known: name of an option and the type of its value.

    Raises:
        NeuronLensError: a word too few or too many, an unknown option with the nearest, or a value of another type.
    """
    words, rest = list(arguments[: len(places)]), arguments[len(places) :]
    if len(words) < len(places):
        missing = " ".join(places[len(words) :])
        raise NeuronLensError(f"{verb} takes {' '.join(places)}; {missing} is missing. Next: neuronlens {verb} --help.")
    options: Options = {}
    for word in rest:
        name, mark, value = word.partition("=")
        if not mark or name not in known:
            raise NeuronLensError(unknown(f"option of {verb}", name, known, f"neuronlens {verb} --help."))
        try:
            options[name] = known[name](value)
        except ValueError as error:
            kind = "a whole number" if known[name] is int else "a number"
            raise NeuronLensError(f"{name} is {value!r}, expected {kind}.") from error
    return Parsed(words, options)


def explain(arguments: list[str]) -> int:
    """Print which concepts' salient neurons lie in range at each token of a text."""
    known: dict[str, Callable[[str], Any]] = {**KNOBS, "concepts": str, "output": str}
    (place, text), options = parsed("explain", arguments, ("RUN", "TEXT"), known)
    from neuronlens.execution.trainer import quiet_libraries
    from neuronlens.lens.lens import Lens

    lens = Lens.load(place)
    output = options.pop("output", None)
    concepts = [name.strip() for name in options.pop("concepts", "").split(",") if name.strip()]
    for concept in concepts:
        lens.cells.index(concept)  # a wrong name is refused before the model is loaded
    with quiet_libraries():
        found = lens.explain(text, concepts=concepts, **options)
    print(printable(str(found)))
    if output is not None:
        from neuronlens.storage.files import write_atomically

        page = f'<!doctype html><meta charset="utf-8"><title>neuronlens explain</title>{found._repr_html_()}'
        write_atomically(Path(output), page.encode())
        print(f"\n{output}")
    return 0


def erase(arguments: list[str]) -> int:
    """Print what a model answers or writes as it is, and with concepts erased, side by side."""
    known: dict[str, Callable[[str], Any]] = {**KNOBS, "positions": str, "tokens": int}
    (place, names, prompt), options = parsed("erase", arguments, ("RUN", "CONCEPT[,CONCEPT]", "PROMPT"), known)
    from neuronlens.execution.trainer import quiet_libraries
    from neuronlens.lens.lens import Lens

    lens = Lens.load(place)
    concepts = [name.strip() for name in names.split(",")]
    tokens, positions = options.pop("tokens", TOKENS), options.pop("positions", None)
    if tokens < 1:
        raise NeuronLensError(f"tokens is {tokens}, expected 1 or more.")
    for concept in concepts:
        lens.edit(concept, **options)  # refused before the model is loaded
    with quiet_libraries():
        loaded = lens.loaded
        writes = getattr(loaded.model, "get_output_embeddings", lambda: None)() is not None
        show = _written if writes else _answered
        options["positions"] = positions or ("all" if writes else None)
        shown = show(lens, loaded, concepts, prompt, tokens, options)
    print(printable(shown))
    return 0


def write(arguments: list[str]) -> int:
    """Write a run's lens into one file."""
    (place, flag, file), _ = parsed("lens", arguments, ("RUN", "-o", "FILE"), {})
    if flag not in ("-o", "--output"):
        raise NeuronLensError(unknown("option of lens", flag, ["-o"], "neuronlens lens RUN -o fear.lens."))
    from neuronlens.lens.lens import Lens

    path = Lens.load(place).save(file)
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _written(
    lens: Lens, loaded: LoadedModel, concepts: Sequence[str], prompt: str, tokens: int, options: Options
) -> str:
    """Return a prompt's greedy continuation with and without the edit."""
    tokenizer = loaded.tokenizer
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False).to(loaded.model.device)
    lines = [f"prompt: {prompt}"]
    for name, context in (
        ("as it is", nullcontext()),
        (_without(concepts), lens.erase(loaded.model, *concepts, **options)),
    ):
        with context:
            found = loaded.model.generate(
                **inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        lines.append(f"{name}: {tokenizer.decode(found[0, inputs['input_ids'].shape[1] :], skip_special_tokens=True)}")
    return "\n\n".join(lines)


def _answered(
    lens: Lens, loaded: LoadedModel, concepts: Sequence[str], prompt: str, tokens: int, options: Options
) -> str:
    """Return the probabilities of a classifier's labels for a text with and without the edit, most probable first."""
    from neuronlens.models.batches import text_batches
    from neuronlens.models.in_hand import evaluating

    (batch,) = text_batches(loaded, [prompt]).batches
    inputs = batch.to(loaded.model.device).inputs
    shares = []
    for context in (nullcontext(), lens.erase(loaded.model, *concepts, **options)):
        with context, evaluating(loaded.model):
            shares.append(loaded.head.read(loaded.model, inputs).log_probabilities[0].exp().tolist())
    width = max(map(len, loaded.concepts))
    heading = f"{'':<{width}}  as it is  {_without(concepts)}"
    order = sorted(range(len(loaded.concepts)), key=lambda number: -shares[0][number])
    rows = [
        f"{loaded.concepts[number]:<{width}}  {shares[0][number]:8.1%}  {shares[1][number]:8.1%}" for number in order
    ]
    return "\n".join([f"text: {prompt}", "", heading, *rows])


def _without(concepts: Sequence[str]) -> str:
    return f"without {' and '.join(concepts)}"


KNOB_HELP = (
    "Options are tau=, gate=, edit=, strength=, top_fraction=, top_count=, saliency=, range=, layer=, site=; one left out has\n"
    "the lens's own value. RUN is a run folder, a lens file, or a hub id owner/name."
)
VERBS: Mapping[str, Verb] = {
    "explain": Verb(
        explain,
        "RUN TEXT [concepts=a,b] [output=FILE.html] [tau=...]",
        'which concepts a text\'s tokens lie in the ranges of: neuronlens explain RUN "a text"',
        "Prints a line per token: the concepts by the share of their salient neurons that lie in their range, three at most.\n"
        f"output= writes the coloured strip. {KNOB_HELP}",
    ),
    "erase": Verb(
        erase,
        "RUN CONCEPT[,CONCEPT] PROMPT [positions=all] [tokens=40] [tau=...]",
        'what the model answers or writes with and without a concept: neuronlens erase RUN CONCEPT "a prompt"',
        "A language model continues the prompt, tokens= of them, edited at all positions where positions= names no others; a\n"
        f"classifier gives its labels' probabilities. {KNOB_HELP}",
    ),
    "lens": Verb(
        write,
        "RUN -o FILE",
        "write a run's lens into one file that works where torch and transformers are: neuronlens lens RUN -o fear.lens",
        'Python reads it by neuronlens.Lens.load("fear.lens"); so do explain and erase.',
    ),
}
