"""Generation under an edit, against a loop of plain forwards with hand-registered hooks at given columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    DynamicCache,
    GenerationConfig,
)
from transformers.generation import CompileConfig

from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import SiteError
from neuronlens.hooks.contexts import capture, edited
from neuronlens.hooks.masks import BUT_FIRST, EDITED
from neuronlens.records import Site
from tests.conftest import FAMILY_CONFIGS, tiny_causal, tiny_model
from tests.hooks.causal import NEW, generate, prompts, state

FAMILIES = ["gpt2", "llama", "qwen3", "gemma2", "gemma3_text", "mistral"]
BLOCKS = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}
WHERE = [name for name in EDITED if name != "cls"]


FIRST = {"low": -2.0, "high": 2.5, "scale": 0.25, "shift": 3.0, "neurons": slice(0, 8)}
SECOND = {"low": -9.0, "high": 9.0, "scale": -1.0, "shift": 0.5, "neurons": slice(5, 16)}


def gated(low: float, high: float, scale: float, shift: float, neurons: slice) -> GatedEdit:
    lower, upper = torch.full((1, 1, 16), torch.inf), torch.full((1, 1, 16), -torch.inf)
    lower[..., neurons], upper[..., neurons] = low, high
    return GatedEdit(lower, upper, torch.full((1, 16), scale), torch.full((1, 16), shift), torch.ones(1))


EDITS = {Site(0): gated(**FIRST), Site(1): gated(**SECOND)}  # type: ignore[arg-type]


@contextmanager
def by_hand(model: Any, family: str, columns: Tensor) -> Iterator[None]:
    """Edit `columns` [sample, column] of uncached forwards, one line of arithmetic per site, rows repeated for beams."""
    handles = []
    for layer, numbers in ((0, FIRST), (1, SECOND)):

        def hook(module: Any, arguments: Any, output: Any, numbers: Any = numbers) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            here = columns.repeat_interleave(hidden.shape[0] // columns.shape[0], 0)[:, : hidden.shape[1], None].clone()
            neurons = torch.zeros(16, dtype=torch.bool)
            neurons[numbers["neurons"]] = True
            inside = (hidden >= numbers["low"]) & (hidden <= numbers["high"]) & here & neurons
            changed = torch.where(inside, hidden * numbers["scale"] + numbers["shift"], hidden)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        block = model.get_submodule(f"{BLOCKS.get(family, 'model.layers')}.{layer}")
        handles.append(block.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def expected_columns(inputs: dict[str, Tensor], positions: str, total: int = 64) -> Tensor:
    """Return which absolute columns an edit touches, from its definition."""
    mask, width = inputs["attention_mask"], inputs["attention_mask"].shape[1]
    columns = torch.zeros(len(mask), total, dtype=torch.bool)
    for row, real in enumerate(mask.tolist()):
        places = [column for column in range(width) if real[column]]
        if positions == "last":
            columns[row, places[-1]] = True
        if positions in ("all", "prompt"):
            columns[row, places] = True
        if positions in ("all_but_first", "prompt_but_first"):
            columns[row, places[1:]] = True
    if positions in ("all", "all_but_first", "generated"):
        columns[:, width:] = True
    return columns


def greedy_by_hand(
    model: Any, family: str, inputs: dict[str, Tensor], positions: str, new: int = NEW
) -> tuple[Tensor, Tensor]:
    """Return ids and next-token logits of a loop of whole forwards without a cache."""
    ids, mask, logits = inputs["input_ids"], inputs["attention_mask"], []
    with by_hand(model, family, expected_columns(inputs, positions)), torch.no_grad():
        for _ in range(new):
            places = (mask.cumsum(1) - 1).clamp(min=0)
            out = model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).logits[:, -1]
            logits.append(out)
            ids = torch.cat([ids, out.argmax(-1, keepdim=True)], 1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    return ids, torch.stack(logits)


@pytest.mark.parametrize("samples", [1, 8])
@pytest.mark.parametrize("positions", WHERE)
@pytest.mark.parametrize("family", FAMILIES)
def test_generated_text_and_logits_equal_a_loop_by_hand_with_and_without_a_cache(
    family: str, positions: str, samples: int
) -> None:
    model, inputs = tiny_causal(family), prompts(samples)
    before = state(model)
    ids, logits = greedy_by_hand(model, family, inputs, positions)
    plain = generate(model, inputs)
    for use_cache in (True, False):
        with edited(model, EDITS, positions=positions):
            found = generate(model, inputs, use_cache=use_cache)
        assert torch.equal(found.sequences, ids), use_cache
        torch.testing.assert_close(torch.stack(found.logits), logits, rtol=1e-5, atol=1e-5)
    assert not torch.equal(torch.stack(plain.logits), torch.stack(found.logits))
    assert state(model) == before


def test_the_edits_are_strong_enough_to_change_every_familys_text() -> None:
    for family in FAMILIES:
        model, inputs = tiny_causal(family), prompts(8)
        plain = generate(model, inputs)
        texts, logits = {tuple(plain.sequences.flatten().tolist())}, {str(torch.stack(plain.logits).tolist())}
        whole = [positions for positions in WHERE if positions not in BUT_FIRST.values()]
        for positions in WHERE:
            with edited(model, EDITS, positions=positions):
                found = generate(model, inputs)
            logits.add(str(torch.stack(found.logits).tolist()))
            if positions in whole:
                texts.add(tuple(found.sequences.flatten().tolist()))
        assert len(texts) == 1 + len(whole), family
        assert len(logits) == 1 + len(WHERE), family


@pytest.mark.parametrize("positions", WHERE)
@pytest.mark.parametrize(
    "options",
    [
        {"prefill_chunk_size": 2},
        {"prefill_chunk_size": 2, "use_cache": True, "num_return_sequences": 3, "do_sample": True, "top_k": 5},
        {"num_beams": 3},
        {"num_beams": 4, "num_return_sequences": 2},
        {"num_beams": 3, "use_cache": False},
        {"cache_implementation": "static"},
        {"cache_implementation": "static", "num_beams": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_chunks_beams_several_sequences_and_static_caches(family: str, options: dict[str, Any], positions: str) -> None:
    model, inputs = tiny_causal(family), prompts(4)
    uncached = {k: v for k, v in options.items() if k not in ("prefill_chunk_size", "cache_implementation")}
    torch.manual_seed(0)
    with by_hand(model, family, expected_columns(inputs, positions)):
        wanted = generate(model, inputs, **uncached | {"use_cache": False})
    torch.manual_seed(0)
    with edited(model, EDITS, positions=positions):
        found = generate(model, inputs, **options)
    assert torch.equal(found.sequences, wanted.sequences)
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(wanted.logits), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("positions", WHERE)
def test_assisted_decoding_writes_the_same_text(positions: str) -> None:
    model, inputs = tiny_causal("llama"), prompts(1)
    inputs["input_ids"] = torch.tensor([[7, 8, 9, 7, 8, 9, 7]])
    inputs["attention_mask"] = torch.ones(1, 7, dtype=torch.long)
    ids, _ = greedy_by_hand(model, "llama", inputs, positions)
    with edited(model, EDITS, positions=positions):
        found = model.generate(**inputs, max_new_tokens=NEW, do_sample=False, prompt_lookup_num_tokens=3)
    assert torch.equal(found, ids)


@pytest.mark.parametrize("positions", WHERE)
@pytest.mark.parametrize("use_cache", [True, False])
def test_trap_1_right_padded_prompts_end_at_their_last_attended_token(positions: str, use_cache: bool) -> None:
    model, inputs = tiny_causal("llama"), prompts(4, side="right")
    with by_hand(
        model, "llama", expected_columns(inputs, positions)
    ):  # transformers gives such text positions of its own
        wanted = generate(model, inputs, use_cache=False)
    chunked = {"prefill_chunk_size": 2} if use_cache else {}
    for options in ({}, chunked):
        with edited(model, EDITS, positions=positions):
            found = generate(model, inputs, use_cache=use_cache, **options)
        assert torch.equal(found.sequences, wanted.sequences)
        torch.testing.assert_close(torch.stack(found.logits), torch.stack(wanted.logits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", WHERE)
def test_left_padding_changes_no_text(positions: str) -> None:
    model, inputs = tiny_causal("gpt2"), prompts(8)
    with edited(model, EDITS, positions=positions):
        together = generate(model, inputs).sequences[:, -NEW:]
        for row, real in enumerate(inputs["attention_mask"] != 0):
            alone = {name: tensor[row : row + 1, real] for name, tensor in inputs.items()}
            assert torch.equal(generate(model, alone).sequences[0, -NEW:], together[row])


@pytest.mark.parametrize("positions", WHERE)
def test_a_mask_left_out_is_the_one_transformers_finds(positions: str) -> None:
    model, inputs = tiny_causal("gpt2"), prompts(4)
    ids, _ = greedy_by_hand(model, "gpt2", inputs, positions)
    with edited(model, EDITS, positions=positions):
        found = model.generate(inputs["input_ids"], max_new_tokens=NEW, do_sample=False, pad_token_id=0)
        assert torch.equal(found, ids)
        whole = prompts(1)["input_ids"]
        alone = model.generate(inputs=whole, generation_config=GenerationConfig(max_new_tokens=NEW))
    wanted, _ = greedy_by_hand(model, "gpt2", {"input_ids": whole, "attention_mask": torch.ones_like(whole)}, positions)
    assert torch.equal(alone, wanted)


@pytest.mark.parametrize("positions", WHERE)
@pytest.mark.parametrize("only_new", [True, False])
def test_a_cache_that_is_passed_in_counts_as_prompt(positions: str, only_new: bool) -> None:
    model, inputs = tiny_causal("llama"), prompts(4)
    past = inputs["attention_mask"].shape[1] - 2
    cache = DynamicCache(config=model.config)
    early = {name: tensor[:, :past] for name, tensor in inputs.items()}
    early["position_ids"] = (early["attention_mask"].cumsum(1) - 1).clamp(min=0)
    ids, logits = greedy_by_hand(model, "llama", inputs, positions)
    whole = ("all", "prompt", *BUT_FIRST.values())
    with edited(model, EDITS, positions=positions):
        if positions in whole:  # the earlier columns are prompt as well, edited when they were computed
            with torch.no_grad():
                model(**early, past_key_values=cache)
    if positions not in whole:
        with torch.no_grad():
            model(**early, past_key_values=cache)
    tokens = inputs["input_ids"][:, past:] if only_new else inputs["input_ids"]
    with edited(model, EDITS, positions=positions):
        found = generate(
            model, {"input_ids": tokens, "attention_mask": inputs["attention_mask"]}, past_key_values=cache
        )
    assert torch.equal(found.sequences[:, -NEW:], ids[:, -NEW:])
    torch.testing.assert_close(torch.stack(found.logits), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions", WHERE)
def test_a_prompt_of_embeddings(positions: str) -> None:
    model, inputs = tiny_causal("llama"), prompts(4)
    ids, _ = greedy_by_hand(model, "llama", inputs, positions)
    vectors = model.get_input_embeddings()(inputs["input_ids"])
    with edited(model, EDITS, positions=positions):
        found = model.generate(
            inputs_embeds=vectors,
            attention_mask=inputs["attention_mask"],
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
        )
    assert torch.equal(found, ids[:, -NEW:])


@pytest.mark.parametrize(
    ("positions", "side"), [*((where, side) for where in WHERE for side in ("left", "right")), ("cls", "right")]
)
def test_trap_3_no_pad_is_handed_to_an_edit_while_the_model_writes(positions: str, side: str) -> None:
    model, inputs = tiny_causal("gemma2"), prompts(4, side=side)
    width = inputs["attention_mask"].shape[1]
    wanted = expected_columns(inputs, positions)
    if positions == "cls":
        wanted[:, 0] = True

    for options in ({}, {"use_cache": False}, {"prefill_chunk_size": 3}):
        seen: list[Tensor] = []

        def note(hidden: Tensor, mask: Tensor | None, seen: list[Tensor] = seen) -> Tensor:
            assert mask is not None
            seen.append(mask)
            return hidden

        with edited(model, {Site(0): note}, positions=positions):
            generate(model, inputs, **options)
        if options == {"use_cache": False}:
            assert [mask.shape[1] for mask in seen] == list(range(width, width + NEW))
            assert torch.equal(seen[-1], wanted[:, : width + NEW - 1])
            assert torch.equal(seen[0], wanted[:, :width])
        else:
            assert torch.equal(torch.cat(seen, 1), wanted[:, : width + NEW - 1])


def test_cls_of_a_text_padded_on_the_left_is_refused_not_silently_nothing() -> None:
    model, inputs = tiny_causal("gemma2"), prompts(4, side="left")
    with pytest.raises(SiteError, match="column 0, which is a pad"), edited(model, EDITS, positions="cls"):
        generate(model, inputs)
    with pytest.raises(SiteError, match="column 0, which is a pad"), edited(model, EDITS, positions="cls"):
        model(**inputs)
    with edited(model, EDITS, positions="cls"):
        generate(model, prompts(1))


def test_cells_share_a_generate_call() -> None:
    model, inputs = tiny_causal("llama"), prompts(3)
    two = GatedEdit(
        *(
            torch.cat([getattr(EDITS[Site(0)], n), getattr(EDITS[Site(1)], n)])
            for n in ("lower", "upper", "scale", "shift", "strength")
        )
    )
    repeated = {name: tensor.repeat(2, 1) for name, tensor in inputs.items()}
    for options in ({}, {"num_beams": 2}):
        apart = []
        for edit in EDITS.values():
            with edited(model, {Site(1): edit}, positions="generated"):
                apart.append(generate(model, inputs, **options).sequences)
        with edited(model, {Site(1): two}, positions="generated", cells=2):
            together = generate(model, repeated, **options).sequences
        assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize("positions", WHERE)
def test_contexts_inside_contexts_each_with_its_own_positions(positions: str) -> None:
    model, inputs = tiny_causal("llama"), prompts(4)
    one, other = ({site: edit} for site, edit in EDITS.items())
    before = state(model)
    ids, logits = greedy_by_hand(model, "llama", inputs, positions)
    with edited(model, one, positions=positions), edited(model, other, positions=positions):
        found = generate(model, inputs)
    assert torch.equal(found.sequences, ids)
    torch.testing.assert_close(torch.stack(found.logits), logits, rtol=1e-5, atol=1e-5)
    with edited(model, one, positions="prompt"):
        inside = state(model)
        with edited(model, one, positions="generated"):
            mixed = generate(model, inputs).sequences
        assert state(model) == inside
    with edited(model, one, positions="all"):
        assert torch.equal(generate(model, inputs).sequences, mixed)
    assert state(model) == before


def test_trap_11_an_exception_inside_generate_leaves_nothing() -> None:
    model, inputs = tiny_causal("gpt2"), prompts(2)
    before = state(model)

    def broken(hidden: Tensor, mask: Tensor | None) -> Tensor:
        raise ArithmeticError("inside the edit")

    with pytest.raises(ArithmeticError), edited(model, EDITS), edited(model, {Site(2): broken}):
        generate(model, inputs)
    assert state(model) == before
    with edited(model, EDITS, positions="generated"):
        with pytest.raises(ValueError, match="Greedy methods"):
            generate(model, inputs, num_return_sequences=2)
        model(**inputs)  # a plain forward again: all of it is prompt, so nothing is edited
        with capture(model, [Site(2)]) as recorded:
            model(**inputs)
    with capture(model, [Site(2)]) as plain:
        model(**inputs)
    assert torch.equal(recorded[Site(2)], plain[Site(2)])


def test_a_generate_of_the_models_own_instance_is_put_back() -> None:
    model, inputs = tiny_causal("gpt2"), prompts(2)
    calls = []
    original = model.generate

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(named)
        return original(*arguments, **named)

    model.generate = counted
    with edited(model, EDITS, positions="generated"):
        found = generate(model, inputs).sequences
    assert vars(model)["generate"] is counted
    assert len(calls) == 1
    del model.generate
    assert torch.equal(found, greedy_by_hand(model, "gpt2", inputs, "generated")[0])


def test_a_compiled_forward_is_never_used_under_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = tiny_causal("llama"), prompts(2)
    config = CompileConfig()
    config._compile_all_devices = True
    options = {"cache_implementation": "static", "compile_config": config}

    def compiled(*arguments: Any) -> Any:
        raise AssertionError("compiled")

    monkeypatch.setattr(model, "get_compiled_call", compiled)
    with pytest.raises(AssertionError, match="compiled"):
        generate(model, inputs, **options)
    with edited(model, EDITS):
        found = generate(model, inputs, **options).sequences
    assert torch.equal(found, greedy_by_hand(model, "llama", inputs, "all")[0])


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (prompts(2), {"cache_implementation": "paged"}, "columns are not the text's"),
        (prompts(2), {"guidance_scale": 1.5}, "columns are not the text's"),
        (prompts(2), {"generation_config": GenerationConfig(guidance_scale=1.5)}, "columns are not the text's"),
        (
            {"input_ids": prompts(2)["input_ids"]},
            {"cache_implementation": "static"},
            "attention_mask=<the tokenizer's>",
        ),
        ({"input_ids": prompts(2)["input_ids"]}, {"prefill_chunk_size": 2}, "attention_mask=<the tokenizer's>"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(inputs: Any, options: Any, message: str) -> None:
    model = tiny_causal("llama")
    with pytest.raises(SiteError, match=message), edited(model, EDITS, positions="prompt"):
        model.generate(**inputs, **{"max_new_tokens": 2, "pad_token_id": 0} | options)
    assert "generate" not in vars(model)


def test_masks_of_a_plain_forward_have_no_say_in_generate() -> None:
    model, inputs = tiny_causal("llama"), prompts(2)
    for masks in ({"prompt": inputs["attention_mask"] != 0}, {"attended": inputs["attention_mask"] != 0}):
        with pytest.raises(SiteError, match=r"model\.generate knows its own prompt"), edited(model, EDITS, **masks):
            generate(model, inputs)


def _plain(model: Any, inputs: dict[str, Tensor], columns: Tensor, family: str = "llama") -> Tensor:
    with by_hand(model, family, columns), torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_plain_forward_is_told_which_positions_are_prompt(side: str) -> None:
    model, inputs = tiny_causal("llama"), prompts(4, side=side)
    real = inputs["attention_mask"] != 0
    inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    prompt = real & (inputs["position_ids"] < 2)
    wanted = {
        "prompt": prompt,
        "generated": real & ~prompt,
        "all": real,
        "last": prompt & (inputs["position_ids"] == 1),
    }
    for positions, columns in wanted.items():
        for given in (prompt, prompt | ~real):  # a pad is never prompt, whatever the mask says
            with edited(model, EDITS, positions=positions, prompt=given), torch.no_grad():
                found = model(**inputs).logits
            torch.testing.assert_close(found, _plain(model, inputs, columns), rtol=1e-5, atol=1e-5)
        with edited(model, EDITS, positions=positions), torch.no_grad():
            untold = model(**inputs).logits
        default = {"prompt": real, "generated": real & False, "all": real}
        default["last"] = real & (inputs["position_ids"] == inputs["position_ids"].amax(1, keepdim=True))
        torch.testing.assert_close(untold, _plain(model, inputs, default[positions]), rtol=1e-5, atol=1e-5)


def test_prompt_and_attended_are_for_one_cell() -> None:
    model, inputs = tiny_causal("llama"), prompts(3)
    prompt = inputs["attention_mask"].bool() & (torch.arange(inputs["attention_mask"].shape[1]) < 6)
    both = GatedEdit(
        *(torch.cat([getattr(e, n) for e in EDITS.values()]) for n in ("lower", "upper", "scale", "shift", "strength"))
    )
    rows = {name: tensor.repeat(2, 1) for name, tensor in inputs.items()}
    with edited(model, {Site(1): both}, positions="generated", cells=2, prompt=prompt), torch.no_grad():
        together = model(**rows).logits
    apart = []
    for edit in EDITS.values():
        with edited(model, {Site(1): edit}, positions="generated", prompt=prompt), torch.no_grad():
            apart.append(model(**inputs).logits)
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-5)


def test_a_mask_of_four_dimensions_needs_to_be_told_the_pads() -> None:
    model, inputs = tiny_causal("llama"), prompts(4, side="right")
    real = inputs["attention_mask"] != 0
    width = real.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    square = torch.where((causal & real[:, None, :])[:, None], 0.0, torch.finfo(torch.float32).min)
    places = torch.arange(width).expand(len(real), -1)
    packed = {"input_ids": inputs["input_ids"], "attention_mask": square, "position_ids": places}
    for positions in ("all", "last"):
        with pytest.raises(SiteError, match="attended=<bool tensor"), edited(model, EDITS, positions=positions):
            model(**packed)
        with edited(model, EDITS, positions=positions, attended=real), torch.no_grad():
            found = model(**packed).logits
        wanted = _plain(model, packed, expected_columns(inputs, positions))
        torch.testing.assert_close(found[real], wanted[real], rtol=1e-5, atol=1e-5)
    with edited(model, {Site(0): EDITS[Site(0)]}, attended=real), capture(model, [Site(1)]) as edited_states:
        model(**packed)
    with capture(model, [Site(1)]) as plain_states:
        model(**packed)
    assert not torch.equal(edited_states[Site(1)][real], plain_states[Site(1)][real])


def test_masks_that_do_not_fit_the_forward_are_refused() -> None:
    model, inputs = tiny_causal("llama"), prompts(4)
    real = inputs["attention_mask"] != 0
    for name, mask in (("prompt", real[:2]), ("prompt", real[:, :3]), ("attended", real[0])):
        with (
            pytest.raises(SiteError, match=r"expected \[sample, position\], here \[4, "),
            edited(model, EDITS, **{name: mask}),
        ):
            model(**inputs)


def test_a_forward_that_continues_a_cache_reads_the_masks_last_columns() -> None:
    model, inputs = tiny_causal("llama"), prompts(4)
    inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    width = inputs["input_ids"].shape[1]
    cache = DynamicCache(config=model.config)
    early = {name: tensor[:, :-2] for name, tensor in inputs.items()}
    late = {name: tensor[:, -2:] for name, tensor in inputs.items()} | {"attention_mask": inputs["attention_mask"]}
    last = torch.zeros(4, width, dtype=torch.bool)
    last[:, -1] = True
    with torch.no_grad():
        model(**early, past_key_values=cache)
        with edited(model, EDITS, positions="last", prompt=inputs["attention_mask"] != 0):
            found = model(**late, past_key_values=cache).logits
    torch.testing.assert_close(found, _plain(model, inputs, last)[:, -2:], rtol=1e-5, atol=1e-5)


def test_the_body_run_without_its_head_spares_the_pads_too() -> None:
    model, inputs = tiny_causal("llama"), prompts(4)
    real = inputs["attention_mask"] != 0
    with edited(model, EDITS), torch.no_grad():
        found = model.lm_head(model.model(**inputs).last_hidden_state)
    torch.testing.assert_close(found, _plain(model, inputs, real), rtol=1e-5, atol=1e-5)


def test_models_that_cannot_generate_are_left_alone() -> None:
    for model in (tiny_model("bert"), tiny_model("llama"), AutoModel.from_config(FAMILY_CONFIGS["llama"]())):
        before = dict(vars(model))
        assert not hasattr(type(model), "generate")
        with edited(model, EDITS):
            assert dict(vars(model)) == before
        assert dict(vars(model)) == before
    assert not hasattr(AutoModelForSequenceClassification.from_config(FAMILY_CONFIGS["llama"]()), "generate")
