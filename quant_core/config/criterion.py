"""What the quantized model is measured by, and what it must meet."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from quant_core.config.frozen import FrozenModel

__all__ = ["OWN_METRICS", "Criterion", "MetricName", "Target"]


MetricName = Literal[
    "top1_drop", "l2", "sqnr_db", "kl", "cosine", "metric_drop", "score", "score_drop", "low_score", "score_rise"
]

OWN_METRICS = ("score", "score_drop", "low_score", "score_rise")
"""What is measured by the user's evaluator: a score of which a higher one is better, how far it is below the float
model's, a score of which a lower one is better, and how far it is above the float model's."""


class Criterion(FrozenModel):
    """What the quantized model is measured by, against the float model on the evaluation data."""

    metric: MetricName = Field(default="l2", description="What is measured; `metric_drop` is the user's own function.")
    limit: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Largest allowed value (for sqnr_db and score: the smallest); none allows all.",
    )
    function: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`pkg.mod:fn`, called with (outputs, labels), higher is better. For metric_drop only.",
    )
    confidence: float | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="How sure it must be that other samples would show the same; none: these samples are all there is.",
    )

    @model_validator(mode="after")
    def _function_goes_with_metric_drop(self) -> Self:
        if (self.metric == "metric_drop") != (self.function is not None):
            raise ValueError("the metric metric_drop and a function `pkg.mod:fn` go together")
        if self.function is not None and self.confidence is not None:
            raise ValueError("confidence needs differences of single samples, which a function of all of them hides")
        return self

    @property
    def higher_is_better(self) -> bool:
        """Whether the limit is a lower bound."""
        return self.metric in ("sqnr_db", "score")

    @property
    def is_own(self) -> bool:
        """Whether the user's evaluator measures it."""
        return self.metric in OWN_METRICS

    def met_by(self, score: float) -> bool:
        """Return whether a score is within the limit, if there is one; NaN never is."""
        if self.limit is None:
            return True
        return score >= self.limit if self.higher_is_better else score <= self.limit

    def __str__(self) -> str:
        name = self.function or self.metric
        return name if self.limit is None else f"{name} {'>=' if self.higher_is_better else '<='} {self.limit:g}"


class Target(Criterion):
    """What the quantized model must meet; within budgets, what is to be best."""

    metric: MetricName = Field(description="What is measured; `metric_drop` is the user's own function.")
    limit: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Largest allowed value (for sqnr_db and score: the smallest); none where a budget or most_layers "
        "says how narrow to go.",
    )
