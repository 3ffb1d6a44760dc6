"""The targets of a run: one, or several that must all be met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, get_args

from pydantic import Field, model_validator

from quant_core.config.criterion import Criterion, MetricName
from quant_core.config.evaluator import EvaluatorConfig

__all__ = ["TargetsConfig"]


class TargetsConfig(EvaluatorConfig):
    """What the model that comes out is measured by, and must meet."""

    target: Criterion = Field(default=Criterion(), description="What the model that comes out is measured by.")
    also: tuple[Criterion, ...] = Field(
        default=(), description="Further targets, each with a limit and the confidence of the first: all must be met."
    )

    @model_validator(mode="after")
    def _confidence_is_of_a_limit(self) -> Self:
        if self.target.limit is None and self.target.confidence is not None:
            raise ValueError("target: a confidence needs a limit to meet; give one, or leave the confidence out")
        return self

    @property
    def targets(self) -> tuple[Criterion, ...]:
        """All that the model must meet, the first of which is what it is measured by."""
        return (self.target, *self.also)

    @property
    def own_target(self) -> Criterion:
        """The target that the user's evaluator measures; the first one where none is."""
        return next((target for target in self.targets if target.is_own), self.target)

    @property
    def metric_function(self) -> str | None:
        """The user's own metric among the targets, as `pkg.mod:fn`."""
        return next((target.function for target in self.targets if target.function), None)

    @model_validator(mode="before")
    @classmethod
    def _targets_have_an_order(cls, given: Any) -> Any:
        """Sort several targets as their flags are: whatever order they are asked for in, it is one configuration."""
        if not isinstance(given, Mapping) or not given.get("also") or given.get("target") is None:
            return given
        targets = [one.model_dump() if isinstance(one, Criterion) else one for one in (given["target"], *given["also"])]
        if not all(isinstance(one, Mapping) and one.get("metric") in get_args(MetricName) for one in targets):
            return given  # what is wrong with them is said as they are
        first, *others = sorted(targets, key=lambda one: get_args(MetricName).index(one["metric"]))
        return {**given, "target": first, "also": others}

    @model_validator(mode="after")
    def _targets_go_together(self) -> Self:
        if self.also and any(target.limit is None for target in self.targets):
            raise ValueError("also: every one of several targets needs a limit")
        if len({target.metric for target in self.targets}) < len(self.targets):
            raise ValueError("also: each metric can have one target")
        if any(target.confidence != self.target.confidence for target in self.also):
            raise ValueError("also: several targets share one confidence")
        return self

    @model_validator(mode="before")
    @classmethod
    def _an_evaluator_measures(cls, given: Any) -> Any:
        searches = cls.model_fields["target"].is_required()  # so that the target says what is better
        asked = isinstance(given, Mapping) and (given.get("evaluator") or given.get("evaluate_command"))
        return {"target": {"metric": "score"}, **given} if asked and not searches else given

    @model_validator(mode="after")
    def _evaluator_goes_with_its_score(self) -> Self:
        own = [target.metric for target in self.targets if target.is_own]
        if own and not self.has_evaluator:
            raise ValueError(f"target: {own[0]} is measured by an evaluator; give evaluator or evaluate_command")
        if self.has_evaluator and not own:
            name = "evaluator" if self.evaluator else "evaluate_command"
            raise ValueError(
                f"{name}: nothing says which scores are good; give min_score or max_score_drop where higher is better, "
                "max_score or max_score_rise where lower is, or as what is best within a budget the metric score or "
                "low_score"
            )
        return self
