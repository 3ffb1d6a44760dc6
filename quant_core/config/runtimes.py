"""The runtimes that a run can be for, and the defaults of its options there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from quant_core.model.operators import RECURRENT_OPS, LayerOp
from quant_core.precision import Precision

__all__ = [
    "HALF_SCALES",
    "RECURRENT_LAYERS",
    "RECURRENT_WEIGHTS_ALONE",
    "RUNTIME_DEFAULTS",
    "RuntimeName",
    "run_defaults",
    "saves_bytes",
    "with_runtime_defaults",
]

RuntimeName = Literal[
    "onnxruntime",
    "onnxruntime-vnni",
    "onnxruntime-web",
    "openvino",
    "qnn",
    "vitisai",
    "tensorrt",
    "tract",
    "tvm",
    "reference",
]
"""Runtimes that have a profile (see `runtimes`)."""

_UNSIGNED, _SIGNED = (Precision.parse("au8w8"),), (Precision.parse("a8w8"),)

RUNTIME_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "openvino": {"wide": Precision.parse("float32"), "narrow": _UNSIGNED},
    "qnn": {"wide": Precision.parse("au16w8"), "narrow": _UNSIGNED},
    "vitisai": {"pairs": "com.microsoft", "calibrate": "pow2-nonoverflow"},
    "tensorrt": {"wide": Precision.parse("float16"), "narrow": _SIGNED, "biases": "float32"},
    "tract": {"wide": Precision.parse("float32"), "narrow": _UNSIGNED},
}
"""Options by runtime, where it cannot have those of others."""

_COMPUTES_IN_FLOAT = ("onnxruntime", "onnxruntime-vnni", "onnxruntime-web")
"""Runtimes that make int32 of float biases as they load a file, at the scale that a file would have, and compute what
stands between pairs of 16 bits in float."""


def saves_bytes(options: Mapping[str, Any]) -> bool:
    """Return whether a run with some options saves bytes of the file, or has a budget of them."""
    return options.get("cost") == "bytes" or options.get("max_bytes") is not None


def run_defaults(options: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the defaults of a run's options, by its runtime and by whether it saves bytes."""
    runtime = str(options.get("runtime", "onnxruntime"))
    in_pairs = options.get("format", "qdq") == "qdq" and runtime in _COMPUTES_IN_FLOAT
    if not (saves_bytes(options) and in_pairs):
        return RUNTIME_DEFAULTS.get(runtime, {})
    biases = {} if options.get("correct_bias") else {"biases": "small"}
    others = {} if options.get("dual_pairs") else {"others": "float32"}
    return {
        "absorb_biases": True,
        "channel_scales": "float16",
        **biases,
        **others,
        **RUNTIME_DEFAULTS.get(runtime, {}),
    }


RECURRENT_LAYERS: Mapping[str, tuple[LayerOp, ...]] = {
    **dict.fromkeys(("onnxruntime", "onnxruntime-vnni", "onnxruntime-web", "tract", "reference"), RECURRENT_OPS),
    "openvino": RECURRENT_OPS,
    "qnn": ("LSTM", "GRU"),
}
"""Recurrent operators that runtimes are known to compute as layers; elsewhere such nodes stay in float."""

RECURRENT_WEIGHTS_ALONE = frozenset({"openvino"})
"""Runtimes that do so only beside floats: with weights in codes, and no pair in front."""

HALF_SCALES = frozenset({"onnxruntime", "onnxruntime-vnni", "onnxruntime-web", "reference"})
"""Runtimes that are known to take scales of blocks in float16, behind a Cast: ONNX Runtime does it once, on opening."""


def with_runtime_defaults(given: Any, names: Collection[str]) -> Any:
    """Return loose options with their defaults (see `run_defaults`), as far as there are such `names`.

    What is no mapping is returned as it is.
    """
    if not isinstance(given, Mapping):
        return given
    defaults = run_defaults(given)
    return {**{name: value for name, value in defaults.items() if name in names}, **given}
