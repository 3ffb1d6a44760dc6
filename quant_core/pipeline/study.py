"""Evaluating plans: what was tried, what it scored, and the file of the one that is shipped."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, Literal

import pyarrow as pa
from typing_extensions import TypeVar

from quant_core.config import Criterion, MixedPrecisionConfig, RunConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Stages
from quant_core.model.layers import layers_from_table
from quant_core.precision import PrecisionPlan
from quant_core.probing.ranking import macs_share
from quant_core.quantization.export import export, exported_reference, is_exported
from quant_core.results.output_place import OutputPlace
from quant_core.scoring.confidence import alpha_of_look, bounds, samples_to_settle
from quant_core.scoring.evaluation import evaluate_plan, score_file
from quant_core.scoring.metrics import METRICS, Score, additive
from quant_core.scoring.sampling import in_shards
from quant_core.scoring.sequential import evaluation_rounds, in_data_order, project
from quant_core.search import Measured, within
from quant_core.search.cost import CostModel
from quant_core.storage.references import Reference
from quant_core.storage.tables import SEARCH, facts

__all__ = ["Request", "Shipped", "Trial", "Trials", "target_score"]

Config_co = TypeVar("Config_co", bound=RunConfig, default=MixedPrecisionConfig, covariant=True)


@dataclass(frozen=True)
class Request(Generic[Config_co]):
    """What a run is asked to do."""

    model: Reference
    """The float model."""
    calibration: Reference
    """Data that ranges are chosen from."""
    evaluation: Reference
    """Data that layers are ranked and plans accepted on."""
    holdout: Reference | None
    """Data that only the finished model is measured on."""
    config: Config_co
    """Everything else."""
    output: OutputPlace
    """Folder that receives the result."""


@dataclass(frozen=True)
class Trial:
    """A plan that was evaluated."""

    plan: PrecisionPlan
    """The plan."""
    scores: pa.Table
    """Its terms on the evaluation data, or on as many of them as the verdict took (schema SCORES)."""
    score: Score
    """Its value of the target's metric on all of the evaluation data, projected where not all were looked at."""
    met: bool
    """Whether that is within the limit; with a confidence asked for, whether the bound is. As simulated, or once it was
    shipped, as measured from its file."""
    bound: float
    """What is held against the limit: the value, or its confidence bound."""
    alpha: float | None
    """The error probability of the bound; None without a confidence."""


@dataclass(frozen=True)
class Shipped:
    """A plan that was written to a file and measured again from there."""

    plan: PrecisionPlan
    """The plan."""
    file: Reference
    """The model file."""
    scores: pa.Table
    """What the file scores on the evaluation data (schema SCORES)."""
    bound: float
    """What is held against the limit: its score, or the confidence bound of that."""
    met: bool
    """Whether the file meets the target."""


