"""What came of a run: target, budget, scores, costs and times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import ConfigDict, Field

from quant_core.config.target import Criterion, MetricName
from quant_core.errors import InputError
from quant_core.manifest.record import Record, Score

__all__ = [
    "Budget",
    "ByMetric",
    "CostSummary",
    "Costs",
    "Deployed",
    "FloatTensor",
    "FurtherTarget",
    "HeldOutBound",
    "Improvement",
    "Latency",
    "Narrowed",
    "Part",
    "Scores",
    "Target",
    "Undecided",
]

Part = Literal["float", "wide", "mixed", "holdout"]
"""What was measured: the float model, the wide one, the shipped one, and that on held-out data."""

ByMetric = Mapping[str, Score]
"""Numbers by the metric's name."""

Milliseconds = float
"""Of one sample."""

Ratio = float
"""One number divided by another."""


class OutputScores(Record):
    """Scores of one of several outputs, or of a part of one whose channels are of unlike scale."""

    output: str
    """The output's name."""
    channels: str
    """The channels (`0-3 on axis 1`, with the samples on axis 0); empty for the whole output."""
    wide: ByMetric
    """Of the wide model, by metric."""
    mixed: ByMetric
    """Of the shipped model."""


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


class Budget(Record):
    """What the model may cost at most, and what it costs."""

    cost: str
    """Name of the cost: `bops`, `bytes` or `latency`."""
    asked: str
    """As the user wrote it: a share of the wide model's cost, or an amount with its unit."""
    unit: str
    """What `limit` and `spent` are in."""
    limit: float
    """The most it may cost."""
    spent: float
    """What it costs."""
    share: float
    """The same as a share of the wide model's cost."""
    met: bool
    """Whether it is within the limit."""


class Scores(Record):
    """Numbers by metric, for each model that was measured: scores, or their standard errors."""

    float: ByMetric = Field(default_factory=dict)
    """Of the float model."""
    wide: ByMetric = Field(default_factory=dict)
    """Of the model with all layers wide."""
    mixed: ByMetric = Field(default_factory=dict)
    """Of the shipped file, on the evaluation data."""
    holdout: ByMetric = Field(default_factory=dict)
    """Of the shipped file, on held-out data; empty where there is none."""

    def of(self, part: Part) -> ByMetric:
        """Return the numbers of one model."""
        return {"float": self.float, "wide": self.wide, "mixed": self.mixed, "holdout": self.holdout}[part]


class LayerRun(Record):
    """What a layer of the shipped file runs as in its runtime."""

    layer: str
    """Its node in the file; where a runtime leaves other nodes to the processor, one of those."""
    runs_as: str
    """Kernel, and its precision where the runtime tells; empty where it does not tell."""
    is_integer: bool
    """Whether that adds up codes."""
    why: str = ""
    """Why it does not."""


class Pace(Record):
    """How long one sample takes in the runtime, on one thread, where it was scored."""

    float: Milliseconds
    """In the float model."""
    mixed: Milliseconds
    """In the shipped file."""
    batch: int = 1
    """Samples of a call, where the model leaves that open."""


class Deployed(Record):
    """How the shipped file does in the runtime that it is for; its scores there are those of `mixed`."""

    runtime: str
    """Name of the runtime."""
    processor: str = ""
    """Where it was scored, for runtimes whose numbers depend on it."""
    assumes: str = ""
    """What must hold on the machine where it is deployed for the scores to hold; empty: nothing."""
    session: Mapping[str, str] = Field(default_factory=dict)
    """Session options that an application has to set."""
    reference: ByMetric = Field(default_factory=dict)
    """Its scores on the evaluation data with all optimisations off: what the pairs say."""
    reference_samples: int | None = None
    """Samples that those were computed on; for the others the difference to the runtime's is taken to be alike."""
    differs: bool = False
    """Whether the two differ by more than the samples leave open."""
    reasons: tuple[str, ...] = ()
    """What is computed otherwise than the pairs say, where they differ."""
    layers: tuple[LayerRun, ...] = ()
    """What layers run as, where the runtime is run here."""
    pace: Pace | None = None
    """How fast it is; None where the runtime is not run here, or its times there mean nothing."""
    faster: str = ""
    """What would be faster, where it is slower than the float model: options, and why."""


