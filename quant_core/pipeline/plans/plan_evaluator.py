"""Calls the stages that score plans and write their files, and adds what they find to a study."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.criterion import Criterion
from quant_core.execution.runner import Runner
from quant_core.model.sessions import CPU
from quant_core.pipeline.job import Config_co
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import Judgement, Trial
from quant_core.pipeline.stages import EVALUATE, EXPORT, OWN_SCORE, VERIFY
from quant_core.precision import DataType, PrecisionPlan
from quant_core.quantization.export import exported_reference
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.by_margin import COUNTED, ByMargin
from quant_core.scoring.evaluator import Evaluator
from quant_core.scoring.metrics import additive
from quant_core.scoring.own_scores import with_own_scores
from quant_core.scoring.sampling import sample_shards
from quant_core.scoring.sequential import EvenVisits, Visits, evaluation_rounds, in_data_order
from quant_core.storage.references import Reference
from quant_core.storage.tables import facts

__all__ = ["PlanEvaluator", "own_score_of"]

_SMOOTH = frozenset({"l2", "sqnr_db", "kl", "cosine"})
"""Metrics that hardly change where a value rounds to the neighbouring code of a 16-bit type; a class may."""
_FAST_ERROR = 0.01
"""By how much of its value the score of such a plan in fast numerics may be off: measured were 0.008% and 0.02%."""


@dataclass(frozen=True)
class PlanEvaluator(Generic[Config_co]):
    """Scores plans of a study, in simulation or from their files."""

    study: Study[Config_co]
    """Where trials are added."""
    on: Runner
    """What calls the stages."""

    def evaluate(self, plan: PrecisionPlan) -> Trial:
        """Score a plan and add it to the study: the first one, all wide, on all samples; each later one is a round.

        A plan that was simulated before is now what it is in the runtime.
        """
        trial = self.trial(plan)
        self.study.add_or_replace(trial)
        return trial

    def trial(self, plan: PrecisionPlan) -> Trial:
        """Score a plan as `evaluate` does, without adding it to the study."""
        study, alpha = self.study, self.study.next_alpha()
        targets, count = study.job.config.targets, study.baseline.num_rows
        if study.in_runtime:
            title = f"search round {len(study.tried)}" if study.trials else "baseline"
            scores = self.score_file(self.export(plan), study.baseline, study.job.evaluation, title=title)
            return study.trial_of(plan, scores, alpha)
        fast = None if study.trials else self._fast_scores(plan)
        if fast is not None:
            trial = study.trial_of(plan, fast, alpha)
            if all(map(_is_clear, targets, trial.bounds)):
                return trial
        visits = self._visits(plan, fast)
        stops = self._rounds(visits, study.samples) if study.trials or isinstance(visits, ByMargin) else [count]
        rounds: list[pa.Table] = []
        for start, stop in pairwise([0, *stops]):
            rounds.append(self._scores(plan, start, stop, visits))
            scores = in_data_order(rounds, [visits.rows(*ends) for ends in pairwise([0, *stops[: len(rounds)]])])
            settled = self._settled(plan, scores, visits, alpha) if stop < count else None
            if settled is not None:
                return (
                    settled if fast is None else replace(settled, scores=_with_rows(fast, scores, visits.rows(0, stop)))
                )
        return replace(study.trial_of(plan, scores, alpha), simulated=self.simulates_reference)

    def _fast_scores(self, plan: PrecisionPlan) -> pa.Table | None:
        """Score the first plan in fast numerics (schema SCORES), where these settle it, or tell which samples do."""
        study, count = self.study, self.study.baseline.num_rows
        metrics = {target.metric for target in study.job.config.targets}
        tell = metrics <= _SMOOTH or (self.counts_classes and study.samples != "all")
        return self._scores(plan, 0, count, EvenVisits(count), fast=True) if tell and _is_fine(plan) else None

    def _settled(self, plan: PrecisionPlan, scores: pa.Table, visits: Visits, alpha: float | None) -> Trial | None:
        """Judge a plan by its scores on some samples; None while the verdict is open."""
        targets = self.study.job.config.targets
        found = [visits.project(target.metric, scores) for target in targets]
        verdicts = [one.verdict(target, alpha) for one, target in zip(found, targets, strict=True)]
        if None in verdicts and False not in verdicts:
            return None
        judged = [
            Judgement(one.score, one.bound(target, alpha), bool(verdict))
            for one, target, verdict in zip(found, targets, verdicts, strict=True)
        ]
        # What the pairs of a file say is told of samples that stand for all.
        simulated = self.simulates_reference and isinstance(visits, EvenVisits)
        return Trial.of(plan, scores, judged, alpha, simulated)

    def _visits(self, plan: PrecisionPlan, fast: pa.Table | None) -> Visits:
        """Return in which order a plan is scored: where classes are counted, what may change its class comes first.

        Of the first plan only `fast` scores are known, if any.
        """
        study = self.study
        known = study.wide.scores if study.trials else fast
        if self.counts_classes and known is not None and ByMargin.known(known):
            return ByMargin(known)
        count = study.baseline.num_rows
        return EvenVisits(count, study.nearest_trial(plan).scores) if study.trials else EvenVisits(count)

    def scores_on_share(self, plan: PrecisionPlan, share: float, step: str) -> pa.Table:
        """Simulate a plan that is no trial on a share of the samples (schema SCORES), evenly spread, for a step."""
        visits = EvenVisits(self.study.baseline.num_rows, first_share=share)
        return self._scores(plan, 0, self._rounds(visits, "auto")[0], visits, step=step)

    def _rounds(self, visits: Visits, samples: Literal["auto", "all"] | int) -> list[int]:
        """Return the numbers of samples after which each round ends; a user's metric wants all at once."""
        count = self.study.baseline.num_rows
        if self.study.job.config.metric_function is not None:
            return [count]
        return evaluation_rounds(count, samples, self.study.macs, visits.first_share)

    @property
    def counts_classes(self) -> bool:
        """Whether the samples whose class a plan may change settle its verdict: all targets are on top-1 accuracy."""
        return all(target.metric in COUNTED for target in self.study.job.config.targets)

    @property
    def simulates_reference(self) -> bool:
        """Whether a simulation is, bit for bit, what a file says that is run on the CPU with no optimisation."""
        config = self.study.job.config
        return config.providers == CPU and config.format == "qdq"

    def _scores(
        self, plan: PrecisionPlan, start: int, stop: int, visits: Visits, step: str = "", fast: bool = False
    ) -> pa.Table:
        """Return the terms of samples [start, stop) in the order of visits, in the order of the data."""
        study, config = self.study, self.study.job.config
        # A user's metric wants the outputs of all samples at once.
        shards = sample_shards(start, stop) if config.metric_function is None else [(start, stop)]
        scores = self.on.fan_out(
            EVALUATE,
            [{"samples": visits.samples(study.job.evaluation, *ends)} for ends in shards],
            step=step or ("search" if study.trials else "baseline"),
            title=step or (f"search round {len(study.tried)}" if study.trials else "baseline"),
            recipe=study.recipe,
            baseline=study.baseline,
            plan=plan.as_dict(),
            tensors=plan.tensor_types(),
            function=config.metric_function,
            batch_size=config.batch_size,
            fast=fast,
        )
        return in_data_order(scores, [visits.rows(*ends) for ends in shards])

    def export(self, plan: PrecisionPlan) -> Reference:
        """Write the model file of a plan."""
        exported = self.on.run(
            EXPORT,
            recipe=self.study.recipe,
            plan=plan.as_dict(),
            tensors=plan.tensor_types(),
            form=self.study.job.config.format,
            compact=self.study.job.config.saves_bytes,
        )
        return exported_reference(exported, self.on.machine.cache)

    def score_file(
        self, file: Reference, baseline: pa.Table, data: Reference, runtime: str | None = None, title: str = ""
    ) -> pa.Table:
        """Score a model file on a data set whose float outputs are in `baseline` (schema SCORES).

        It is opened as its runtime opens it, or as another one given. `title` names the task run.
        """
        config = self.study.job.config
        profile = profile_of(config.runtime if runtime is None else runtime)
        scores = self.on.run(
            VERIFY,
            title=title,
            exported=file,
            layers=self.study.layers,
            baseline=baseline,
            data=data,
            function=config.metric_function,
            batch_size=config.batch_size,
            # What is not optimised is scored alike in all runtimes, and on all processors.
            runtime=profile.scored_in,
            processor=profile.place,
        )
        evaluator = Evaluator.of(config)
        if runtime is not None or evaluator is None or "float_score" not in facts(baseline):
            return scores
        own = own_score_of(evaluator, file, self.study.layers, data, profile, self.on, title)
        return with_own_scores(scores, own, baseline)


