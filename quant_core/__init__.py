"""narrowcast's engine: automatic mixed-precision quantization of ONNX models, without Prefect."""

from quant_core.config import Criterion, LayerWiseConfig, MixedPrecisionConfig, Target
from quant_core.errors import InputError, NarrowcastError, TargetError, UnsupportedError
from quant_core.pipeline.auto import auto_mixed_precision
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.precision import DataType, Precision, PrecisionPlan
from quant_core.results.outcome import Outcome

__all__ = [
    "Criterion",
    "DataType",
    "InputError",
    "LayerWiseConfig",
    "MixedPrecisionConfig",
    "NarrowcastError",
    "Outcome",
    "Precision",
    "PrecisionPlan",
    "Target",
    "TargetError",
    "UnsupportedError",
    "auto_mixed_precision",
    "layer_wise",
]
