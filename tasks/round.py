"""Chooses weights with the calibration data in view."""

from quant_core.quantization.weight_rounding import rounded_weights
from tasks.stages import stage_task

__all__ = ["round_weights"]

round_weights = stage_task("round", rounded_weights)
