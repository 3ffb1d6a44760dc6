"""What the model had to meet, and whether it does."""

from __future__ import annotations

from quant_core.config.criterion import Criterion, MetricName
from quant_core.manifest.record import Record, Score

__all__ = ["FurtherTarget", "HeldOutBound", "Target", "Undecided"]


class HeldOutBound(Record):
    """The confidence bound on held-out data, which the search never saw."""

    bound: Score
    """In the metric's unit."""
    met: bool
    """Whether it is within the limit."""


class Undecided(Record):
    """The cheapest plan that scores within the limit but was refused for its confidence bound."""

    plan: str
    """Digest of the plan."""
    cost_ratio: float
    """Its cost, as a share of the wide model's."""
    score: Score
    """Its score, in the metric's unit."""
    bound: Score
    """Its confidence bound, in the metric's unit."""
    samples: int | None
    """About how many evaluation samples would settle it; None where its score is right at the limit."""


class FurtherTarget(Record):
    """One of several targets behind the first."""

    metric: MetricName
    """Name of the metric."""
    limit: float
    """The largest score allowed (for sqnr_db and score: the smallest)."""
    function: str | None = None
    """The user's own metric as `pkg.mod:fn`."""
    met: bool
    """Whether the shipped file is within the limit, on the evaluation data."""
    bound: Score
    """What is held against the limit: the shipped file's score or, with a confidence, its bound."""

    @property
    def criterion(self) -> Criterion:
        """The target, without its confidence, which is that of the first."""
        return Criterion(metric=self.metric, limit=self.limit, function=self.function)


class Target(Record):
    """What the model is measured by, and whether it meets the limit."""

    metric: MetricName
    """Name of the metric."""
    limit: float | None = None
    """The largest score allowed (for sqnr_db: the smallest); None where none was asked for."""
    function: str | None = None
    """The user's own metric as `pkg.mod:fn`."""
    met: bool
    """Whether the shipped file is within the limit, on the evaluation data; of several targets, within all."""
    also: tuple[FurtherTarget, ...] = ()
    """Further targets."""
    binds: MetricName | None = None
    """Of several targets, the one of whose limit the shipped file uses most; None where there is one target."""
    confidence: float | None = None
    """How sure it must be; None where no confidence was asked for. What follows is given only with a confidence."""
    bound: Score = None
    """The shipped file's confidence bound on the evaluation data."""
    looks: int | None = None
    """How many plans were evaluated: they share the chance of error."""
    holdout: HeldOutBound | None = None
    """The bound on held-out data."""
    undecided: Undecided | None = None
    """What more samples could bring."""

    @property
    def criterion(self) -> Criterion:
        """The target as the configuration had it."""
        return Criterion(metric=self.metric, limit=self.limit, function=self.function, confidence=self.confidence)
