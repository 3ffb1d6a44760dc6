"""What the models cost, and what they may cost at most."""

from __future__ import annotations

from pydantic import ConfigDict

from quant_core.errors import InputError
from quant_core.manifest.record import Record

__all__ = ["Budget", "CostSummary", "Costs"]


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
