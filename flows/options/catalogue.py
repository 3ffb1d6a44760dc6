"""The table of options of each command that runs something, by heading."""

from __future__ import annotations

from functools import cache

from flows.options.inputs import AutoInputs, Inputs, LayerWiseInputs
from quant_core.config import LayerWiseConfig, MixedPrecisionConfig, RunConfig
from quant_core.flags import Heading
from quant_core.options import Option, TargetOptions, options_of

__all__ = ["auto_options", "layer_wise_options", "rows"]


@cache
def auto_options() -> tuple[Option, ...]:
    """Return the options of `narrowcast auto`, in the order of its help."""
    return _table(AutoInputs, MixedPrecisionConfig)


@cache
def layer_wise_options() -> tuple[Option, ...]:
    """Return the options of `narrowcast layer-wise`, in the order of its help."""
    return _table(LayerWiseInputs, LayerWiseConfig)


def rows(*names: str) -> tuple[Option, ...]:
    """Return some options of `narrowcast auto`, for a command that has them too."""
    by_name = {option.name: option for option in auto_options()}
    return tuple(by_name[name] for name in names)


def _table(inputs: type[Inputs], config: type[RunConfig]) -> tuple[Option, ...]:
    found = [option for kind in (inputs, TargetOptions, config) for option in options_of(kind)]
    return tuple(sorted(found, key=lambda option: list(Heading).index(option.shown.heading)))
