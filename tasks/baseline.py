"""Outputs of the float model."""

from quant_core.scoring.evaluation import float_outputs
from tasks.stages import stage_task

__all__ = ["baseline"]

baseline = stage_task("baseline", float_outputs)
