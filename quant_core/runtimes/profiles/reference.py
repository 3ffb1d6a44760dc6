"""What the Q/DQ pairs say, computed as they say it."""

from __future__ import annotations

from quant_core.precision import ACTIVATION_TYPES, WEIGHT_TYPES
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.rules.products import BIAS_AT_PRODUCT_SCALE, PAIRS_HAVE_KERNELS

__all__ = ["REFERENCE"]

REFERENCE = RuntimeProfile(
    name="reference",
    title="the Q/DQ pairs as they say it: for compilers that keep to them",
    assumes="the compiler computes what the pairs say",
    activations=frozenset(ACTIVATION_TYPES),
    weights=frozenset(WEIGHT_TYPES),
    weights_alone=frozenset(WEIGHT_TYPES),
    rules=(PAIRS_HAVE_KERNELS, BIAS_AT_PRODUCT_SCALE),
    numbers="Scored in ONNX Runtime with all optimisations off: nothing is fused.",
)
