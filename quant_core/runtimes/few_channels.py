"""Convolutions that ONNX Runtime's CPU kernels run more slowly in 8 bits than in float, told by their channels.

The integer kernel copies what each result is summed from, byte by byte and group by group, into rows of a matrix before
it multiplies; the float kernel multiplies in place. Of few channels multiplied with few others, copies take most of the
time. Measured at 1.32 with VNNI, batch 1 and 8, kernels of 3x3 to 7x7: below 100 products of channels a position the
integer kernel mostly has 0.5 to 0.95 times the speed of the float one (with 2 to 8 channels a group 0.1 to 0.8), from
128 on it is faster, up to 2.8 times. A depthwise convolution has an integer kernel of its own.
"""

from __future__ import annotations

from quant_core.model.graph import FloatGraph, integer_attribute
from quant_core.model.layers import Layer

__all__ = ["few_channels"]

_FEWEST_PRODUCTS = 100
"""Input times output channels of a group, from which on integers are at least about as fast."""
_RGB = 3
"""Of more channels than a picture has, those of one group are in the midst of a network, where a pair more costs more
than the kernel."""


def few_channels(graph: FloatGraph, layer: Layer) -> str:
    """Return why a layer is slower in 8 bits than in float; empty where it is not."""
    if layer.op != "Conv" or len(layer.weight_shape) < 3:
        return ""
    groups = integer_attribute(graph.nodes[layer.nodes[0]], "group", 1)
    read, written = layer.weight_shape[1], layer.weight_shape[0] // groups
    is_depthwise = read == written == 1
    if is_depthwise or read * written >= _FEWEST_PRODUCTS or (groups == 1 and read > _RGB):
        return ""
    return f"a Conv of {read} to {written} channels{' a group' if groups > 1 else ''}"
