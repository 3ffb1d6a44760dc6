"""The manifest: everything a finished run says of itself, as records."""

from quant_core.manifest.costs import Budget, Costs, CostSummary
from quant_core.manifest.deployed import Deployed, LayerRun
from quant_core.manifest.improvement import Improvement
from quant_core.manifest.layer_weight import LayerWeight
from quant_core.manifest.manifest import Config, Manifest
from quant_core.manifest.narrowed import FloatTensor, Narrowed, OtherOperators
from quant_core.manifest.provenance import Data, Input, Output, Samples, Sources, Work
from quant_core.manifest.scores import ByMetric, OutputScores, Part, Scores
from quant_core.manifest.target import FurtherTarget, HeldOutBound, Target, Undecided
from quant_core.manifest.times import Latency, Pace

__all__ = [
    "Budget",
    "ByMetric",
    "Config",
    "CostSummary",
    "Costs",
    "Data",
    "Deployed",
    "FloatTensor",
    "FurtherTarget",
    "HeldOutBound",
    "Improvement",
    "Input",
    "Latency",
    "LayerRun",
    "LayerWeight",
    "Manifest",
    "Narrowed",
    "OtherOperators",
    "Output",
    "OutputScores",
    "Pace",
    "Part",
    "Samples",
    "Scores",
    "Sources",
    "Target",
    "Undecided",
    "Work",
]
