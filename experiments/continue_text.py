"""Prints a prompt continued by a run's causal language model as it is, and with one concept erased while it writes.

python -m experiments.continue_text RUN_FOLDER CONCEPT "PROMPT" --tau 2.5 --positions all --tokens 40
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import neuronlens as nl

KNOBS = ("tau", "gate", "edit", "strength", "top_fraction", "layer")


def load_writer(location: str) -> tuple[Any, Any]:
    """Return a causal language model and its tokenizer from a folder or hub id.

    Raises:
        NeuronLensError: the model there writes no text, or part of it is missing from its checkpoint.
    """
    kinds = AutoConfig.from_pretrained(location).architectures or ["model without a head"]
    if not any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds):
        raise nl.NeuronLensError(
            f"'{location}' is a {kinds[0]}, which writes no text. Expected a causal language model. Next: the folder of a "
            "run on one, or --model FOLDER with one of the same shape."
        )
    model, found = AutoModelForCausalLM.from_pretrained(location, output_loading_info=True)
    if found["missing_keys"]:
        raise nl.NeuronLensError(f"The checkpoint '{location}' lacks {', '.join(sorted(found['missing_keys'])[:4])}.")
    return model.eval(), AutoTokenizer.from_pretrained(location)


def continuations(
    lens: nl.Lens, model: Any, tokenizer: Any, concept: str, prompt: str, tokens: int, **erase: Any
) -> tuple[str, str]:
    """Return the greedy continuation of a prompt as the model is, and with the concept erased."""
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    written = []
    for context in (nullcontext(), lens.erase(model, concept, **erase)):
        with context, torch.no_grad():
            found = model.generate(
                **inputs,
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            )
        written.append(tokenizer.decode(found[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return written[0], written[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the prompt and both continuations; bad input ends with exit code 2 and one sentence."""
    parser = argparse.ArgumentParser(prog="python -m experiments.continue_text", description=__doc__.splitlines()[0])
    parser.add_argument("run_folder", help="the folder of a finished run on a causal language model")
    parser.add_argument("concept", help="what to erase: a concept of the run's dataset")
    parser.add_argument("prompt", help="the text to continue")
    parser.add_argument("--tau", type=float, help="half-width of a range in standard deviations; the run's by default")
    parser.add_argument("--gate", help="range, neuron, joint or outside; the run's by default")
    parser.add_argument("--edit", help="zero, complement_mean, leace, ...; the run's by default")
    parser.add_argument("--strength", type=float, help="1 is the whole edit; the run's by default")
    parser.add_argument("--top-fraction", type=float, help="share of the neurons; the run's by default")
    parser.add_argument("--layer", type=int, help="which layer, where the run fitted several")
    parser.add_argument("--positions", default="all", help="all (default), prompt, generated, last, or record")
    parser.add_argument("--tokens", type=int, default=40, help="how many to write (default 40)")
    parser.add_argument("--model", help="folder or hub id of the model, in place of the run's")
    options = parser.parse_args(arguments)
    knobs = {name: getattr(options, name) for name in KNOBS if getattr(options, name) is not None}
    try:
        lens = nl.Lens.load(options.run_folder)
        lens.edit(options.concept, **knobs)  # a wrong name is refused before the model is loaded
        model, tokenizer = load_writer(options.model or lens.model_folder or lens.config.model.hub)
        written = continuations(
            lens,
            model,
            tokenizer,
            options.concept,
            options.prompt,
            options.tokens,
            positions=options.positions,
            **knobs,
        )
    except (nl.NeuronLensError, OSError) as error:
        parser.exit(2, f"{error}\n")
    print(f"prompt: {options.prompt}\n\nas it is: {written[0]}\n\nwithout {options.concept}: {written[1]}")


if __name__ == "__main__":
    main()
