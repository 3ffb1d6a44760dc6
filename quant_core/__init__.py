"""narrowcast's engine: automatic mixed-precision quantization of ONNX models, without Prefect.

A name is imported when it is first used: who only reads options waits for pydantic, not for ONNX Runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quant_core.config import Criterion, LayerWiseConfig, MixedPrecisionConfig, Target
    from quant_core.errors import InputError, NarrowcastError, TargetError, UnsupportedError
    from quant_core.manifest import Manifest
    from quant_core.pipeline.auto import auto_mixed_precision
    from quant_core.pipeline.layer_wise import layer_wise
    from quant_core.precision import DataType, Precision, PrecisionPlan
    from quant_core.results.outcome import Outcome, open_outcome

__all__ = [
    "Criterion",
    "DataType",
    "InputError",
    "LayerWiseConfig",
    "Manifest",
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
    "open_outcome",
]

_MODULES = {
    "config": ("Criterion", "LayerWiseConfig", "MixedPrecisionConfig", "Target"),
    "errors": ("InputError", "NarrowcastError", "TargetError", "UnsupportedError"),
    "manifest": ("Manifest",),
    "pipeline.auto": ("auto_mixed_precision",),
    "pipeline.layer_wise": ("layer_wise",),
    "precision": ("DataType", "Precision", "PrecisionPlan"),
    "results.outcome": ("Outcome", "open_outcome"),
}
_MODULE_OF = {name: f"quant_core.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name; raises AttributeError for any other."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
