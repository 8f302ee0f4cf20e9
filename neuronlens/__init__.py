"""NeuronLens: edit what a neuron says in a range, and measure what it costs everything else.

The public names, each imported from its home when it is first used, so that `import neuronlens` stays light. What a
researcher needs comes first in docs/SPEC.md, section 8; the rest is the engine, for experiments and benchmarks of one's own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and mypy see
    from neuronlens.activations.extract import ActivationExtractor as ActivationExtractor
    from neuronlens.activations.extract import Extraction as Extraction
    from neuronlens.activations.extract import extract as extract
    from neuronlens.config.compose import compose as compose
    from neuronlens.config.fingerprint import plain as plain
    from neuronlens.config.schema import Config as Config
    from neuronlens.config.schema_evaluation import EvaluationConfig as EvaluationConfig
    from neuronlens.config.schema_run import TrainerConfig as TrainerConfig
    from neuronlens.data.concepts import load_concepts as load_concepts
    from neuronlens.edits.build import EditBuilder as EditBuilder
    from neuronlens.edits.fitting import Fitted as Fitted
    from neuronlens.edits.gated import GatedEdit as GatedEdit
    from neuronlens.errors import NeuronLensError as NeuronLensError
    from neuronlens.execution.console import wide_console as wide_console
    from neuronlens.execution.machine import peak_memory_gib as peak_memory_gib
    from neuronlens.execution.trainer import make_trainer as make_trainer
    from neuronlens.execution.trainer import quiet_libraries as quiet_libraries
    from neuronlens.hooks.admission import Admission as Admission
    from neuronlens.hooks.admission import admit as admit
    from neuronlens.hooks.contexts import capture as capture
    from neuronlens.hooks.contexts import edited as edited
    from neuronlens.hooks.reads import position_read as position_read
    from neuronlens.hooks.takes import takes_positions as takes_positions
    from neuronlens.lens.estimators import ConceptEraser as ConceptEraser
    from neuronlens.lens.estimators import GateScores as GateScores
    from neuronlens.lens.estimators import RangeMembership as RangeMembership
    from neuronlens.lens.estimators import SaliencySelector as SaliencySelector
    from neuronlens.lens.fit import fit as fit
    from neuronlens.lens.lens import Lens as ConceptLens  # noqa: F401
    from neuronlens.lens.lens import Lens as Lens
    from neuronlens.measures.columns import RESULTS as RESULTS
    from neuronlens.measures.estimates import Estimate as Estimate
    from neuronlens.measures.estimates import of_difference as of_difference
    from neuronlens.measures.estimates import of_mean as of_mean
    from neuronlens.measures.estimates import of_paired_shares as of_paired_shares
    from neuronlens.measures.estimates import of_pairs as of_pairs
    from neuronlens.measures.estimates import of_share as of_share
    from neuronlens.measures.general.scale import MeasureScale as MeasureScale
    from neuronlens.measures.intervals import Bootstrap as Bootstrap
    from neuronlens.measures.significance import holm as holm
    from neuronlens.measures.significance import sign_flip_p as sign_flip_p
    from neuronlens.measures.twoway import two_way as two_way
    from neuronlens.measures.verdict import shown_side as shown_side
    from neuronlens.models.batches import collate as collate
    from neuronlens.models.batches import text_batches as text_batches
    from neuronlens.models.heads.base import Labels as Labels
    from neuronlens.models.heads.label_scores import LabelLogprob as LabelLogprob
    from neuronlens.models.load import load as load_model  # noqa: F401
    from neuronlens.models.loaded import LoadedModel as LoadedModel
    from neuronlens.models.source import locate as locate
    from neuronlens.pipeline import run as run
    from neuronlens.ranges.gaussian import GaussianRange as GaussianRange
    from neuronlens.ranges.mixture.fitter import MixtureFitter as MixtureFitter
    from neuronlens.ranges.mixture.laws import MixtureLaws as MixtureLaws
    from neuronlens.records import ActivationRanges as ActivationRanges
    from neuronlens.records import ActivationSet as ActivationSet
    from neuronlens.records import Cell as Cell
    from neuronlens.records import ConceptDataset as ConceptDataset
    from neuronlens.records import FloatArray as FloatArray
    from neuronlens.records import IntArray as IntArray
    from neuronlens.records import Knobs as Knobs
    from neuronlens.records import ResultTable as ResultTable
    from neuronlens.records import Site as Site
    from neuronlens.report.claims.claims import write_claims as write_claims
    from neuronlens.report.claims.evidence_neurons import expected_jaccard as expected_jaccard
    from neuronlens.report.render.console import to_console as to_console
    from neuronlens.report.render.files import write_table as write_table
    from neuronlens.report.table import Column as Column
    from neuronlens.report.table import Table as Table
    from neuronlens.report.table import frame_of as frame_of
    from neuronlens.results.folder import RunFolder as RunFolder
    from neuronlens.saliency.max import MaxSaliency as MaxSaliency
    from neuronlens.saliency.overlap import jaccard as jaccard
    from neuronlens.saliency.ranking import NeuronRanking as NeuronRanking
    from neuronlens.storage.cache import Store as Store
    from neuronlens.storage.files import write_json as write_json
    from neuronlens.sweep.evaluator import SweepEvaluator as SweepEvaluator
    from neuronlens.sweep.shards import run_sweep as run_sweep

__version__ = "0.1.0"

_HOMES = {
    "Estimate": "neuronlens.measures.estimates",
    "of_difference": "neuronlens.measures.estimates",
    "of_mean": "neuronlens.measures.estimates",
    "of_paired_shares": "neuronlens.measures.estimates",
    "of_pairs": "neuronlens.measures.estimates",
    "of_share": "neuronlens.measures.estimates",
    "holm": "neuronlens.measures.significance",
    "sign_flip_p": "neuronlens.measures.significance",
    "shown_side": "neuronlens.measures.verdict",
    "two_way": "neuronlens.measures.twoway",
    "ActivationExtractor": "neuronlens.activations.extract",
    "ActivationRanges": "neuronlens.records",
    "ActivationSet": "neuronlens.records",
    "admit": "neuronlens.hooks.admission",
    "Admission": "neuronlens.hooks.admission",
    "Bootstrap": "neuronlens.measures.intervals",
    "capture": "neuronlens.hooks.contexts",
    "Cell": "neuronlens.records",
    "collate": "neuronlens.models.batches",
    "Column": "neuronlens.report.table",
    "compose": "neuronlens.config.compose",
    "ConceptDataset": "neuronlens.records",
    "ConceptLens": "neuronlens.lens.lens",
    "fit": "neuronlens.lens.fit",
    "ConceptEraser": "neuronlens.lens.estimators",
    "GateScores": "neuronlens.lens.estimators",
    "RangeMembership": "neuronlens.lens.estimators",
    "SaliencySelector": "neuronlens.lens.estimators",
    "Lens": "neuronlens.lens.lens",
    "Config": "neuronlens.config.schema",
    "EditBuilder": "neuronlens.edits.build",
    "edited": "neuronlens.hooks.contexts",
    "EvaluationConfig": "neuronlens.config.schema_evaluation",
    "expected_jaccard": "neuronlens.report.claims.evidence_neurons",
    "extract": "neuronlens.activations.extract",
    "Extraction": "neuronlens.activations.extract",
    "Fitted": "neuronlens.edits.fitting",
    "FloatArray": "neuronlens.records",
    "frame_of": "neuronlens.report.table",
    "GatedEdit": "neuronlens.edits.gated",
    "GaussianRange": "neuronlens.ranges.gaussian",
    "IntArray": "neuronlens.records",
    "jaccard": "neuronlens.saliency.overlap",
    "Knobs": "neuronlens.records",
    "LabelLogprob": "neuronlens.models.heads.label_scores",
    "Labels": "neuronlens.models.heads.base",
    "load_concepts": "neuronlens.data.concepts",
    "LoadedModel": "neuronlens.models.loaded",
    "locate": "neuronlens.models.source",
    "make_trainer": "neuronlens.execution.trainer",
    "MaxSaliency": "neuronlens.saliency.max",
    "MeasureScale": "neuronlens.measures.general.scale",
    "MixtureFitter": "neuronlens.ranges.mixture.fitter",
    "MixtureLaws": "neuronlens.ranges.mixture.laws",
    "NeuronLensError": "neuronlens.errors",
    "NeuronRanking": "neuronlens.saliency.ranking",
    "peak_memory_gib": "neuronlens.execution.machine",
    "plain": "neuronlens.config.fingerprint",
    "position_read": "neuronlens.hooks.reads",
    "quiet_libraries": "neuronlens.execution.trainer",
    "RESULTS": "neuronlens.measures.columns",
    "ResultTable": "neuronlens.records",
    "run": "neuronlens.pipeline",
    "run_sweep": "neuronlens.sweep.shards",
    "RunFolder": "neuronlens.results.folder",
    "Site": "neuronlens.records",
    "Store": "neuronlens.storage.cache",
    "SweepEvaluator": "neuronlens.sweep.evaluator",
    "Table": "neuronlens.report.table",
    "takes_positions": "neuronlens.hooks.takes",
    "text_batches": "neuronlens.models.batches",
    "to_console": "neuronlens.report.render.console",
    "TrainerConfig": "neuronlens.config.schema_run",
    "wide_console": "neuronlens.execution.console",
    "write_claims": "neuronlens.report.claims.claims",
    "write_json": "neuronlens.storage.files",
    "write_table": "neuronlens.report.render.files",
    "load_model": "neuronlens.models.load",
}
_NAMED_OTHERWISE = {"ConceptLens": "Lens", "load_model": "load"}
"""Public name -> the name at its home, where the home's own is too short to stand alone, or was another one before."""
__all__ = ["__version__", *sorted(_HOMES)]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name's home when it is first used."""
        if name not in _HOMES:
            raise AttributeError(f"module 'neuronlens' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), _NAMED_OTHERWISE.get(name, name))


def __dir__() -> list[str]:
    return __all__
