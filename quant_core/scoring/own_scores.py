"""Puts what the user's evaluator returned beside the other terms of a model, and makes metrics of it."""

from __future__ import annotations

import pyarrow as pa

from quant_core.config.criterion import OWN_METRICS, Criterion
from quant_core.errors import InputError
from quant_core.scoring.metrics import METRICS, Score, estimate, scores_of
from quant_core.storage.schemas import SCORES
from quant_core.storage.tables import facts, with_facts

__all__ = ["own_score", "own_values", "standard_errors", "with_float_score", "with_own_scores"]


def with_float_score(baseline: pa.Table, own: pa.Table, target: Criterion) -> pa.Table:
    """Return the float model's outputs with what the evaluator returned of it (schema OWN_SCORES) among the facts.

    Raises InputError where a confidence is asked for and one number for all samples is all there is.
    """
    per_sample = facts(own)["per_sample"]
    if target.is_own and target.confidence is not None and not per_sample:
        raise InputError("confidence: needs one value a sample, and the evaluator returns one number for all of them")
    return with_facts(baseline, float_score=own.column("score").to_pylist(), per_sample=per_sample)


def with_own_scores(scores: pa.Table, own: pa.Table, baseline: pa.Table) -> pa.Table:
    """Return a model's scores (schema SCORES) with what the evaluator returned of it, and of the float model.

    Raises InputError where that is one number of the one and one value a sample of the other.
    """
    known = facts(baseline)
    if facts(own)["per_sample"] != known["per_sample"]:
        raise InputError("evaluator: returns one number of one model, and one value a sample of another")
    if not known["per_sample"]:
        return with_facts(scores, score=own.column("score")[0].as_py(), float_score=known["float_score"][0])
    columns = {"score": own.column("score"), "float_score": pa.array(known["float_score"], pa.float64())}
    for name, column in columns.items():
        scores = scores.set_column(SCORES.get_field_index(name), SCORES.field(name), column)
    return scores


def own_score(metric: str, scores: pa.Table) -> Score:
    """Return the value of a metric of the evaluator, with its standard error where there is one value a sample."""
    if scores.column("score").null_count == 0:
        return estimate(metric, scores).score
    ours, theirs = (facts(scores)[name] for name in ("score", "float_score"))
    return Score({"score_drop": theirs - ours, "score_rise": ours - theirs}.get(metric, ours), None)


def own_values(target: Criterion, scores: pa.Table) -> dict[str, Score]:
    """Return the score and how it compares with the float model's, by metric; empty where the model has no score."""
    if not target.is_own or (scores.column("score").null_count and "score" not in facts(scores)):
        return {}
    higher = target.metric in OWN_METRICS[:2]
    return {metric: own_score(metric, scores) for metric in (OWN_METRICS[:2] if higher else OWN_METRICS[2:])}


def standard_errors(target: Criterion, scores: pa.Table) -> dict[str, float]:
    """Return the standard errors over samples of a model's scores, by metric; what is one number for all has none."""
    found = {name: METRICS[name](scores).score for name in scores_of(scores)} | own_values(target, scores)
    return {name: score.standard_error for name, score in found.items() if score.standard_error is not None}
