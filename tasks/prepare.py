"""Make the float model ready and list its layers."""

from quant_core.model.prepare import prepare as prepare_model
from tasks.stages import stage_task

__all__ = ["prepare"]

prepare = stage_task("prepare", prepare_model)
