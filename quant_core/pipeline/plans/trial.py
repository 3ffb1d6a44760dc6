"""A trial: a plan that was evaluated, and how it does by each target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from quant_core.config import Criterion, RunConfig
from quant_core.precision import PrecisionPlan
from quant_core.scoring.confidence import bounds
from quant_core.scoring.metrics import METRICS, Score
from quant_core.scoring.own_scores import own_score, own_values
from quant_core.storage.tables import facts

__all__ = ["Judgement", "Trial", "judged", "target_score", "target_values"]


@dataclass(frozen=True)
class Judgement:
    """How a plan does by one target."""

    score: Score
    """Its value of the target's metric."""
    bound: float
    """The number held against the limit."""
    met: bool
    """Whether that is within the limit."""


@dataclass(frozen=True)
class Trial:
    """A plan that was evaluated."""

    plan: PrecisionPlan
    """The plan."""
    scores: pa.Table
    """Its terms on the evaluation data, or on as many samples as the verdict took (schema SCORES)."""
    score: Score
    """Its value of the target's metric on all of the evaluation data; projected where not all were looked at."""
    met: bool
    """Whether `bound` is within the limit. As simulated or, once the plan was shipped, as measured from its file."""
    bound: float
    """The number held against the limit: the value, or its confidence bound."""
    alpha: float | None
    """The error probability of the bound; None without a confidence."""
    simulated: bool = False
    """Whether `scores` are, bit for bit, what the pairs of its file say, computed on the CPU."""
    others: tuple[Judgement, ...] = ()
    """How it does by the targets behind the first; `met` is by all of them."""

    @classmethod
    def of(
        cls,
        plan: PrecisionPlan,
        scores: pa.Table,
        judged: Sequence[Judgement],
        alpha: float | None,
        simulated: bool = False,
    ) -> Trial:
        """Return the trial of a plan that was judged by each target."""
        first, *others = judged
        met = all(one.met for one in judged)
        return cls(plan, scores, first.score, met, first.bound, alpha, simulated, tuple(others))

    @property
    def bounds(self) -> tuple[float, ...]:
        """What is held against the limit of each target."""
        return (self.bound, *(one.bound for one in self.others))


def judged(target: Criterion, scores: pa.Table, baseline: pa.Table, alpha: float | None) -> Judgement:
    """Judge scores by a target, with a bound of error probability `alpha` if that is given."""
    score = target_score(target, scores, baseline)
    bound = score.value if alpha is None else bounds(target.metric, scores, alpha).worst(target)
    return Judgement(score, bound, target.met_by(bound))


def target_values(config: RunConfig, scores: pa.Table, baseline: pa.Table) -> dict[str, float]:
    """Return what the user's own metric and evaluator say of a model, by metric; empty without any."""
    own = {name: score.value for name, score in own_values(config.own_target, scores).items()}
    drops = [target for target in config.targets if target.function]
    return own | {target.metric: target_score(target, scores, baseline).value for target in drops}


def target_score(target: Criterion, scores: pa.Table, baseline: pa.Table) -> Score:
    """Return the value of the target's metric."""
    if target.metric == "metric_drop":
        return Score(facts(baseline)["metric"] - facts(scores)["metric"], None)
    if target.is_own:
        return own_score(target.metric, scores)
    return METRICS[target.metric](scores).score