@dataclass(frozen=True)
class Trials(Generic[Config_co]):
    """Evaluates plans on the evaluation data and remembers them in order."""

    request: Request[Config_co]
    """What the run is asked to do."""
    stages: Stages
    """Where evaluations run."""
    layers: pa.Table
    """Layer table of the prepared model."""
    calibration: pa.Table
    """Calibration statistics."""
    weights: Sequence[pa.Table]
    """Weights that were chosen with the calibration data in view."""
    baseline: pa.Table
    """Outputs of the float model on the evaluation data."""
    costs: Mapping[str, CostModel]
    """What plans cost, by the cost's name."""
    samples: Literal["auto", "all"] | int = "all"
    """On how many samples a plan is scored: as many as the verdict takes, or all."""
    done: list[Trial] = field(default_factory=list)
    """Every plan evaluated so far, in order."""

    def evaluate(self, plan: PrecisionPlan, stage: str) -> Trial:
        """Score a plan and note it down; the first one, the wide plan, on all samples."""
        return self.noted(self._tried(plan, stage))

    def noted(self, trial: Trial) -> Trial:
        """Note a trial down, and tell whoever watches."""
        self.done.append(trial)
        accepted = trial.met and self.affordable(trial.plan)
        watcher().tried(self._narrowed(trial.plan), len(trial.plan.layers), trial.score.value, accepted)
        return trial

    def _tried(self, plan: PrecisionPlan, stage: str) -> Trial:
        target, count, alpha = self.request.config.target, self.baseline.num_rows, self._alpha()
        one_round = not self.done or target.function is not None
        stops = [count] if one_round else evaluation_rounds(count, self.samples)
        rounds: list[pa.Table] = []
        for start, stop in pairwise([0, *stops]):
            rounds.append(self._scored(plan, stage, start, stop))
            scores = in_data_order(rounds, stops[: len(rounds)], count)
            if stop < count:
                projection = project(target.metric, scores, self._nearest_scored(plan).scores)
                verdict = projection.verdict(target, alpha)
                if verdict is not None:
                    bound = projection.bound(target, alpha)
                    return Trial(plan, scores, projection.score, verdict, bound, alpha)
        score, bound = target_score(target, scores, self.baseline), self._bound(scores, alpha)
        return Trial(plan, scores, score, target.met_by(bound), bound, alpha)

    def _alpha(self) -> float | None:
        """The error probability that the next look may spend."""
        config = self.request.config
        if config.target.confidence is None:
            return None
        return alpha_of_look(config.target.confidence, len(self.done))

    def _bound(self, scores: pa.Table, alpha: float | None) -> float:
        """What scores of all samples hold against the limit."""
        target = self.request.config.target
        if alpha is None:
            return target_score(target, scores, self.baseline).value
        return bounds(target.metric, scores, alpha).worst(target)

    def _nearest_scored(self, plan: PrecisionPlan) -> Trial:
        """Of the trials on all samples, the one whose plan differs in the fewest layers."""
        whole = [trial for trial in self.done if trial.scores.num_rows == self.baseline.num_rows]
        return min(whole, key=lambda trial: len(plan.changed_from(trial.plan)))

    def _scored(self, plan: PrecisionPlan, stage: str, start: int, stop: int) -> pa.Table:
        """The terms of samples [start, stop) in the order of visits, in the order of the data."""
        config = self.request.config
        # A user's metric wants the outputs of all samples at once.
        shards = in_shards(start, stop) if config.target.function is None else [(start, stop)]
        scores = self.stages.fan_out(
            stage,
            evaluate_plan,
            [{"start": first, "stop": last} for first, last in shards],
            layers=self.layers,
            calibration=self.calibration,
            weights=self.weights,
            baseline=self.baseline,
            data=self.request.evaluation,
            plan=plan.as_dict(),
            tensors=plan.tensor_types(),
            config=config.quantization(),
            function=config.target.function,
            batch_size=config.batch_size,
        )
        return in_data_order(scores, [last for _, last in shards], self.baseline.num_rows, start)

    def measured(self, trial: Trial) -> Measured:
        """How a plan did, as the search strategies want to know it."""
        metric = self.request.config.target.metric
        error = additive(metric, trial.bound)
        counted = trial.score.standard_error or 0.0 if metric == "top1_drop" else 0.0
        return Measured(trial.met, error, counted)

    def _narrowed(self, plan: PrecisionPlan) -> int:
        return sum(precision != self.request.config.wide for _, precision in plan.layers)

    def best_first(self) -> list[Trial]:
        """Plans that may be shipped. Those that met the target, the cheapest first.

        With a budget those within it: first those that met the target, of these the one that scores best. If none is
        within it, the cheapest of all.
        """
        if self.budget is None:
            return sorted((trial for trial in self.done if trial.met), key=lambda trial: self.cost.total(trial.plan))
        within_it = [trial for trial in self.done if self.affordable(trial.plan)]
        return sorted(within_it, key=self._by_score) or [min(self.done, key=lambda one: self.cost.total(one.plan))]

    def _by_score(self, trial: Trial) -> tuple[bool, bool, float, float]:
        error = additive(self.request.config.target.metric, trial.score.value)
        return not trial.met, math.isnan(error), error, self.cost.total(trial.plan)

    @property
    def budget(self) -> float | None:
        """The most that a plan may cost; None without a budget."""
        amount = self.request.config.budget
        return None if amount is None else amount.of(self.cost.total(self.done[0].plan))

    def affordable(self, plan: PrecisionPlan) -> bool:
        """Whether a plan is within the budget."""
        return self.budget is None or within(self.cost.total(plan), self.budget)

    @property
    def cost(self) -> CostModel:
        """The cost that counts."""
        return self.costs[self.request.config.cost]

    def ship(self, plan: PrecisionPlan, alpha: float | None = None) -> Shipped:
        """Write a plan's model and measure the file: what the plan's trial scores from now on.

        `alpha` is the error probability that its bound may spend.
        """
        file = self.exported(plan)
        scores = self.verify(file, self.baseline, self.request.evaluation)
        score, bound = target_score(self.request.config.target, scores, self.baseline), self._bound(scores, alpha)
        met = self.request.config.target.met_by(bound)
        measured = Trial(plan, scores, score, met, bound, alpha)
        self.done[:] = [measured if trial.plan == plan else trial for trial in self.done]
        return Shipped(plan, file, scores, bound, met)

    def exported(self, plan: PrecisionPlan) -> Reference:
        """The model file of a plan."""
        cache = self.stages.machine.cache
        exported = self.stages.run(
            "export",
            export,
            valid=lambda table: is_exported(table, cache),
            layers=self.layers,
            calibration=self.calibration,
            weights=self.weights,
            plan=plan.as_dict(),
            tensors=plan.tensor_types(),
            config=self.request.config.quantization(),
            form=self.request.config.format,
        )
        return exported_reference(exported, cache)

    def verify(self, file: Reference, baseline: pa.Table, data: Reference) -> pa.Table:
        """Score a model file on a data set."""
        return self.stages.run(
            "verify",
            score_file,
            exported=file,
            layers=self.layers,
            baseline=baseline,
            data=data,
            function=self.request.config.target.function,
            batch_size=self.request.config.batch_size,
        )

    def table(self) -> pa.Table:
        """One row an evaluated plan, in order (schema SEARCH)."""
        listed, wide = layers_from_table(self.layers), self.request.config.wide
        rows = [
            {
                "step": step,
                "plan": trial.plan.digest,
                "layers_narrowed": self._narrowed(trial.plan),
                "macs_share": macs_share(listed, trial.plan, wide),
                "cost": self.cost.total(trial.plan),
                "score": trial.score.value,
                "standard_error": trial.score.standard_error,
                "bound": trial.bound,
                "samples": trial.scores.num_rows,
                "accepted": trial.met and self.affordable(trial.plan),
                "precisions": json.dumps(trial.plan.as_dict()),
            }
            for step, trial in enumerate(self.done)
        ]
        return pa.Table.from_pylist(rows, schema=SEARCH)

    def shortfall(self) -> str:
        """One line that says by how much the best plan misses the target or the budget."""
        best, target = (self.best_first() or self.done)[0], self.request.config.target
        if not self.affordable(best.plan):
            return self._unaffordable(best)
        plan = f"even the wide model ({self.request.config.wide})"
        if self.budget is not None:
            plan = f"the best plan found within {self.request.config.budget_text}"
        value = best.score.value
        if best.alpha is None or not target.met_by(value):
            return f"{plan} misses {target}: it scores {value:.6g}, off by {abs(value - (target.limit or 0.0)):.6g}"
        samples = self.samples_to_settle(best)
        return f"{plan} is not sure to meet {target}: it scores {value:.6g}, but {best.bound:.6g} is possible; " + (
            f"about {samples:,} evaluation samples would settle it" if samples else "it is right at the limit"
        )

    def _unaffordable(self, cheapest: Trial) -> str:
        total, share = self.cost.total(cheapest.plan), self.cost.ratio(cheapest.plan, self.done[0].plan)
        return (
            f"no plan is within {self.request.config.budget_text}: the least that the model can cost at these "
            f"precisions is {total:.6g} {self.cost.unit}, {share:.6g} of the wide model's"
        )

    def samples_to_settle(self, trial: Trial) -> int | None:
        """About how many samples it takes to be sure of a plan with this score; None without a confidence."""
        error, target = trial.score.standard_error, self.request.config.target
        if trial.alpha is None or not error:
            return None
        return samples_to_settle(target, trial.score.value, error * math.sqrt(trial.scores.num_rows), trial.alpha)


def target_score(target: Criterion, scores: pa.Table, baseline: pa.Table) -> Score:
    """The value of the target's metric."""
    if target.metric == "metric_drop":
        return Score(facts(baseline)["metric"] - facts(scores)["metric"], None)
    return METRICS[target.metric](scores).score
