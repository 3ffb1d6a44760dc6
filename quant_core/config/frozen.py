"""The base of every configuration: frozen, and unknown keys are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["FrozenModel"]


class FrozenModel(BaseModel):
    """A record of options."""

    model_config = ConfigDict(frozen=True, extra="forbid")
