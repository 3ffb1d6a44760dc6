"""Studies of a model that is nothing but a list of layers; scores of plans are looked up."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from quant_core.config import config_from
from quant_core.model.layers import Layer, layer_table
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import Trial
from quant_core.precision import Precision, PrecisionPlan
from quant_core.scoring.metrics import Score
from quant_core.scoring.terms import terms_table
from quant_core.search.cost import counted_cost

NAMES = ("a", "b", "c")
MACS = (100, 200, 400)
SAMPLES = 8
LAYERS = [
    Layer(name, "Conv", (index,), ("x",), (f"w{index}",), ((1, 1),), macs, 10)
    for index, (name, macs) in enumerate(zip(NAMES, MACS, strict=True))
]


def scores_of(l2: float) -> pa.Table:
    """Terms of eight samples, all with one L2 distance."""
    terms = {name: np.ones(SAMPLES) for name in ("signal", "error", "kl", "cosine")}
    return terms_table([terms | {"l2": np.full(SAMPLES, l2)}])


def plan_of(*precisions: str) -> PrecisionPlan:
    """A plan that gives the layers these precisions, in order."""
    return PrecisionPlan(tuple((name, Precision.parse(one)) for name, one in zip(NAMES, precisions, strict=True)))


def trial_of(plan: PrecisionPlan, value: float, met: bool) -> Trial:
    return Trial(plan, scores_of(value), Score(value, 0.0), met, value, None)


class LookUp:
    """A runner for which a plan's L2 distance is the sum of what its layers add."""

    def __init__(self, losses):
        self.losses, self.asked = losses, []

    def fan_out(self, stage, each, *, plan, **others):
        self.asked.append(tuple(plan.values()))
        return [scores_of(0.1 + sum(self.losses.get((n, p), 0.0) for n, p in plan.items())) for _ in each]


def study_of(losses=None, kept=(), limit=1.0, confidence=None, **options):
    """What evaluates plans of a study whose wide plan was evaluated; the study is its `study`."""
    config = config_from(target={"metric": "l2", "limit": limit, "confidence": confidence}, **options)
    costs = {name: counted_cost(name, LAYERS, config.ladder) for name in ("bops", "bytes")}
    job = QuantizationJob(None, None, None, None, config, None)
    baseline = pa.table({"y": np.zeros(SAMPLES)})
    study = Study(
        job,
        layer_table(LAYERS),
        None,
        [],
        baseline,
        costs,
        candidates=tuple(name for name in NAMES if name not in kept),
        samples="all",
    )
    evaluator = PlanEvaluator(study, LookUp(losses or {}))
    evaluator.evaluate(PrecisionPlan.uniform(NAMES, config.wide))
    return evaluator
