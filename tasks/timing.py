"""Times model files."""

from quant_core.latency import model_times
from tasks.stages import stage_task

__all__ = ["timing"]

timing = stage_task("timing", model_times)
