"""Score of the model file as it is shipped."""

from quant_core.scoring.evaluation import score_file
from tasks.stages import stage_task

__all__ = ["verify"]

verify = stage_task("verify", score_file)
