"""The steps of the pipeline, one function each; a job's body calls them one after the other.

`on` is the Runner that calls the stages: in this process, or as Prefect's tasks.
"""

from quant_core.pipeline.steps.baselines import assign, baseline
from quant_core.pipeline.steps.decision import Decision, chosen, probe, rank, search
from quant_core.pipeline.steps.delivery import report
from quant_core.pipeline.steps.preparation import calibrate, prepare
from quant_core.pipeline.steps.verification import Exported, export, verify

__all__ = [
    "Decision",
    "Exported",
    "assign",
    "baseline",
    "calibrate",
    "chosen",
    "export",
    "prepare",
    "probe",
    "rank",
    "report",
    "search",
    "verify",
]
