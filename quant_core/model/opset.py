"""Which opset a model is quantized at, and the domain its Q/DQ pairs are written in.

The standard's QuantizeLinear and DequantizeLinear take 16-bit types from opset 21 on, and ONNX Runtime has kernels for
those up to opset 27, so a model is brought there; no further than the types of its plans need. One that cannot be
converted faithfully stays where it is, and gets ONNX Runtime's pairs instead, which take the same types at any opset;
so does one whose user asks for those.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.inliner

from quant_core.model.graph import inner_graphs
from quant_core.model.notes import OWN_PREFIX, note, noted

__all__ = [
    "CHANNELS_OPSET",
    "NEWEST",
    "OPSET",
    "RUNTIME_DOMAIN",
    "choose_runtime_pairs",
    "has_pairs",
    "opset_of",
    "pair_domain",
    "upgraded",
]

OPSET = 21
"""The first opset in which QuantizeLinear and DequantizeLinear take 16-bit types."""

CHANNELS_OPSET = 13
"""The first opset whose DequantizeLinear has an axis. ONNX Runtime puts one behind a float bias, whatever domain the
pairs beside it are of."""

NEWEST = 27
"""The last opset whose QuantizeLinear and DequantizeLinear ONNX Runtime (1.32) has kernels for."""

RUNTIME_DOMAIN = "com.microsoft"
"""The domain of the Q/DQ pairs that take 16-bit types at any opset."""

_PAIRS = f"{OWN_PREFIX}pairs"
"""The key of the domain of a prepared model's pairs, where that is not the standard's."""

# What onnx's converter (1.23) gets wrong without saying so, by the last opset it does so from: it takes
# Upsample and the first Resize, which sampled asymmetrically, for the later one, which does not; and it leaves
# GroupNormalization's scale as it was when there was one a group.
_MISCONVERTED = {"Upsample": 9, "Resize": 10, "GroupNormalization": 20}

_FIRST_FOR_BYTES = 9
"""The first opset whose Flatten takes 8 bits: ONNX Runtime moves pairs across it. No operator of _MISCONVERTED changes
up to there."""


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard's operators the model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)


def pair_domain(model: onnx.ModelProto) -> str:
    """The domain of a prepared model's Q/DQ pairs."""
    return noted(model, _PAIRS) or ""


def choose_runtime_pairs(model: onnx.ModelProto) -> None:
    """Have the pairs of a model written in ONNX Runtime's domain."""
    if all(entry.domain != RUNTIME_DOMAIN for entry in model.opset_import):
        model.opset_import.add(domain=RUNTIME_DOMAIN, version=1)
    note(model, _PAIRS, RUNTIME_DOMAIN)


def has_pairs(model: onnx.ModelProto, first: int = OPSET) -> bool:
    """Return whether a model's opset is one whose standard pairs run; they take all types needed from `first` on."""
    return first <= opset_of(model) <= NEWEST


def upgraded(model: onnx.ModelProto, first: int = OPSET) -> onnx.ModelProto:
    """The model at an opset of `first` to NEWEST, or as it is where that would fail or change what it computes.

    From below _FIRST_FOR_BYTES it is brought that far all the same.
    """
    version = opset_of(model)
    wanted = min(max(version, first), NEWEST)
    if any(version <= _MISCONVERTED.get(node.op_type, -1) for node in _all_nodes(model.graph)):
        wanted = max(version, _FIRST_FOR_BYTES)
    if version == wanted:
        return model
    try:
        return onnx.version_converter.convert_version(_inlined(model), wanted)
    except Exception:  # the converter raises bare RuntimeErrors from C++
        return model


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own: the converter drops them and keeps the calls."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of the graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from _all_nodes(inner)
