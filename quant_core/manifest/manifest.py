"""The manifest as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import JsonValue

from quant_core.manifest.costs import Budget, Costs
from quant_core.manifest.deployed import Deployed
from quant_core.manifest.improvement import Improvement
from quant_core.manifest.layer_weight import LayerWeight
from quant_core.manifest.narrowed import FloatTensor, Narrowed
from quant_core.manifest.provenance import Data, Input, Output, Samples, Sources, Work
from quant_core.manifest.record import Record
from quant_core.manifest.scores import OutputScores, Scores
from quant_core.manifest.target import Target
from quant_core.manifest.times import Latency
from quant_core.precision import PrecisionPlan

__all__ = ["Config", "Manifest"]

Config = Mapping[str, JsonValue]
"""A configuration as it is written."""


class Manifest(Record):
    """What a finished run says of itself; manifest.json holds these keys in this order.

    Fields with a default are those that an earlier release did not write, or that only some runs have.
    """

    narrowcast: str
    """Version of narrowcast."""
    job: Literal["auto", "layer-wise", "pick"] = "auto"
    """What made the model: a search, the user's own plan, or a choice among the plans that a search measured."""
    input: Input
    """The float model."""
    output: Output
    """The shipped model."""
    wide: str
    """Precision that all layers begin in, such as `a16w8`."""
    narrow: tuple[str, ...]
    """Precisions that layers may have instead, in the order the user gave them."""
    target: Target
    """What the model is measured by, and whether it meets the limit."""
    budget: Budget | None = None
    """What it may cost at most; None where no budget was asked for."""
    further_budgets: tuple[Budget, ...] = ()
    """Of several budgets, the others."""
    scores: Scores
    """Scores by metric."""
    outputs: tuple[OutputScores, ...] = ()
    """Scores of each of several outputs, and of parts of outputs that are of unlike scale."""
    deployed: Deployed | None = None
    """How the shipped file does in its runtime; None where it was not scored there."""
    standard_errors: Scores = Scores()
    """Their standard errors over samples, by the same names; a user's own metric has none."""
    samples: Samples = Samples()
    """How many samples scores were measured on."""
    plan: Mapping[str, str]
    """Precision of each layer, in graph order."""
    tensors: Mapping[str, str] = {}
    """Types of single tensors: those that a user's plan gives, and of the tensors that stay in float."""
    float_tensors: tuple[FloatTensor, ...] = ()
    """Tensors that stay in float since the wide model misses the target otherwise, the most harmful first."""
    narrowed: Narrowed
    """How much of the model is narrower than the wide one."""
    improvements: tuple[Improvement, ...] = ()
    """What was tried to make layers better at equal bits, and what it gave."""
    weights: tuple[LayerWeight, ...] = ()
    """Layers whose weights were not simply rounded to nearest, in graph order."""
    costs: Costs = Costs()
    """What the wide and the shipped model cost."""
    latency: Latency | None = None
    """How long a sample takes; None where models were not timed."""
    work: Work = Work()
    """What was computed."""
    seconds: Mapping[str, float] = {}
    """Seconds that each stage took."""
    data: Data = Data()
    """Digests of the data."""
    sources: Sources = Sources()
    """Where model, data and output were."""
    config: Config
    """All options, as an options file has them."""
    environment: Mapping[str, str] = {}
    """Versions of Python and packages, and the kind of machine."""
    tables: Mapping[str, str] = {}
    """Digests of the Arrow tables in the output folder, by name."""
    digest: str | None = None
    """Digest of everything else in here, once the manifest is sealed."""
    picked_from: str | None = None
    """Digest of the model that the run shipped, where this one was picked from its plans."""
    picked_plan: str | None = None
    """Digest of this plan, where it was picked by name and not by a target or a budget."""

    @property
    def shipped_plan(self) -> PrecisionPlan:
        """The plan of the shipped model, with the types of single tensors."""
        return PrecisionPlan.from_dict(self.plan, self.tensors)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """All budgets; empty where none was asked for."""
        return () if self.budget is None else (self.budget, *self.further_budgets)

    @property
    def is_affordable(self) -> bool:
        """Whether the model is within all budgets."""
        return all(budget.met for budget in self.budgets)
