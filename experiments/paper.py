"""Every table, figure and claim of a profile, and how they agree with the expected figures."""

from __future__ import annotations

import sys
import time

import neuronlens as nl
from experiments import ablations, general_ability, main_table, normality, polysemanticity, rankers
from experiments.agreement import agreement, keep_expected
from experiments.runner import EXPECTED, arguments, make, run_parts

EXPERIMENTS = (
    main_table.EXPERIMENT,
    polysemanticity.EXPERIMENT,
    normality.EXPERIMENT,
    rankers.EXPERIMENT,
    ablations.EXPERIMENT,
    general_ability.EXPERIMENT,
)
CLAIMED_ON = ("main_table", "ablation_layers", "polysemanticity", "general_ability")
"""Parts whose runs the claims are computed on."""


def main(given: list[str]) -> int:
    """Make everything below the output folder; return 1 where a figure lies outside its expected interval.

    `keep=true` writes the tables as the expected ones instead of holding them against these.
    """
    started = time.perf_counter()
    keep = "keep=true" in given
    profile, folder, more = arguments([entry for entry in given if entry != "keep=true"])
    for experiment in EXPERIMENTS:
        written = make(experiment, profile, folder, more)
        print(f"{experiment.name}: {len(written)} files, {time.perf_counter() - started:.0f} s so far", flush=True)
    parts = {part: experiment for experiment in EXPERIMENTS for part in experiment.parts}
    runs = {
        str(run.path): run
        for part in CLAIMED_ON
        for run in run_parts(parts[part], profile, folder, more).part(part).values()
    }
    nl.write_claims(list(runs.values()), folder)
    expected = EXPECTED / f"paper-{profile.name}"
    if keep:
        keep_expected(folder / "tables", expected)
        answer, outside = f"kept as expected in {expected}", 0
    else:
        answer, outside = agreement(folder / "tables", expected)
    print(f"\n{folder}/claims.md  every claim, computed\n{folder}/tables/  Markdown, CSV and LaTeX\n{folder}/figures/")
    print(f"{answer}\n{time.perf_counter() - started:.0f} s")
    return 1 if outside else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except nl.NeuronLensError as error:
        print(f"paper: {error}", file=sys.stderr)
        sys.exit(2)
