"""The table of options of each command that runs something, by heading."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from flows.options.inputs import AnalysisInputs, AutoInputs, Inputs, LayerWiseInputs
from quant_core.config import AnalysisConfig, LayerWiseConfig, MixedPrecisionConfig, RunConfig
from quant_core.config.evaluator import EvaluatorConfig
from quant_core.flags import Heading
from quant_core.options import Option, TargetOptions, options_of

__all__ = ["analysis_options", "auto_options", "layer_wise_options", "rows"]


@cache
def auto_options() -> tuple[Option, ...]:
    """Return the options of `narrowcast auto`, in the order of its help."""
    return _table(AutoInputs, MixedPrecisionConfig)


@cache
def layer_wise_options() -> tuple[Option, ...]:
    """Return the options of `narrowcast layer-wise`, in the order of its help."""
    return _table(LayerWiseInputs, LayerWiseConfig)


@cache
def analysis_options() -> tuple[Option, ...]:
    """Return the options of `narrowcast analyse`, in the order of its help: those that a loss may depend on."""
    found = [option for kind in (AnalysisInputs, AnalysisConfig) for option in options_of(kind)]
    return _sorted(option for option in found if option.name not in _OF_A_WRITTEN_MODEL)


_OF_A_WRITTEN_MODEL = frozenset(
    {"cost", "device_costs", "dual_pairs", "format", "score_in", "time_models", "timer", "timer_limit"}
    | set(EvaluatorConfig.model_fields)
)
"""Options of what an analysis has not: a model file, costs, and a search."""


def rows(*names: str) -> tuple[Option, ...]:
    """Return some options of `narrowcast auto`, for a command that has them too."""
    by_name = {option.name: option for option in auto_options()}
    return tuple(by_name[name] for name in names)


def _table(inputs: type[Inputs], config: type[RunConfig]) -> tuple[Option, ...]:
    return _sorted(option for kind in (inputs, TargetOptions, config) for option in options_of(kind))


def _sorted(options: Iterable[Option]) -> tuple[Option, ...]:
    return tuple(sorted(options, key=lambda option: list(Heading).index(option.shown.heading)))