def _is_fine(plan: PrecisionPlan) -> bool:
    """Return whether a plan scores about the same in fast numerics: its error is that of its weights by far."""
    return not plan.tensors and all(
        precision.activations in (DataType.INT16, DataType.UINT16) and precision.weights.bits <= 8
        for _, precision in plan.layers
    )


def _with_rows(fast: pa.Table, exact: pa.Table, rows: NDArray[np.intp]) -> pa.Table:
    """Return scores in fast numerics, with the exact ones of some samples in their place."""
    others = np.setdiff1d(np.arange(fast.num_rows), rows)
    return in_data_order([fast.take(others), exact], [others, rows])


def _is_clear(target: Criterion, bound: float) -> bool:
    """Return whether a bound in fast numerics is so far from the limit that the exact one is on the same side."""
    if target.metric in COUNTED:
        return False
    if target.limit is None:
        return True
    error, limit = additive(target.metric, bound), additive(target.metric, target.limit)
    return abs(error - limit) > _FAST_ERROR * abs(limit)


def own_score_of(
    evaluator: Evaluator,
    file: Reference | None,
    layers: pa.Table,
    data: Reference,
    profile: RuntimeProfile,
    on: Runner,
    title: str = "",
) -> pa.Table:
    """Score a model file, or without one the float model, by the user's evaluator (schema OWN_SCORES).

    Args:
        evaluator: what scores it.
        file: the model file; None for the float model.
        layers: layer table of the prepared model (schema LAYERS).
        data: what it is evaluated on.
        profile: the runtime that opens it.
        on: what calls the stage.
        title: of the task run.

    """
    return on.run(
        OWN_SCORE,
        title=title,
        model=file,
        layers=layers,
        data=data,
        evaluator=evaluator,
        runtime=profile.scored_in,
        processor=profile.place,
    )
