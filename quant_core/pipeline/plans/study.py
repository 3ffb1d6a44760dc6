"""A study: which plans were tried, which of them is the best, and what a plan may cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Generic, Literal

import numpy as np
import pyarrow as pa

from quant_core.config import Criterion
from quant_core.config.criterion import OWN_METRICS
from quant_core.execution.progress import watcher
from quant_core.manifest import FloatTensor, Improvement
from quant_core.model.layers import layers_from_table
from quant_core.model.other_products import other_products
from quant_core.pipeline.job import Config_co, QuantizationJob
from quant_core.pipeline.plans.trial import Trial, judged
from quant_core.precision import Precision, PrecisionPlan
from quant_core.probing.ranking import macs_share
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.scoring.confidence import alpha_of_look, samples_to_settle
from quant_core.scoring.metrics import additive
from quant_core.search import Measured, within
from quant_core.search.cost import CostModel
from quant_core.search.runs import merits
from quant_core.storage.schemas import SEARCH

__all__ = ["Study"]


@dataclass(frozen=True)
class Study(Generic[Config_co]):
    """The tables that plans are made and scored from, and the trials so far, in order; the first is the wide plan."""

    job: QuantizationJob[Config_co]
    """What the run is asked to do."""
    layers: pa.Table
    """Layers of the prepared model (schema LAYERS)."""
    calibration: pa.Table
    """Histograms of its tensors (schema CALIBRATION)."""
    weights: Sequence[pa.Table]
    """Weights that were rounded with the calibration data in view, one table a type (schema WEIGHTS)."""
    baseline: pa.Table
    """Outputs of the float model on the evaluation data."""
    costs: Mapping[str, CostModel]
    """Cost models by name."""
    candidates: tuple[str, ...] = ()
    """The layers that a plan may narrow, in graph order."""
    blocks: tuple[tuple[str, ...], ...] = ()
    """Candidates that move together, at least two each; every other candidate moves alone."""
    neighbours: tuple[tuple[str, str], ...] = ()
    """Pairs of layers that hand tensors to each other, where boundaries between precisions count; mostly none."""
    samples: Literal["auto", "all"] | int = "all"
    """On how many samples a plan is scored: as many as the verdict takes, or all."""
    trials: list[Trial] = field(default_factory=list)
    """Every plan evaluated so far."""
    above: tuple[Precision, ...] = ()
    """Rungs above wide that were opened since the wide plan misses the target, the nearest to wide first."""
    float_tensors: tuple[FloatTensor, ...] = ()
    """Tensors that all plans leave in float since the wide plan misses the target, the most harmful first."""
    improvements: tuple[Improvement, ...] = ()
    """What was tried to make layers better at equal bits."""
    earlier: tuple[Trial, ...] = ()
    """Trials of plans with the weights as they were before those of a plan were reconstructed."""
    in_runtime: bool = False
    """Whether plans are scored in the runtime, from their files, instead of in simulation."""

    @property
    def recipe(self) -> QuantizationRecipe:
        """What the numbers of all plans follow from."""
        config, weights = self.job.config, tuple(self.weights)
        return QuantizationRecipe(self.layers, self.calibration, config.quantization(), weights, config.providers)

    def with_weights(self, weights: pa.Table, improvement: Improvement) -> Study[Config_co]:
        """Return the study with weights (schema WEIGHTS) that were chosen for a plan; what was tried is earlier now.

        The wide plan, and that from which the search narrows, count as they were measured.
        """
        kept = [trial for trial in self.trials if trial.plan in (self.wide.plan, self.start.plan)]
        return replace(
            self,
            weights=(*self.weights, weights),
            improvements=(*self.improvements, improvement),
            trials=kept,
            earlier=(*self.earlier, *(trial for trial in self.trials if trial.plan not in [one.plan for one in kept])),
        )

    @property
    def tried(self) -> tuple[Trial, ...]:
        """Every trial, the earlier ones too; the first is the wide plan."""
        return (self.wide, *self.earlier, *self.trials[1:]) if self.trials else ()

    def add(self, trial: Trial) -> Trial:
        """Add a trial, and report it."""
        self.trials.append(trial)
        accepted = trial.met and self.affordable(trial.plan)
        watcher().tried(trial.plan.beside(self.job.config.wide), trial.score.value, accepted)
        return trial

    def add_or_replace(self, measured: Trial) -> None:
        """Take what was measured of a plan's file in place of what was simulated; add a plan that was not tried."""
        if all(trial.plan != measured.plan for trial in self.trials):
            self.add(measured)
        self.trials[:] = [measured if trial.plan == measured.plan else trial for trial in self.trials]

    @property
    def wide(self) -> Trial:
        """The first trial, all of whose layers are wide."""
        return self.trials[0]

    @property
    def base(self) -> PrecisionPlan:
        """The wide plan with the tensors that all plans leave in float; plans differ from it in their layers."""
        return self.wide.plan.with_float(name for tensor in self.float_tensors for name in tensor.names)

    @property
    def ladder(self) -> tuple[Precision, ...]:
        """The precisions that a plan is made of, that of the start first and each narrower than the one before."""
        return (*reversed(self.above), *self.job.config.ladder)

    @property
    def start(self) -> Trial:
        """The trial that the search narrows from: the base or, with rungs above wide, the one on the highest."""
        plan = self.lifted_to(self.ladder[0])
        return next(trial for trial in self.trials if trial.plan == plan)

    def has(self, plan: PrecisionPlan) -> bool:
        """Return whether a plan is the base with layers at the ladder's precisions."""
        return plan.tensors == self.base.tensors and all(precision in self.ladder for _, precision in plan.layers)

    def lifted_to(self, precision: Precision) -> PrecisionPlan:
        """Return the base with all candidates at a precision."""
        return self.base.narrowed(dict.fromkeys(self.candidates, precision))

    @property
    def probed(self) -> tuple[str, ...]:
        """The candidates that are probed, in graph order: of a block it is the first layer, which stands for all."""
        others = {name for block in self.blocks for name in block[1:]}
        return tuple(name for name in self.candidates if name not in others)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of all layers for a sample."""
        return sum(self.layers.column("macs").to_pylist())

    @property
    def cost(self) -> CostModel:
        """The cost that is to be saved."""
        return self.costs[self.job.config.cost]

    @cached_property
    def budgets(self) -> Mapping[str, float]:
        """The most that a plan may cost, by cost; empty without a budget."""
        wide = self.wide.plan
        return {name: amount.of(self.costs[name].total(wide)) for name, amount in self.job.config.budgets.items()}

    def affordable(self, plan: PrecisionPlan) -> bool:
        """Return whether a plan is within all budgets."""
        return all(within(self.costs[name].total(plan), most) for name, most in self.budgets.items())

    def most_used(self, plan: PrecisionPlan) -> float:
        """Return the share that a plan uses of its budgets, of that of which it uses most; above 1 it is above one."""
        return float(max(self.costs[name].total(plan) / most for name, most in self.budgets.items()))

    def best_first(self) -> list[Trial]:
        """Sort the trials that may be shipped, the best first.

        Without a budget these are the ones that met the target, by cost and, as tensors in float have none, by how many
        these are; where boundaries count, of those that cost about the least the one with the fewest comes first. With
        budgets they are those within them: first the ones that met the target, each group by score. If none is within
        them, it is the nearest.
        """
        if not self.budgets:
            met = [trial for trial in self.trials if trial.met]
            costs = np.array([self.cost.total(trial.plan) for trial in met], np.float64)
            boundaries = np.array([self._boundaries(trial.plan) for trial in met], np.int64)
            in_float = np.array([len(trial.plan.tensors) for trial in met], np.int64)
            by_merit = [merits(costs, boundaries, costs.min(initial=math.inf))] if self.neighbours else []
            return [met[place] for place in np.lexsort((in_float, costs, *by_merit))]
        within_them = [trial for trial in self.trials if self.affordable(trial.plan)]
        return sorted(within_them, key=self._by_score) or [min(self.trials, key=lambda one: self.most_used(one.plan))]

    def _boundaries(self, plan: PrecisionPlan) -> int:
        chosen = dict(plan.layers)
        return sum(chosen[first] != chosen[second] for first, second in self.neighbours)

    @property
    def closest(self) -> Trial:
        """The trial of least error, of those on all samples: what is given out where none met the target."""
        return self.closest_first()[0]

    def closest_first(self) -> list[Trial]:
        """Sort the trials on all samples by their error."""
        return sorted(self._on_all_samples(), key=self._by_score)

    def _on_all_samples(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.scores.num_rows == self.baseline.num_rows]

    def _by_score(self, trial: Trial) -> tuple[bool, bool, float, float]:
        error = self.error_of(trial) if self.job.config.also else self._additive(trial.score.value)
        return not trial.met, math.isnan(error), error, self.cost.total(trial.plan)

    def next_alpha(self) -> float | None:
        """Return the error probability that the next trial may spend; None without a confidence."""
        confidence = self.job.config.target.confidence
        return None if confidence is None else alpha_of_look(confidence, len(self.tried))

    def nearest_trial(self, plan: PrecisionPlan) -> Trial:
        """Return, of the trials on all samples, the one whose plan differs in the fewest layers."""
        return min(self._on_all_samples(), key=lambda trial: len(plan.changed_from(trial.plan)))

    def simulated_scores(self, plan: PrecisionPlan) -> pa.Table | None:
        """Return what the pairs of a plan say (schema SCORES), on as many samples as it took; None if not simulated."""
        found = [trial.scores for trial in self.trials if trial.plan == plan and trial.simulated]
        return found[-1] if found else None

    def trial_of(self, plan: PrecisionPlan, scores: pa.Table, alpha: float | None) -> Trial:
        """Judge a plan by its scores on all samples, with a bound of error probability `alpha` if that is given."""
        return Trial.of(
            plan, scores, [judged(one, scores, self.baseline, alpha) for one in self.job.config.targets], alpha
        )

    def measured(self, trial: Trial) -> Measured:
        """Return how a plan did on the scale that search strategies work on."""
        metric, config = self.job.config.target.metric, self.job.config
        counted = trial.score.standard_error or 0.0 if metric in ("top1_drop", *OWN_METRICS) else 0.0
        scale = self._scale(config.target, self.wide.bound) if config.also else 1.0
        return Measured(trial.met, self.error_of(trial), counted / scale)

    def error_of(self, trial: Trial) -> float:
        """Return a plan's error on the scale of the search: of several targets it is that of which it uses most.

        What it uses of one is what it adds to the wide model's error, as a share of what the limit leaves.
        """
        if not self.job.config.also:
            return self._additive(trial.bound)
        return max(self.uses(trial), key=lambda use: math.inf if math.isnan(use) else use)

    @property
    def error_at_limit(self) -> float:
        """The error, on the scale of the search, of a plan right at the limit."""
        return 1.0 if self.job.config.also else self._additive(self.job.config.target.limit or 0.0)

    def uses(self, trial: Trial) -> list[float]:
        """Return what a plan uses of each of several targets; 1 is right at the limit."""
        wide, found = self.wide.bounds, []
        for target, bound, before in zip(self.job.config.targets, trial.bounds, wide, strict=True):
            limit = additive(target.metric, target.limit or 0.0)
            found.append(1 + (additive(target.metric, bound) - limit) / self._scale(target, before))
        return found

    def _scale(self, target: Criterion, wide: float) -> float:
        """Return what the limit leaves beside the error of the wide model; where that misses it, the limit itself."""
        limit = additive(target.metric, target.limit or 0.0)
        room = limit - additive(target.metric, wide)
        return room if room > 0 else abs(limit) or 1.0

    def _additive(self, score: float) -> float:
        return additive(self.job.config.target.metric, score)

    def samples_to_settle(self, trial: Trial) -> int | None:
        """Return about how many samples it takes to be sure of a plan with this score; None without a confidence."""
        error, target = trial.score.standard_error, self.job.config.target
        if trial.alpha is None or not error:
            return None
        return samples_to_settle(target, trial.score.value, error * math.sqrt(self.baseline.num_rows), trial.alpha)

    def table(self) -> pa.Table:
        """Return one row a trial, in order (schema SEARCH)."""
        listed, others, wide = layers_from_table(self.layers), other_products(self.layers), self.job.config.wide
        rows = [
            {
                "step": step,
                "plan": trial.plan.digest,
                "layers_narrowed": self._narrowed(trial.plan),
                "macs_share": macs_share(listed, trial.plan, wide, others),
                "cost": self.cost.total(trial.plan),
                "score": trial.score.value,
                "standard_error": trial.score.standard_error,
                "bound": trial.bound,
                "samples": trial.scores.num_rows,
                "accepted": trial.met and self.affordable(trial.plan),
                "precisions": json.dumps(trial.plan.as_dict()),
                "tensors": json.dumps(trial.plan.tensor_types()),
            }
            for step, trial in enumerate(self.tried)
        ]
        return pa.Table.from_pylist(rows, schema=SEARCH)

    def _narrowed(self, plan: PrecisionPlan) -> int:
        return len(plan.narrowed_from(self.job.config.wide))
