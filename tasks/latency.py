"""Times the layers of a model."""

from quant_core.latency import layer_times
from tasks.stages import stage_task

__all__ = ["latency"]

latency = stage_task("latency", layer_times)
