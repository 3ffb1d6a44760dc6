"""What a plan is to save, within which budgets, and how latencies are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from quant_core.budget import Amount
from quant_core.config.frozen import FrozenModel
from quant_core.flags import Flag, Heading

__all__ = ["CostConfig"]


class CostConfig(FrozenModel):
    """What a plan is to save, and how latencies are taken."""

    cost: Annotated[Literal["bops", "bytes", "activation-bytes", "latency"], Flag(Heading.COST, "COST")] = Field(
        default="bops",
        description="What is to be saved. Bit operations, weight bytes, bytes of what layers read, or the time layers "
        "take in the runtime on this machine.",
    )
    device_costs: Annotated[str | None, Flag(Heading.COST, "CSV", is_path=True)] = Field(
        default=None,
        description="Your device's latencies, for the cost latency. A CSV file of what layers take on it "
        "(layer,precision,milliseconds), in place of timing them here.",
    )
    timer: Annotated[str | None, Flag(Heading.COST, "PKG.MOD:FN")] = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="Your own function that times a model file, on your board for one. It gets the file's path and the "
        "inputs of one call by name, and returns milliseconds. For the cost latency and for time_models.",
    )
    timer_limit: Annotated[str | None, Flag(Heading.COST, "NAME")] = Field(
        default=None,
        min_length=1,
        description="The global concurrency limit in Prefect of which a slot is held while the timer runs. So runs on "
        "several machines take turns on one board.",
    )
    time_models: Annotated[bool, Flag(Heading.COST)] = Field(
        default=False,
        description="Time the float, the wide and the finished model in the runtime. With the cost latency this is "
        "always done.",
    )
    time_batch: Annotated[int, Flag(Heading.COST, "N")] = Field(
        default=1,
        ge=1,
        description="Samples of a call when models and layers are timed, as your application has them. Some kernels "
        "gain by batches more than others. A model with a fixed batch is timed on that.",
    )

    @model_validator(mode="after")
    def _device_costs_are_latencies(self) -> Self:
        if self.device_costs is not None and not self.counts_latency:
            raise ValueError(f"device_costs are for the cost 'latency', not for {self.cost!r}; leave them out")
        return self

    @model_validator(mode="after")
    def _a_timer_has_something_to_time(self) -> Self:
        if self.timer_limit is not None and self.timer is None:
            raise ValueError("timer_limit: is for a timer; give one, or leave it out")
        if self.timer is not None and not self.times_models:
            raise ValueError("timer: nothing is timed; add the cost 'latency' or time_models, or leave it out")
        return self

    @property
    def budgets(self) -> Mapping[str, Amount]:
        """The most that a plan may cost, by cost; empty where there is no such limit."""
        return {}

    @property
    def counts_latency(self) -> bool:
        """Whether what plans take is saved, or has a budget."""
        return "latency" in (self.cost, *self.budgets)

    @property
    def budget_text(self) -> str:
        """The budgets as a claim: `bops <= 0.4 of the wide model and bytes <= 300kB`; empty without one."""
        return " and ".join(amount.claim(name) for name, amount in self.budgets.items())

    @property
    def times_models(self) -> bool:
        """Whether whole models are timed."""
        return self.time_models or self.counts_latency
