"""Gates that decide for whole samples, in a sweep and in generation, against plain forwards with hooks written here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neuronlens.activations.extract import extract
from neuronlens.config.compose import compose
from neuronlens.config.plan import grid
from neuronlens.config.schema import Config
from neuronlens.edits.base import Projection
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.decided import DecidedEdit
from neuronlens.edits.gates.decisions import Quadratic
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.errors import ConfigError, SiteError
from neuronlens.hooks.admission import Paths
from neuronlens.hooks.contexts import edited
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Knobs, Site
from neuronlens.sweep.evaluator import SweepEvaluator
from neuronlens.sweep.shards import run_sweep
from tests.activations.test_extract import CPU, dataset, loaded
from tests.conftest import CONCEPTS, tiny_causal, tiny_tokenizer
from tests.hooks.causal import generate, prompts, state
from tests.sweep.test_evaluator import fitted
from tests.sweep.test_evaluator_causal import LABELS, language_model

WHOLE = Paths(shrinks=False, branches=False)
SAMPLES = Config(gate={name: {"grain": "sample"} for name in ("joint", "lda", "logistic")})
CELLS = [
    Knobs(saliency="max", top_fraction=1.0, gate="joint", edit="leace", strength=1.0),
    Knobs(gate="lda", edit="splince", strength=1.5),
    Knobs(gate="logistic", edit="alphasteer", strength=1.0),
    Knobs(gate="cast", edit="mean_projection", strength=2.0),
    Knobs(gate="dsas", edit="directional_ablation", strength=1.0),
    Knobs(gate="cast", edit="qleace", strength=0.0),
    Knobs(saliency="max", top_fraction=0.5, gate="cast", edit="zero", strength=1.0),
]
BLOCKS = {"bert": "bert.encoder.layer", "gpt2": "transformer.h"}
Hand = Callable[[Tensor], Tensor]


def by_hand(builder: EditBuilder, cell: tuple[Knobs, int], *, causal: bool, prompt: int | None = None) -> Hand:
    """Return a cell's edit of one text's states `[position, neuron]`, by loops over its positions.

    Args:
        prompt: how many tokens are prompt; None for all.
    """
    knobs = cell[0]
    decision, target = builder.opening(cell), builder._target(cell)
    chosen = np.ones(16, dtype=bool) if isinstance(target, Projection) else builder.selected(knobs)[cell[1]]

    def edit(hidden: Tensor) -> Tensor:
        wide, out = hidden.double().numpy(), []
        end = prompt or len(wide)
        for place, x in enumerate(wide):
            known = wide if not causal else wide[:end] if knobs.gate == "cast" else wide[: place + 1]
            read = x if knobs.gate == "dsas" else known.mean(0)
            score = decision.scores(read[None])[0]
            share = 1 / (1 + np.exp(-score)) if knobs.gate == "dsas" else float(score > 0)
            moved = target(x[None])[0] if isinstance(target, Projection) else np.zeros(16)
            out.append(x + share * knobs.strength * np.where(chosen, moved - x, 0.0))
        return torch.from_numpy(np.stack(out)).to(hidden.dtype)

    return edit


def logits_under(model: Any, family: str, layer: int, edit: Hand, ids: list[int]) -> Tensor:
    """Return the logits of one unpadded text with a hand-registered hook."""

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        changed = edit(hidden[0])[None]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = model.get_submodule(f"{BLOCKS.get(family, 'model.layers')}.{layer}").register_forward_hook(hook)
    options = {} if family == "bert" else {"use_cache": False}
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids]), **options).logits
    handle.remove()
    return found


def swept(model: LoadedModel, layer: int) -> tuple[SweepEvaluator, EditBuilder, np.ndarray]:
    """Return a finished sweep with the builder of its edits and the unedited log-probabilities."""
    model, site, data = replace(model, paths=WHOLE, record_position="mean"), Site(layer), dataset(per_concept=12)
    fit = extract(model, data, "fit", sites=[site], trainer=CPU, to_the_head=False).activations[site]
    test = extract(model, data, "test", sites=[site], keep=[layer], trainer=CPU)
    builder = EditBuilder(SAMPLES, {"none": fitted(fit)}, select=fit)
    assert test.log_probabilities is not None
    assert test.prediction is not None
    evaluator = SweepEvaluator(
        model,
        test.states[layer],
        {site: builder},
        [(knobs, concept) for knobs in CELLS for concept in (0, 2)],
        labels=data.labels[data.rows("test")],
        base_log_probabilities=test.log_probabilities,
        base_prediction=test.prediction,
        edit_positions="all",
        tokens_per_forward=4096,
    )
    run_sweep(evaluator, CPU)
    return evaluator, builder, test.log_probabilities


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_a_classifiers_cells_equal_plain_hooked_forwards(family: str, layer: int) -> None:
    evaluator, builder, base = swept(loaded(family), layer)
    model, data = evaluator.loaded, dataset(per_concept=12)
    rows = data.rows("test")
    labels, moved = data.labels[rows], set()
    for place, cell in enumerate(evaluator.cells):
        edit = by_hand(builder, cell, causal=family != "bert")
        texts = [model.tokenizer(data.texts[row])["input_ids"][:16] for row in rows]
        logits = torch.cat([logits_under(model.model, family, layer, edit, ids) for ids in texts])
        probabilities = torch.softmax(logits, -1).numpy()
        gold = probabilities[np.arange(len(labels)), labels]
        np.testing.assert_allclose(evaluator.outcomes.gold[place], gold, atol=2e-5, err_msg=str(cell))
        if np.abs(probabilities - np.exp(base)).max() > 1e-4:
            moved.add(cell[0])
        if cell[0].strength == 0:
            np.testing.assert_allclose(evaluator.outcomes.kl[place], 0, atol=1e-6)
    assert moved == {knobs for knobs in CELLS if knobs.strength}, "the positive control"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_labels_that_share_a_prompt_equal_plain_forwards_of_one_label_each(family: str, side: str) -> None:
    evaluator, builder, _ = swept(language_model(family, side=side), 1)
    data, words = dataset(per_concept=12), tiny_tokenizer()
    rows = data.rows("test")[::3]
    texts = [words(f"w1 w2 {data.texts[row]} w0", add_special_tokens=False)["input_ids"] for row in rows]
    labels = [words(LABELS[name], add_special_tokens=False)["input_ids"] for name in CONCEPTS]
    for place in (0, 3, 6, 8):
        scores = []
        for ids in texts:
            edit = by_hand(builder, evaluator.cells[place], causal=True, prompt=len(ids))
            each = []
            for label in labels:
                found = logits_under(evaluator.loaded.model, family, 1, edit, [*ids, *label])[0].log_softmax(-1)
                each.append(float(np.mean([found[len(ids) - 1 + at, token] for at, token in enumerate(label)])))
            scores.append(each)
        gold = torch.softmax(torch.tensor(scores), -1).numpy()[np.arange(len(rows)), data.labels[rows]]
        np.testing.assert_allclose(evaluator.outcomes.gold[place, ::3], gold, atol=2e-5)


def gated(over: str, *, strength: float = 2.0) -> DecidedEdit:
    """Return one edit behind a gate per sample that is open for some texts and closed for others."""
    random = torch.Generator().manual_seed(3)
    linear = torch.randn(16, generator=random, dtype=torch.float64)
    unit = torch.nn.functional.normalize(torch.randn(16, generator=random, dtype=torch.float64), dim=0).numpy()[None]
    eraser = ProjectionEdit.of([Projection(np.full(16, 0.5), unit, unit * 4)], [strength])
    return DecidedEdit(eraser, (Quadratic(torch.zeros_like(linear), linear, 0.0, over=over),))  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", ["all", "generated", "prompt"])
@pytest.mark.parametrize("over", ["so_far", "prompt"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_generation_is_the_same_with_and_without_a_cache_and_by_hand(family: str, over: str, positions: str) -> None:
    model, inputs, edit = tiny_causal(family), prompts(6), {Site(1): gated(over)}
    before = state(model)
    with edited(model, edit, positions=positions):
        cached, whole = (generate(model, inputs, use_cache=use) for use in (True, False))
    assert state(model) == before
    assert torch.equal(cached.sequences, whole.sequences)
    for ours, theirs in zip(cached.logits, whole.logits, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    plain = generate(model, inputs)
    assert not torch.equal(plain.sequences, cached.sequences), "the positive control"
    with edited(model, {Site(1): gated(over, strength=0.0)}, positions=positions):
        assert torch.equal(generate(model, inputs).sequences, plain.sequences)
    width = inputs["input_ids"].shape[1]
    for row in range(6):  # each text alone, without pads or a cache, and the gate by a loop
        ids = inputs["input_ids"][row][inputs["attention_mask"][row] != 0].tolist()
        written = cached.sequences[row, width:].tolist()
        found = logits_under(model, family, 1, _loop(edit[Site(1)], over, len(ids), positions), [*ids, *written[:-1]])
        theirs = torch.stack([logits[row] for logits in cached.logits])
        torch.testing.assert_close(found[0, len(ids) - 1 :], theirs, atol=1e-4, rtol=1e-4)


def _loop(edit: DecidedEdit, over: str, prompt: int, positions: str) -> Hand:
    decision, inner = edit.decisions[0], edit.edit
    assert isinstance(decision, Quadratic)
    assert isinstance(inner, ProjectionEdit)

    def edited_text(hidden: Tensor) -> Tensor:
        out = hidden.clone()
        for place in range(len(hidden)):
            known = hidden[:prompt] if over == "prompt" else hidden[: place + 1]
            asked = {"all": True, "prompt": place < prompt, "generated": place >= prompt}[positions]
            if asked and float(known.double().mean(0) @ decision.linear) > 0:
                read = (hidden[place] - inner.bias[0]) @ inner.read[0, 0]
                out[place] = hidden[place] - inner.strength[0] * read * inner.write[0, 0]
        return out

    return edited_text


@pytest.mark.parametrize("over", ["so_far", "prompt"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_either_padding_side_gives_the_same_logits_and_pads_are_untouched(family: str, over: str) -> None:
    model, found = tiny_causal(family), []
    for side in ("left", "right"):
        inputs = prompts(5, side=side)
        places = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        with edited(model, {Site(1): gated(over)}), torch.no_grad():
            logits = model(**inputs, position_ids=places).logits
        found.append(logits[inputs["attention_mask"] != 0])
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_generation_that_cannot_be_followed_is_refused_and_beams_may_read_the_prompt() -> None:
    model, inputs = tiny_causal("llama"), prompts(3)
    with edited(model, {Site(1): gated("so_far")}):
        with pytest.raises(SiteError, match="num_beams=1"):
            generate(model, inputs, num_beams=2)
        with torch.no_grad():
            cache = model(**inputs, use_cache=True).past_key_values
        with pytest.raises(SiteError, match="goes on from a cache"):
            model(input_ids=inputs["input_ids"][:, -1:], past_key_values=cache)
    with edited(model, {Site(1): gated("prompt")}):
        both = [generate(model, inputs, num_beams=2, use_cache=use).sequences for use in (True, False)]
    assert torch.equal(*both)


@pytest.mark.parametrize(
    "overrides",
    [
        ["intervention.gate=cast"],
        ["sweep.gate=[range,cast]", "model.record_position=live_mean", "intervention.edit_positions=all"],
        ["sweep.gate=[lda]", "intervention.gate_grain=sample", "model.record_position=last"],
        ["sweep.gate=[joint]", "++gate.joint.grain=sample"],
    ],
    ids=str,
)
def test_a_gate_per_sample_without_means_to_fit_on_is_refused_by_the_config_alone(overrides: list[str]) -> None:
    if "intervention.gate=cast" in overrides:
        overrides = [*overrides, "sweep=single"]
    with pytest.raises(ConfigError, match=r"decides for whole samples.*Next: model\.record_position=mean") as refused:
        compose(overrides)
    assert len(str(refused.value).splitlines()) == 1
    accepted = ["model.record_position=mean", "intervention.edit_positions=all"]
    kept = [one for one in overrides if "position" not in one]
    assert grid(compose([*kept, *accepted]))


def test_an_edit_that_mixes_neurons_goes_behind_every_gate_for_whole_vectors() -> None:
    gates = "sweep.gate=[neuron,joint,lda,logistic,dsas]"
    cells = grid(compose(["sweep.edit=[leace]", gates]))
    assert {cell.gate for cell in cells} == {"neuron", "joint", "lda", "logistic", "dsas"}
    assert {cell.gate for cell in cells if cell.top_fraction is not None} == {"joint"}
