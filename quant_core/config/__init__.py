"""Every option of a run, in one frozen model shared by Python, the command line, YAML and Prefect's form.

The first sentence of a field's description is its help on the command line; pages and files show all of it.

Each part has a module of its own, so that what depends on one part alone imports that part alone: the key of a step
digests the code that the step can import.
"""

from quant_core.config.analysis import AnalysisConfig
from quant_core.config.criterion import Criterion, MetricName, Target
from quant_core.config.layer_operators import default_layer_ops
from quant_core.config.mixed_precision import MixedPrecisionConfig, config_from
from quant_core.config.probing import ProbeConfig, default_narrow
from quant_core.config.quantization import QuantizationConfig
from quant_core.config.run import Config, LayerWiseConfig, RunConfig, validated
from quant_core.config.runtimes import RUNTIME_DEFAULTS, RuntimeName, run_defaults
from quant_core.config.search import SearchConfig, default_candidates

__all__ = [
    "RUNTIME_DEFAULTS",
    "AnalysisConfig",
    "Config",
    "Criterion",
    "LayerWiseConfig",
    "MetricName",
    "MixedPrecisionConfig",
    "ProbeConfig",
    "QuantizationConfig",
    "RunConfig",
    "RuntimeName",
    "SearchConfig",
    "Target",
    "config_from",
    "default_candidates",
    "default_layer_ops",
    "default_narrow",
    "run_defaults",
    "validated",
]
