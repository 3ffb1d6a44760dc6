"""Histograms of the float model's tensors."""

from quant_core.calibration.collect import calibrate as tensor_histograms
from tasks.stages import stage_task

__all__ = ["calibrate"]

calibrate = stage_task("calibrate", tensor_histograms)
