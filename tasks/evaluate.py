"""Score of one plan: the wide model, and each step of the search."""

from quant_core.scoring.evaluation import evaluate_plan
from tasks.stages import stage_task

__all__ = ["evaluate"]

evaluate = stage_task("evaluate", evaluate_plan)
