"""Each claim on made-up runs for which it must hold and for which it must fail, its statistic worked out another way."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from neuronlens.errors import NeuronLensError
from neuronlens.measures.intervals import Bootstrap
from neuronlens.ranges.diagnostics.firing import bhattacharyya
from neuronlens.records import ConceptStatistics
from neuronlens.report.claims.claims import claims, write_claims
from neuronlens.report.claims.evidence_neurons import OVERLAP, expected_jaccard, expected_shared
from neuronlens.report.claims.rules import CLAIMS
from neuronlens.report.claims.verdicts import FAILS, HOLDS, OPEN
from neuronlens.results.folder import RunFolder
from neuronlens.saliency.overlap import jaccard
from neuronlens.saliency.ranking import NeuronRanking
from tests.report.made_up import CONCEPTS, METHOD, RANGE, method, unedited, write_run

FRUIT = (*CONCEPTS, "elder")
"""Just enough concepts for a verdict."""
BASE = unedited(dict.fromkeys(FRUIT, 0.9))
SITE = {"site": "resid_post.5", "saliency": "max"}
SIX = tuple(f"c{number}" for number in range(6))


def claim(path: Path, number: int) -> pd.DataFrame:
    frame = claims([RunFolder(path)]).frame
    return frame[frame["claim"] == number].reset_index(drop=True)


def test_expected_overlaps_are_those_of_drawn_sets(generator: np.random.Generator) -> None:
    found, shared = [], []
    for _ in range(3000):
        sets = np.zeros((3, 12), dtype=int)
        for row in sets:
            row[generator.choice(12, 4, replace=False)] = 1
        either = np.maximum(sets[0], sets[1])
        found.append((sets[0] * sets[1]).sum() / either.sum())
        times = sets.sum(axis=0)
        shared.append(((times >= 2).sum(), (times >= 1).sum()))
    assert expected_jaccard(12, 4) == pytest.approx(np.mean(found), abs=0.01)
    assert expected_jaccard(7, 7) == 1.0
    twice, once = np.sum(shared, axis=0)
    assert expected_shared(12, [4, 4, 4]) == pytest.approx(twice / once, abs=0.01)


def sharing_run(
    path: Path, chosen: list[set[int]], neurons: int = 40, salient: int | None = None, **changed: Any
) -> Path:
    """Write a run whose concepts' most salient neurons are these sets: a quarter, or as many as the diagnostics say."""
    scores = np.zeros((len(chosen), neurons))
    for row, own in zip(scores, chosen, strict=True):
        row[list(own)] = 1.0
    shared = jaccard(NeuronRanking("max", scores, SIX).selected(top_count=salient or neurons // 4))
    pairs = [(a, b, shared[i, j]) for i, a in enumerate(SIX) for j, b in enumerate(SIX)]
    overlap = pd.DataFrame(pairs, columns=["concept", "other", "jaccard"]).assign(**SITE)
    if salient:
        overlap["salient"] = salient
    return write_run(path, rows=BASE, overlap=overlap, scores={"resid_post.5/max": scores}, **changed)


def test_claim_1_shared_sets_hold_and_disjoint_ones_do_not(tmp_path: Path) -> None:
    common = [set(range(8)) | {10 + 2 * number, 11 + 2 * number} for number in range(6)]
    held, share = claim(sharing_run(tmp_path / "shared", common), 1).to_dict("records")
    by_hand = np.mean([len(a & b) / len(a | b) for a, b in combinations(common, 2)])
    assert held["value"] == pytest.approx(by_hand) == pytest.approx(8 / 12)
    assert held["bound"] == held["expected"] == pytest.approx(expected_jaccard(40, 10))
    assert held["verdict"] == HOLDS
    assert share["value"] == pytest.approx(8 / (8 + 12)), "eight neurons are everyone's, twelve one concept's"
    assert pd.isna(share["verdict"])

    apart: list[set[int]] = [set() for _ in range(6)]
    for place, pair in enumerate(
        combinations(range(6), 2)
    ):  # every two concepts share two neurons, by chance it is 2.5
        for number in pair:
            apart[number] |= {2 * place, 2 * place + 1}
    apart[0], apart[1] = apart[0] - {0} | {30}, apart[1] - {2 * 5} | {31}
    failed = claim(sharing_run(tmp_path / "apart", apart), 1).iloc[0]
    assert failed["value"] == pytest.approx(np.mean([len(a & b) / len(a | b) for a, b in combinations(apart, 2)]))
    assert failed["verdict"] == FAILS
    assert "c0" in failed["against"]


@pytest.mark.parametrize("changed", [{"sweep": {"top_fraction": [0.05, 0.1]}}, {"intervention__top_count": 4}])
def test_claim_1_is_over_the_neurons_that_the_run_edited(changed: dict[str, Any], tmp_path: Path) -> None:
    """The config's own fraction is a quarter: ten of forty neurons. The run edited four of them."""
    chosen = [set(range(2)) | {10 + 2 * number, 11 + 2 * number} for number in range(6)]
    path = sharing_run(tmp_path / "run", chosen, salient=4, **changed)
    held, share = claim(path, 1).to_dict("records")
    assert held["expected"] == pytest.approx(expected_jaccard(40, 4))
    assert held["expected"] != pytest.approx(expected_jaccard(40, 10)), "positive control: the count matters"
    assert "4 of 40 neurons" in held["detail"]
    assert share["value"] == pytest.approx(2 / 14)


def test_expected_overlaps_of_sets_of_different_sizes(generator: np.random.Generator) -> None:
    sizes, found, shared = (2, 5, 9), [], []
    for _ in range(4000):
        sets = np.zeros((3, 12), dtype=int)
        for row, size in zip(sets, sizes, strict=True):
            row[generator.choice(12, size, replace=False)] = 1
        found.append((sets[0] * sets[2]).sum() / np.maximum(sets[0], sets[2]).sum())
        times = sets.sum(axis=0)
        shared.append(((times >= 2).sum(), (times >= 1).sum()))
    assert expected_jaccard(12, 2, 9) == pytest.approx(np.mean(found), abs=0.01)
    twice, once = np.mean(shared, axis=0)
    assert expected_shared(12, sizes) == pytest.approx(twice / once, abs=0.01)


def diagnostics(values: dict[str, np.ndarray], n_fit: int = 60, **columns: Any) -> pd.DataFrame:
    """Return diagnostics of held-out values `[sample, neuron]` per concept, each against a Gaussian of its own fit half."""
    rows = []
    for name, both in values.items():
        fit, test = both[:n_fit], both[n_fit:]
        for neuron in range(both.shape[1]):
            own = test[:, neuron]
            found = stats.kstest(own, "norm", args=(fit[:, neuron].mean(), fit[:, neuron].std()))
            row = {
                "concept": name,
                "neuron": neuron,
                "n": len(own),
                "ks_statistic": found.statistic,
                "ks_p": found.pvalue,
            }
            rows.append(row | {"skewness": stats.skew(own), "excess_kurtosis": stats.kurtosis(own)})
    given = {"range": "gaussian", "tau": 2.5, "firing_concept": 1.0, "firing_rest": 0.5, "overlap": 0.5}
    return pd.DataFrame(rows).assign(**SITE, **(given | columns))


def law_run(path: Path, table: pd.DataFrame, fitted: int = 60, overlap: pd.DataFrame | None = None) -> Path:
    scores = np.zeros((table["concept"].nunique(), 40))
    found = {"diagnostics": table, "overlap": overlap, "scores": {"resid_post.5/max": scores}}
    return write_run(path, rows=BASE, fitted=fitted, **found)


def pairs_of(square: np.ndarray) -> pd.DataFrame:
    """Return `overlap.parquet` of concepts whose Gaussians overlap so and whose salient sets are the same."""
    pairs = [(one, other, 1.0, square[i, j]) for i, one in enumerate(SIX) for j, other in enumerate(SIX)]
    return pd.DataFrame(pairs, columns=["concept", "other", "jaccard", "bhattacharyya"]).assign(**SITE)


def test_claim_2_gaussians_hold_and_exponentials_do_not(tmp_path: Path, generator: np.random.Generator) -> None:
    normal = diagnostics({name: generator.normal(3, 2, (400, 120)) for name in SIX}, n_fit=200)
    again = pd.concat([normal, normal.assign(range="quantile", tau=np.nan)])  # a second range of the same neurons
    rows = claim(law_run(tmp_path / "normal", again, 200), 2)
    assert rows["verdict"].tolist()[:3] == [HOLDS] * 3
    share, skewed, heavy, distance = rows.to_dict("records")
    assert share["value"] == pytest.approx(0.95, abs=0.03)
    assert share["value"] > np.mean(normal["ks_p"] >= 0.05), "the tabled law rejects exact Gaussians too often"
    assert skewed["value"] == pytest.approx(normal["skewness"].abs().mean())
    assert skewed["value"] == pytest.approx(skewed["expected"], rel=0.1)
    assert heavy["value"] == pytest.approx(heavy["expected"], rel=0.15)
    assert distance["value"] == pytest.approx(distance["expected"], rel=0.05)
    assert pd.isna(distance["verdict"])
    assert "720 pairs" in share["detail"], "each neuron once, however many ranges"

    skewed_ones = diagnostics({name: generator.exponential(1, (400, 60)) for name in SIX}, n_fit=200)
    failed = claim(law_run(tmp_path / "exponential", skewed_ones, 200), 2)
    assert failed["verdict"].tolist()[:3] == [FAILS] * 3
    assert all("and 1 more; worst is neuron" in told for told in failed["against"][:3])


def test_claim_2_is_open_where_the_interval_crosses_the_bound(tmp_path: Path, generator: np.random.Generator) -> None:
    mixed = {name: generator.normal(0, 1, (400, 200)) for name in SIX[:3]}
    mixed |= {name: generator.exponential(1, (400, 200)) for name in SIX[3:]}
    rows = claim(law_run(tmp_path / "mixed", diagnostics(mixed, n_fit=200), 200), 2)
    assert rows["verdict"].tolist()[1] == OPEN
    assert {name for name in SIX if name in rows["against"].iloc[0].split(";")[0]} == set(SIX[3:])


@pytest.mark.parametrize(("gap", "verdict"), [(2.6, HOLDS), (1.0, FAILS)])
def test_claim_3_overlap_of_gaussians_two_deviations_apart_is_the_bound(
    gap: float, verdict: str, tmp_path: Path, generator: np.random.Generator
) -> None:
    grid = np.linspace(-12, 14, 20001)
    integral = np.trapezoid(np.sqrt(stats.norm.pdf(grid) * stats.norm.pdf(grid, 2, 1)), grid)
    assert pytest.approx(integral, abs=1e-6) == OVERLAP
    ones = np.ones((2, 1))
    law = ConceptStatistics(np.array([9, 9]), np.array([[0.0], [gap]]), ones, ones)
    given = bhattacharyya(law)[0, 1, 0] + generator.normal(0, 0.01, (6, 6))
    np.fill_diagonal(given, np.nan)
    table = diagnostics({name: generator.normal(0, 1, (120, 2)) for name in SIX})
    table["overlap"] = table["concept"].map(dict(zip(SIX, np.nanmean(given, axis=1), strict=True)))
    row = claim(law_run(tmp_path / "run", table, overlap=pairs_of(given)), 3).iloc[0]
    assert row["value"] == pytest.approx(np.nanmean(given))
    assert row["verdict"] == verdict
    older = claim(law_run(tmp_path / "older", table), 3).iloc[0]
    assert older["value"] == pytest.approx(np.nanmean(given))
    assert older["verdict"] == OPEN, "a run that kept no pairs has no interval over them"


def test_trap_39_overlap_of_gaussians_is_over_pairs_of_concepts(tmp_path: Path, generator: np.random.Generator) -> None:
    """Six concepts of which some overlap with everyone: means of rows would show what six concepts do not."""
    effect = np.array([-0.12, -0.09, 0.0, 0.02, 0.1, 0.14]) / 2
    square = OVERLAP - 0.035 + effect[:, None] + effect
    np.fill_diagonal(square, np.nan)
    table = diagnostics({name: generator.normal(0, 1, (120, 2)) for name in SIX})
    table["overlap"] = table["concept"].map(dict(zip(SIX, np.nanmean(square, axis=1), strict=True)))
    row = claim(law_run(tmp_path / "run", table, overlap=pairs_of(square)), 3).iloc[0]
    of_rows = Bootstrap(0.95, 400, 0).of_mean(np.nanmean(square, axis=1))
    assert row["value"] == pytest.approx(of_rows.value)
    assert row["value_high"] - row["value_low"] > 1.5 * (of_rows.high - of_rows.low)
    assert row["verdict"] == OPEN


@pytest.mark.parametrize(("rest", "verdict"), [(0.2, HOLDS), (0.8, FAILS), (0.45, OPEN)])
def test_claim_3_firing_on_the_rest(rest: float, verdict: str, tmp_path: Path, generator: np.random.Generator) -> None:
    table = diagnostics({name: generator.normal(0, 1, (120, 2)) for name in SIX}, firing_concept=0.9)
    spread = dict(zip(SIX, rest + np.linspace(-0.1, 0.1, 6), strict=True))
    table["firing_rest"] = table["concept"].map(spread)
    other = table.assign(tau=1.0, firing_rest=0.0)
    row = claim(law_run(tmp_path / "run", pd.concat([table, other])), 3).iloc[1]
    assert row["value"] == pytest.approx(rest / 0.9), "at the configured tau alone"
    assert row["verdict"] == verdict
    assert row["setting"] == "max, gaussian, tau 2.5"


def erasing_run(path: Path, ours: dict[str, float], mask: dict[str, float], **more: Any) -> Path:
    """Write a run with one range mask and one neuron mask that drop the concept's accuracy so far, and a control."""
    cells = []
    own = {"model": "made_up", "dataset": "fruit", "skipped": None, "top_fraction": 0.3, "n_neurons": 12.0}
    for base, drops in (
        (RANGE, ours),
        (METHOD, mask),
        ({**METHOD, "control": "random_neurons"}, dict.fromkeys(mask, 0.0)),
    ):
        cells += [{**base, **own, "concept": name, "concept_accuracy_drop": value} for name, value in drops.items()]
    cells += [{**RANGE, **own, "tau": 1.0, "concept": name, "concept_accuracy_drop": 0.0} for name in ours]
    return write_run(path, rows=pd.concat([BASE, pd.DataFrame(cells)], ignore_index=True), **more)


@pytest.mark.parametrize(
    ("less", "verdict"),
    [
        ((0.0, 0.01, 0.02, 0.01, 0.0), HOLDS),
        ((0.2, 0.3, 0.2, 0.3, 0.2), FAILS),
        ((0.0, 0.1, 0.0, 0.1, 0.0), OPEN),
    ],
)
def test_claim_4_is_non_inferiority_by_five_points(less: tuple[float, ...], verdict: str, tmp_path: Path) -> None:
    mask = dict(zip(FRUIT, (0.4, 0.5, 0.6, 0.7, 0.5), strict=True))
    ours = {name: mask[name] - gone for name, gone in zip(FRUIT, less, strict=True)}
    (row,) = claim(erasing_run(tmp_path / "run", ours, mask), 4).to_dict("records")
    assert row["value"] == pytest.approx(-np.mean(less))
    assert row["verdict"] == verdict
    assert row["setting"] == "max, zero, gaussian, tau 2.5, 30% of the neurons"
    beyond = [name for name, gone in zip(FRUIT, less, strict=True) if gone > 0.05]
    assert [name for name in FRUIT if name in row["against"]] == beyond


def test_claim_4_is_open_where_the_neuron_mask_erases_nothing(tmp_path: Path) -> None:
    nothing = dict.fromkeys(CONCEPTS, 0.02)
    assert claim(erasing_run(tmp_path / "run", nothing, nothing), 4)["verdict"].tolist() == [OPEN]


@pytest.mark.parametrize(
    ("more", "verdict"),
    [((-0.1, -0.2, -0.1, -0.2, -0.1), HOLDS), ((0.1, 0.2, 0.1, 0.2, 0.1), FAILS), ((-0.1, 0.1, -0.1, 0.1, 0.0), OPEN)],
)
def test_claim_5_is_the_others_cost_at_matched_erasure(more: tuple[float, ...], verdict: str, tmp_path: Path) -> None:
    mask = dict(zip(FRUIT, (0.4, 0.5, 0.6, 0.7, 0.5), strict=True))
    ours = {name: mask[name] + extra for name, extra in zip(FRUIT, more, strict=True)}
    unreached = method(METHOD, {**mask, "elder": np.nan}, level=0.8), method(RANGE, ours, level=0.8)
    matched = pd.concat([method(METHOD, mask), method(RANGE, ours), *unreached], ignore_index=True)
    path = write_run(tmp_path / "run", rows=BASE, matched=matched)
    rows = claim(path, 5)
    assert rows["statistic"].str.contains("confidence").tolist() == [False, True] * 2
    confidence = rows.iloc[1]
    assert confidence["value"] == pytest.approx(np.mean(more))
    assert rows["verdict"].tolist()[:2] == [verdict] * 2
    assert rows.iloc[3]["value"] == pytest.approx(np.mean(more[:4])), "over the concepts that both reach"
    assert rows["verdict"].tolist()[2:] == ["too few concepts to say"] * 2
    assert rows["concepts"].tolist() == [5, 5, 4, 4]
    worse = [name for name, extra in zip(FRUIT, more, strict=True) if extra > 0]
    assert [name for name in FRUIT if name in confidence["against"]] == worse


def general_rows(measure: str, ours: list[float], mask: list[float]) -> pd.DataFrame:
    rows = [
        {**METHOD, "edit": "none", "measure": measure, "subject": None, "concept": None, "edited": 20.0, "base": 20.0}
    ]
    for base, values in ((RANGE, ours), (METHOD, mask)):
        for name, value in zip(FRUIT, values, strict=True):
            rows.append({**base, "measure": measure, "subject": None, "concept": name, "edited": value, "base": 20.0})
            rows.append({**rows[-1], "subject": "law", "edited": 99.0})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("swap", [False, True], ids=["spares", "harms"])
def test_claim_6_is_lower_perplexity_and_higher_mmlu(swap: bool, tmp_path: Path) -> None:
    low, high = [21.0, 22.0, 23.0, 24.0, 21.0], [60.0, 50.0, 60.0, 200.0, 60.0]
    good, bad = [0.5, 0.6, 0.5, 0.6, 0.5], [0.3, 0.3, 0.4, 0.4, 0.3]
    perplexity = general_rows("perplexity", *((high, low) if swap else (low, high)))
    score = general_rows("mmlu_accuracy", *((bad, good) if swap else (good, bad)))
    flips = general_rows("mmlu_flip_rate", good, bad)
    path = write_run(tmp_path / "run", rows=BASE, general=pd.concat([perplexity, score, flips], ignore_index=True))
    rows = claim(path, 6)
    assert rows["statistic"].tolist() == ["log perplexity, range - neuron", "mmlu accuracy, range - neuron"]
    sign = -1 if swap else 1
    assert rows["value"].iloc[0] == pytest.approx(sign * np.mean(np.log(np.array(low) / high)))
    assert rows["value"].iloc[1] == pytest.approx(sign * np.mean(np.subtract(good, bad)))
    assert rows["verdict"].tolist() == [FAILS if swap else HOLDS] * 2
    assert ("drum" in rows["against"].iloc[0]) == swap


def test_several_layers_and_rankings_have_their_own_verdicts(tmp_path: Path, generator: np.random.Generator) -> None:
    normal = diagnostics({name: generator.normal(0, 1, (120, 5)) for name in SIX})
    parts = [normal.assign(site=f"resid_post.{layer}", saliency=name) for layer in (1, 3) for name in ("max", "probe")]
    scores = {f"resid_post.{layer}/{name}": np.zeros((6, 40)) for layer in (1, 3) for name in ("max", "probe")}
    path = write_run(tmp_path / "run", rows=BASE, diagnostics=pd.concat(parts), scores=scores)
    rows = claim(path, 2)
    assert rows.groupby(["place", "setting"]).size().to_dict() == {
        (f"resid_post.{layer}", name): 4 for layer in (1, 3) for name in ("max", "probe")
    }


@pytest.mark.parametrize("concepts", [1, 2, 4])
def test_trap_41_few_concepts_show_nothing(concepts: int, tmp_path: Path) -> None:
    masks = dict(zip(FRUIT[:concepts], (0.4, 0.5, 0.6, 0.7), strict=False))
    path = erasing_run(tmp_path / "run", dict.fromkeys(masks, 0.0), masks)
    (row,) = claim(path, 4).to_dict("records")
    assert row["verdict"] == "too few concepts to say", "however far apart: four of one sign are one case in eight"
    assert np.isnan(row["value_low"]) == (concepts < 2), "a mean of one has no interval"
    summary = write_claims([RunFolder(path)], tmp_path / "out")[0].read_text().split("## 1.")[0]
    assert "| Too few concepts to say |" in summary
    assert "| 0 | 0 | 0 | 1 |" in summary


def test_the_page_says_every_rule_verdict_and_what_was_not_measured(tmp_path: Path) -> None:
    matched = pd.concat([method(METHOD, dict.fromkeys(FRUIT, 0.4)), method(RANGE, dict.fromkeys(FRUIT, 0.1))])
    same = dict.fromkeys(FRUIT, 0.5)
    paths = [erasing_run(tmp_path / "one", same, same, matched=matched)]
    paths.append(erasing_run(tmp_path / "two", same, same, seed=1))
    page, csv, tex = write_claims([RunFolder(path) for path in paths], tmp_path / "out")
    text = page.read_text()
    for number, one in CLAIMS.items():
        assert f"## {number}. {one.says}" in text
    assert text.count("Rule: ") == len(CLAIMS)
    assert "Not measured in seed 0, seed 1: it takes general ability" in text
    assert "Not measured in seed 1: it takes range and neuron masks" in text
    summary = text.split("## Verdicts")[1].split("## 1.")[0]
    assert (
        "| Range editing spares the other concepts | seed 0 | made_up | fruit | resid_post.5 | 2 | 0 | 0 | 0 |"
        in summary
    )
    frame = pd.read_csv(csv)
    assert frame.groupby("claim").size().to_dict() == {4: 2, 5: 2}
    assert frame["run"].tolist() == ["seed 0", "seed 1", "seed 0", "seed 0"]
    assert set(frame["verdict"]) == {HOLDS}
    assert tex.read_text().count(r"\begin{table}") == 3, "the summary and the two claims that were measured"
    with pytest.raises(NeuronLensError, match="given twice"):
        write_claims([RunFolder(paths[0])] * 2, tmp_path / "out")


def test_a_run_without_anything_measured_still_has_a_page(tmp_path: Path) -> None:
    page, csv, _ = write_claims([RunFolder(write_run(tmp_path / "run", rows=BASE))], tmp_path / "out")
    assert page.read_text().count("Not measured in run") == len(CLAIMS)
    assert pd.read_csv(csv).empty


LEACE = {**METHOD, "saliency": None, "edit": "leace", "strength": np.nan, "n_neurons": 384}
GATED = {**LEACE, "gate": "discriminant"}


@pytest.mark.parametrize(("extra", "verdict"), [(-0.02, HOLDS), (0.005, HOLDS), (0.05, FAILS)])
def test_claim_7_a_range_that_costs_no_more_than_leace_holds_and_one_that_costs_more_does_not(
    extra: float, verdict: str, tmp_path: Path
) -> None:
    cost = {name: 0.1 + 0.01 * place for place, name in enumerate(FRUIT)}
    gated = {name: value + extra for name, value in cost.items()}
    others = [method(GATED, dict.fromkeys(FRUIT, 0.9), control="random_direction"), method(RANGE, cost)]
    matched = pd.concat([method(LEACE, cost), method(GATED, gated), *others])
    found = claim(write_run(tmp_path / "run", rows=BASE, matched=matched), 7)
    assert list(found["verdict"]) == [verdict] * 2, "confidence and KL; the control is not held against LEACE"
    assert found["value"].tolist() == pytest.approx([extra] * 2)
    assert found["detail"].str.contains("reached in 5 against 5 of 5 concepts").all()
    assert ("no concept" in found["against"].iloc[0]) == (verdict == HOLDS)


def test_claim_7_names_gates_by_what_they_are_and_counts_concepts_not_reached(tmp_path: Path) -> None:
    cost = dict.fromkeys(FRUIT, 0.2)
    gated = cost | {"apple": np.nan}
    parts = {"gate": {"mine": {"_target_": "neuronlens.edits.gates.discriminant.DiscriminantGate", "theta": "zero"}}}
    matched = pd.concat([method(LEACE, cost), method({**LEACE, "gate": "mine"}, gated)])
    found = claim(write_run(tmp_path / "run", rows=BASE, matched=matched, parts=parts), 7)
    assert found["detail"].str.contains("reached in 4 against 5 of 5 concepts").all()
    assert found["setting"].str.startswith("mine leace").all()
    matched = matched[matched["gate"] == "neuron"]
    assert claim(write_run(tmp_path / "alone", rows=BASE, matched=matched), 7).empty
