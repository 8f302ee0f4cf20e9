"""Every column of the results, declared once: its name, meaning, unit and part. Every list of columns follows from these.

A new knob is one declaration here and the place where it acts. Where a field of `records.Knobs` has its name, the results
hold it without another line; the names of methods, tables, page, comparisons and trackers tell its values apart by
themselves.
"""

from __future__ import annotations

from neuronlens.measures.declaration import Columns, ResultColumn

RESULTS = Columns(
    (
        ResultColumn(
            "run_id", "run", "Run name, date, job of a multirun and a short fingerprint; no other run has it."
        ),
        ResultColumn("model", "run", "Name of the model."),
        ResultColumn("dataset", "run", "Name of the dataset."),
        ResultColumn(
            "layer",
            "place",
            "Number of the edited layer, counted from 0; the highest where several are edited at once.",
            dtype="Int64",
            derived=True,
        ),
        ResultColumn(
            "layers",
            "place",
            "Every edited layer, joined by `+`; `incremental` follows where each was fitted under the earlier edits.",
            label="layer",
            words="layer {}",
            apart=True,
            behind=True,
        ),
        ResultColumn("site", "place", "The point inside the block that is edited.", apart=True),
        # A new knob of an edit, a gate or a ranking goes among these; null where it plays no part.
        ResultColumn("saliency", "method", "The ranker that chose the neurons.", label="ranking", apart=True),
        ResultColumn(
            "top_fraction",
            "share",
            "Share of the neurons that is edited, the most salient first.",
            words="{} of the neurons",
            code="top{}",
            percent=True,
            tuned=True,
            apart=True,
        ),
        ResultColumn("range", "range", "The estimator of the intervals; null where the gate has none."),
        ResultColumn(
            "tau",
            "range",
            "Half-width of an interval in standard deviations; null where the range has no width.",
            words="tau {}",
            code="tau{}",
            tuned=True,
        ),
        ResultColumn("gate", "range", "What decides where the edit acts."),
        ResultColumn("edit", "method", "What is done to a value; `none` for the unedited model."),
        ResultColumn("control", "method", "Which control the cell is; null where it is none.", behind=True),
        ResultColumn(
            "parameters",
            "method",
            "Parameters of the edit and the gate, such as beta=0.125; null where they have none.",
            apart=True,
            behind=True,
        ),
        ResultColumn(
            "strength",
            "dose",
            "How far a value is moved towards the edit's target; 1 is the whole way.",
            words="x {}",
            code="x{}",
            neutral=1.0,
            tuned=True,
        ),
        ResultColumn(
            "n_neurons",
            "dose",
            "How many neurons are edited.",
            label="neurons",
            words="{} neurons",
            code="{}neurons",
            dtype="Int64",
            derived=True,
            tuned=True,
            behind=True,
        ),
        ResultColumn("edit_positions", "place", "The token positions that are edited.", label="edited", apart=True),
        ResultColumn("concept", "concept", "The concept that the edit is fitted on."),
        ResultColumn("seed", "run", "The run's seed."),
        ResultColumn("n_concept", "count", "Samples of the concept that the measures are over."),
        ResultColumn("n_complement", "count", "Samples of the other concepts that the measures are over."),
        # Accuracy: share of samples whose prediction is their label. Confidence: mean probability of the gold label. Both
        # are over all samples of a side, right or wrong (SPEC section 5).
        ResultColumn("concept_accuracy", "level", "Edited accuracy on the concept.", published="Acc", better="low"),
        ResultColumn(
            "concept_confidence", "level", "Edited confidence on the concept.", published="Conf", better="low"
        ),
        ResultColumn(
            "complement_accuracy", "level", "Edited accuracy on the other concepts.", published="CAcc", better="high"
        ),
        ResultColumn(
            "complement_confidence",
            "level",
            "Edited confidence on the other concepts.",
            published="CConf",
            better="high",
        ),
        ResultColumn("base_concept_accuracy", "base", "Unedited accuracy on the concept."),
        ResultColumn("base_concept_confidence", "base", "Unedited confidence on the concept."),
        ResultColumn("base_complement_accuracy", "base", "Unedited accuracy on the other concepts."),
        ResultColumn("base_complement_confidence", "base", "Unedited confidence on the other concepts."),
        ResultColumn(
            "concept_accuracy_drop",
            "erasure",
            "Unedited minus edited accuracy on the concept.",
            short="accuracy",
            published="Acc drop",
            better="high",
        ),
        ResultColumn(
            "concept_confidence_drop",
            "erasure",
            "Unedited minus edited confidence on the concept.",
            short="confidence",
            published="Conf drop",
            better="high",
        ),
        ResultColumn(
            "complement_accuracy_drop",
            "collateral",
            "Unedited minus edited accuracy on the other concepts.",
            short="accuracy",
            published="CAcc drop",
            better="low",
        ),
        ResultColumn(
            "complement_confidence_drop",
            "collateral",
            "Unedited minus edited confidence on the other concepts.",
            short="confidence",
            published="CConf drop",
            better="low",
        ),
        ResultColumn(
            "selectivity", "balance", "Accuracy drop of the concept minus that of the other concepts.", better="high"
        ),
        ResultColumn(
            "kl",
            "collateral",
            "Mean KL divergence of the edited from the unedited prediction on the other concepts.",
            label="KL",
            unit="nats",
            better="low",
        ),
        ResultColumn(
            "flip_rate", "change", "Share of the other concepts' samples whose prediction changes.", better="low"
        ),
        ResultColumn(
            "tpp",
            "extent",
            "Targeted probe perturbation: the concept's accuracy drop minus the mean of the other concepts' drops, each concept "
            "counted once.",
            better="high",
            behind=True,
        ),
        ResultColumn(
            "edit_norm",
            "extent",
            "Mean over edited samples of the norm of what the edit adds, over the norm of the state at the editable positions.",
            better="low",
            behind=True,
        ),
        ResultColumn(
            "touched_samples",
            "extent",
            "Share of the other concepts' samples in which the edit changes anything.",
            better="low",
            behind=True,
        ),
        ResultColumn(
            "touched_positions",
            "extent",
            "Share of the other concepts' editable positions at which the edit changes anything.",
            better="low",
            behind=True,
        ),
        *(
            ResultColumn(
                f"{base}recovery_{probe}_{where}",
                "recovery",
                f"AUROC (chance 0.5) of a {words} that tells the concept from the others by the {states} states {layer}, fitted "
                "on those of the fit split.",
                behind=True,
            )
            for where, layer in (("edited", "at the edited layer"), ("last", "at the last layer"))
            for probe, words in (
                ("linear", "logistic regression"),
                ("rbf", "support vector machine with an RBF kernel"),
            )
            for base, states in (("", "edited"), ("base_", "unedited"))
        ),
        ResultColumn("skipped", "record", "Why the cell was not run; null where it was.", behind=True),
        ResultColumn(
            "range_concept",
            "record",
            "The concept whose gate, its ranges or score, the control `other_concept` takes; null elsewhere.",
            behind=True,
        ),
        ResultColumn(
            "cell_id", "record", "Fingerprint of what the cell edits, where, and what it was fitted on.", behind=True
        ),
    )
)
GENERAL = Columns(
    (
        ResultColumn("measure", "run", "What was measured: a perplexity or one of MMLU's."),
        ResultColumn("subject", "run", "The subject of MMLU; null for all questions together."),
        ResultColumn("base", "base", "The unedited model's value."),
        ResultColumn("edited", "level", "The value under the edit."),
        ResultColumn("difference", "change", "Edited minus unedited."),
        ResultColumn("ratio", "change", "Edited over unedited, of a perplexity."),
        ResultColumn("n", "count", "Documents or questions measured on.", dtype="Int64", behind=True),
        ResultColumn("n_tokens", "count", "Tokens predicted, of a perplexity.", dtype="Int64", behind=True),
    )
)
"""What the table of general ability holds besides the columns of the results."""

METHOD, SETTINGS, CURVE, FAMILY = RESULTS.method, RESULTS.settings, RESULTS.curve, RESULTS.family
WHERE = RESULTS.keys("place")
MEASURES = RESULTS.measures
EFFECTS = [key for key in MEASURES if RESULTS[key].role not in ("level", "base")]
"""What an edit changes, in its concept and in the others."""
TRADEOFF = [key for key in EFFECTS if RESULTS[key].role != "change"]
"""Erasure, collateral and their balance: what a method is judged by."""
COLLATERAL = RESULTS.keys("collateral")
ERASURE = RESULTS.keys("erasure")
DROPS = [key for key in COLLATERAL if not RESULTS[key].unit]
"""Collateral as shares of samples, which can be held against the concept's own drop."""
ERASED, COST = "concept_accuracy_drop", "complement_confidence_drop"
"""The axes of the trade-off: what is wanted, and what it costs the other concepts."""
