"""The precisions above wide that a search may lift layers to."""

from __future__ import annotations

from quant_core.config import MixedPrecisionConfig, RunConfig
from quant_core.precision import DataType, Precision
from quant_core.runtimes.registry import profile_of

__all__ = ["rungs_above"]


def rungs_above(config: RunConfig) -> tuple[Precision, ...]:
    """Return the precisions that a search may lift layers to, the nearest to wide first.

    Where the configuration does not say, these are 16-bit activations beside the wide weights, 16-bit weights as well,
    and float32, as far as they are above wide and the runtime has them.
    """
    if not isinstance(config, MixedPrecisionConfig):
        return ()
    if config.lift is not None:
        return config.lift
    wide, profile = config.wide, profile_of(config.runtime)
    if wide.is_float or config.device_costs is not None:  # such a file has prices for the ladder alone
        return ()
    activations = DataType.INT16 if wide.activations.signed else DataType.UINT16
    sixteen_bits = [Precision(activations, wide.weights), Precision(activations, DataType.INT16)]
    float32 = Precision(DataType.FLOAT32, DataType.FLOAT32)
    above = [one for one in (*sixteen_bits, float32) if wide.narrower_than(one) and not profile.why_not(one)]
    return tuple(one for one in above if config.format != "qoperator" or not one.why_not_integer)
