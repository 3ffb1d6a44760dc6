"""The quantized model file of a plan."""

from quant_core.quantization.export import export as quantized_file
from tasks.stages import stage_task

__all__ = ["export"]

export = stage_task("export", quantized_file)
