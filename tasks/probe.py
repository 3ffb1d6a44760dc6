"""Loss of each layer of a shard when it alone is narrowed."""

from quant_core.probing.probe import layer_sensitivity
from tasks.stages import stage_task

__all__ = ["probe"]

probe = stage_task("probe", layer_sensitivity)