class OtherOperators(Record):
    """Operators of one type that multiply and are no layers."""

    op: str
    """Operator type."""
    nodes: int
    """How many there are."""
    precision: Literal["float", "wide"]
    """What they compute in."""
    macs_share: float | None
    """Share of all multiply-accumulates that they have; none where they cannot be counted."""
    why: str
    """Why they are no layers."""


class FloatTensor(Record):
    """A tensor that stays in float, where the wide model misses the target without that."""

    name: str
    """Its name in the prepared model."""
    alike: tuple[str, ...] = ()
    """Tensors with the same values, moved: they have one scale, and stay in float with it."""
    share: float | None = None
    """Share of what all tensors lose that are quantized each alone; none where it leads to an infinity or a NaN."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its own name and those of the tensors alike."""
        return (self.name, *self.alike)


class Narrowed(Record):
    """How much of the model is narrower than the wide one."""

    layers: int
    """Layers that are."""
    of: int
    """All layers, and all other operators that multiply."""
    macs_share: float
    """Share of all multiply-accumulates that those layers have."""
    bops_ratio: float
    """Bit operations of the model, as a share of the wide model's."""
    others: tuple[OtherOperators, ...] = ()
    """Operators that multiply and are no layers: in all shares, and the same in every plan."""
    lifted: int = 0
    """Layers that are wider than the wide precision, without which the target is missed."""
    slow: Mapping[str, str] = Field(default_factory=dict)
    """Layers that no plan narrows since they would be slower in the runtime: what each is, by its name."""


class Improvement(Record):
    """What was tried to make layers better at equal bits, and what it gave on held-out calibration samples."""

    method: Literal["migration", "reconstruction"]
    """What was done: `migration` of the spread of activations into weights, or `reconstruction` of weights."""
    precision: str
    """The precision that it is for, and that all layers had when it was measured."""
    layers: int
    """Layers that it changes."""
    of: int
    """Layers that it was tried on."""
    before: float
    """L2 of the model without it."""
    after: float
    """L2 of the model with it."""
    kept: bool
    """Whether the model has it: where the L2 is lower (of a migration: over all precisions of the run)."""
    samples: int
    """Calibration samples that were held out."""


class CostSummary(Record):
    """One cost of the wide and of the shipped model."""

    unit: str
    """What both are in."""
    wide: float
    """Of the wide model."""
    mixed: float
    """Of the shipped model."""
    saved: float
    """Share of the wide model's cost that the shipped one does not have."""


class Costs(Record):
    """Every cost that was counted or measured, by its name: `bops`, `bytes`, `activation-bytes`, `latency`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, CostSummary]

    objective: str = "bops"
    """Name of the cost that the search saved."""

    def of(self, name: str) -> CostSummary:
        """Return the cost of that name; raises InputError where the run did not count it."""
        found = self.__pydantic_extra__.get(name)
        if found is None:
            raise InputError(f"the run did not count the cost {name}")
        return found


class Latency(Record):
    """How long one sample takes in each model."""

    unit: str
    """What the times are in."""
    threads: int
    """Threads that each model ran on."""
    float: Milliseconds
    """Of the float model."""
    wide: Milliseconds
    """Of the wide model."""
    mixed: Milliseconds
    """Of the shipped model."""
    speedup: Ratio
    """How many times as fast as the float model the shipped one is."""
    batch: int = 1
    """Samples of a call, where the model leaves that open."""
    timer: str | None = None
    """The user's own function that timed them; None: ONNX Runtime did, where the run was."""
    predicted: Milliseconds | None = None
    """What the search took the shipped model for, boundaries included, where the cost is latency."""
