"""The manifest: everything a finished run says of itself, as records."""

from quant_core.manifest.manifest import Config, Manifest
from quant_core.manifest.outcomes import (
    Budget,
    ByMetric,
    Costs,
    CostSummary,
    Deployed,
    FloatTensor,
    HeldOutBound,
    Improvement,
    Latency,
    Narrowed,
    OtherOperators,
    OutputScores,
    Part,
    Scores,
    Target,
    Undecided,
)
from quant_core.manifest.provenance import Data, Input, Output, Samples, Sources, Work

__all__ = [
    "Budget",
    "ByMetric",
    "Config",
    "CostSummary",
    "Costs",
    "Data",
    "Deployed",
    "FloatTensor",
    "HeldOutBound",
    "Improvement",
    "Input",
    "Latency",
    "Manifest",
    "Narrowed",
    "OtherOperators",
    "Output",
    "OutputScores",
    "Part",
    "Samples",
    "Scores",
    "Sources",
    "Target",
    "Undecided",
    "Work",
]
