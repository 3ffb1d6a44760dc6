"""The configuration of an automatic run: everything together."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from quant_core.budget import BUDGETS, Amount
from quant_core.config.criterion import Target
from quant_core.config.probing import default_narrow, with_tensor_scales
from quant_core.config.run import RunConfig, validated
from quant_core.config.runtimes import with_runtime_defaults
from quant_core.config.search import SearchConfig, default_candidates
from quant_core.model.operators import TABLE_OP
from quant_core.precision import DataType, Precision

__all__ = ["MixedPrecisionConfig", "config_from"]


class MixedPrecisionConfig(RunConfig, SearchConfig):
    """The configuration of one automatic mixed-precision run."""

    target: Target = Field(description="What the model that comes out must meet; within a budget, what is to be best.")

    @model_validator(mode="before")
    @classmethod
    def _a_budget_says_what_costs(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not (names := [name for name in BUDGETS if given.get(name) is not None]):
            return given
        return {"target": {"metric": "l2"}, "cost": BUDGETS[names[0]], **given}

    @model_validator(mode="before")
    @classmethod
    def _so_many_layers_need_no_limit(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("most_layers") is not None:
            return {"target": {"metric": "l2"}, **given}
        return given

    @model_validator(mode="before")
    @classmethod
    def _what_is_narrowed_goes_with_wide(cls, given: Any) -> Any:
        given = with_runtime_defaults(given, cls.model_fields)
        if isinstance(given, Mapping) and str(given.get("wide")) == "float32":
            wide = Precision.parse("float32")
            return {
                "narrow": default_narrow(wide),
                "candidates": default_candidates(wide, given.get("device_costs"), given.get("narrow")),
                **given,
            }
        return given

    @model_validator(mode="after")
    def _bytes_are_saved_by_scales_too(self) -> Self:
        if self.saves_bytes and self.per_channel and self.block_size is None and self.format == "qdq":
            # The model is frozen for its users, and not yet theirs.
            object.__setattr__(self, "narrow", with_tensor_scales(self.wide, self.narrow))
        return self

    @model_validator(mode="after")
    def _something_says_how_narrow(self) -> Self:
        if self.budgets and self.cost not in self.budgets:
            given = " and ".join(f"max_{name}" for name in self.budgets)
            costs = " or ".join(map(repr, self.budgets))
            raise ValueError(f"cost: with {given} it must be {costs}, not {self.cost!r}; leave it out")
        if self.target.limit is None and not self.budgets and self.most_layers is None:
            raise ValueError(f"target: give it a limit, or give a budget: {', '.join(BUDGETS)}")
        if self.most_layers is not None and self.budgets:
            raise ValueError("most_layers: a budget says how many layers are narrowed; leave one of them out")
        return self

    @model_validator(mode="after")
    def _each_step_is_narrower(self) -> Self:
        for above, below in pairwise(self.ladder):
            if not below.narrower_than(above):
                raise ValueError(f"narrow: {below} is not narrower than {above}")
        for below, above in pairwise((self.wide, *(self.lift or ()))):
            if not below.narrower_than(above):
                raise ValueError(f"lift: {above} is not wider than {below}")
        if self.lift and (self.budgets or self.most_layers is not None):
            raise ValueError("lift: goes with a target alone; a budget or most_layers narrows from wide; leave it out")
        if self.block_size is not None and not any(one.takes_blocks and one.block is None for one in self.ladder):
            raise ValueError(
                "block_size is for 4-bit weights, and for 8-bit ones beside floats: add a precision such as a8w4 or "
                "float32w8, or leave it out"
            )
        return self

    @property
    def budgets(self) -> Mapping[str, Amount]:
        """The most that a plan may cost, by cost; empty where there is no such limit."""
        amounts = {"bops": self.max_bops, "bytes": self.max_bytes, "latency": self.max_latency}
        return {name: amount for name, amount in amounts.items() if amount is not None}

    @property
    def ladder(self) -> tuple[Precision, ...]:
        """The precisions that a plan is made of, the wide one first and each narrower than the one before."""
        return (self.wide, *self.narrow)

    @property
    def plan_samples(self) -> Literal["auto", "all"] | int:
        """On how many samples a plan is scored: as many as the verdict takes, or all.

        A plan of the frontier is given out as it was scored, which plan is the best within a budget shows on the same
        samples only, and a user's metric takes all outputs at once.
        """
        return "all" if self.frontier or self.budgets or self.metric_function is not None else self.samples

    @property
    def opset(self) -> int:
        """The opset that a model is raised to: the first whose pairs take every type that a plan may have.

        Beside a wide float32, above which there is no other precision, that is often an older one.
        """
        kinds = {kind for precision in self.narrow for kind in (precision.activations, precision.weights)}
        coded = [kind for kind in kinds if not kind.is_float]
        has_blocks = self.block_size is not None or any(precision.block for precision in self.narrow)
        newest = has_blocks or not all(kind.bits == 8 for kind in coded)
        if self.wide.activations is not DataType.FLOAT32 or newest or TABLE_OP in self.layer_ops:
            return super().opset
        return _CHANNEL_SCALES if self.per_channel else _BYTES


_BYTES = 10
"""The first opset with pairs: of 8-bit types, with one scale."""
_CHANNEL_SCALES = 13
"""The first opset whose pairs may have a scale a channel."""


def config_from(**options: object) -> MixedPrecisionConfig:
    """Build a configuration from loose options; raises InputError with one line that names what is wrong."""
    return validated(MixedPrecisionConfig, options)
