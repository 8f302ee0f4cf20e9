"""The paper's claims: what each says, and the rule by which its evidence is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from neuronlens.ranges.diagnostics.exact_normal import ALPHA, NEAR_EXCESS_KURTOSIS, NEAR_SKEWNESS
from neuronlens.report.claims.evidence_conditional import COST_MARGIN, costs_no_more
from neuronlens.report.claims.evidence_edits import MARGIN, keeps_erasure, spares_general_ability, spares_the_rest
from neuronlens.report.claims.evidence_neurons import (
    FIRING,
    OVERLAP,
    limited_overlap,
    near_gaussian,
    polysemantic,
)
from neuronlens.report.claims.verdicts import Evidence
from neuronlens.report.compare.runs import Run


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what it says, what its evidence is, and the rule of its verdict.

    Attributes:
        needs: what a run must have measured, with the setting that switches it on.
    """

    says: str
    rule: str
    evidence: Callable[[Run], Iterator[Evidence]]
    needs: str


CLAIMS = {
    1: Claim(
        "Salient neurons are polysemantic",
        "The mean Jaccard overlap of two concepts' salient sets against that of two independent random sets of the same "
        "size (hypergeometric). Holds where the interval lies above it, does not hold where it lies below. A ranking by "
        "magnitude (max) favours neurons that are large for every concept, so sharing under it alone says little.",
        polysemantic,
        "diagnostics of salient sets (evaluation.diagnostics=true)",
    ),
    2: Claim(
        "A concept's activations are near Gaussian",
        f"Held-out samples of a concept at each salient neuron against the Gaussian fitted on other samples. Near means "
        f"three things, each with its own verdict: the share of (concept, neuron) pairs not rejected at {ALPHA:.0%} is above, "
        f"and mean absolute skewness below, that of a gamma law of skewness {NEAR_SKEWNESS:g}; mean absolute excess kurtosis is "
        f"below that of a Student t law of excess kurtosis {NEAR_EXCESS_KURTOSIS:g}. The bounds are simulated with as many "
        "samples as each neuron has; holds or does not hold where the whole interval is on that side. The distribution "
        "of the Kolmogorov-Smirnov statistic is simulated with the error of the fit in it, so that exact Gaussians are "
        f"rejected in {ALPHA:.0%}; the tabulated one, which takes the fit as exact, rejects more often. Expected is what exact "
        "Gaussians give with as many samples. Few samples reject little: read the share with the number tested.",
        near_gaussian,
        "diagnostics of ranges (evaluation.diagnostics=true)",
    ),
    3: Claim(
        "Concepts' activations overlap little",
        "The mean Bhattacharyya overlap of a concept's Gaussian with the others' at its salient neurons: holds where the "
        f"interval lies below {OVERLAP:.3f}, the overlap of two equal Gaussians two standard deviations apart. And how often "
        f"the concept's range fires on held-out samples of the rest, as a share of how often on its own: holds where the "
        f"interval lies below {FIRING:g}. Does not hold where it lies above.",
        limited_overlap,
        "diagnostics of ranges (evaluation.diagnostics=true)",
    ),
    4: Claim(
        "Range editing keeps the erasure",
        "The concept's accuracy drop under the range mask minus that under the neuron mask of the same edit, strength and "
        f"number of neurons, paired by concept. Holds (not inferior) where the interval lies above -{MARGIN:g}, does not "
        f"hold where it lies below. Where the neuron mask itself erases no more than {MARGIN:g} there is nothing to keep, "
        "and the verdict is open.",
        keeps_erasure,
        "range and neuron masks of the same edit (sweep.gate)",
    ),
    5: Claim(
        "Range editing spares the other concepts",
        "The others' accuracy and confidence drop under the range mask minus that under the neuron mask of the same edit, "
        "where each has erased the same share of the concept's base accuracy, paired over the concepts that both reach. "
        " Holds where the interval lies below 0, does not hold where it lies above.",
        spares_the_rest,
        "range and neuron masks of the same edit (sweep.gate) that both reach an erasure level",
    ),
    6: Claim(
        "Range editing spares general ability",
        "Perplexity (its logarithm) and MMLU under the range mask minus that under the neuron mask of the same edit, "
        "strength and number of neurons, paired by concept. Holds where the interval shows a lower perplexity or a higher "
        "score, does not hold where it shows the reverse.",
        spares_general_ability,
        "general ability (evaluation.general.perplexity, evaluation.general.mmlu)",
    ),
    7: Claim(
        "Beyond the paper: a range on the discriminant coordinate costs no more than LEACE",
        "The others' confidence drop, and KL, under LEACE behind the gate discriminant minus that under LEACE at every "
        "position, each at the strength at which it has erased the level, paired over the concepts that both reach. Holds (not "
        f"inferior) where the interval lies below {COST_MARGIN:g}, does not hold where it lies above. Read it with how many "
        "concepts each reaches, which stands beside it.",
        costs_no_more,
        "LEACE at every position and behind the gate discriminant that both reach an erasure level (experiment=conditional)",
    ),
}
