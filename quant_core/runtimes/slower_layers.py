"""Layers that ONNX Runtime's CPU kernels run more slowly in 8 bits than in float, as measured at 1.32.

Recurrent layers between pairs are computed in float, and their weights dequantized on every run: that takes 1.2 to 2.3
times as long as in float. An LSTM as DynamicQuantizeLSTM takes 0.29 to 0.91 times.

Convolutions of few channels lose their time in copies: the integer kernel copies what each result is summed from, byte
by byte and group by group, into rows of a matrix before it multiplies; the float kernel multiplies in place. With VNNI,
batch 1 and 8, kernels of 3x3 to 7x7, the integer kernel mostly has 0.5 to 0.95 times the speed of the float one below
100 products of channels a position (0.1 to 0.8 with 2 to 8 channels a group); from 128 on it is faster,
up to 2.8 times. A depthwise convolution has an integer kernel of its own.
"""

from __future__ import annotations

from quant_core.model.graph import FloatGraph, integer_attribute
from quant_core.model.layers import Layer
from quant_core.model.operators import RECURRENT_OPS

__all__ = ["slower_layer"]

_FEWEST_PRODUCTS = 100
"""Input times output channels of a group, from which on integers are at least about as fast."""
_RGB = 3
"""Of more channels than a picture has, those of one group are in the midst of a network, where a pair more costs more
than the kernel."""


def slower_layer(graph: FloatGraph, layer: Layer, form: str) -> str:
    """Return why a layer is slower in 8 bits than in float in a file of a form (`--format`); empty where it is not."""
    if layer.op not in RECURRENT_OPS:
        return _few_channels(graph, layer)
    if layer.op == "LSTM" and form == "dynamiclstm":
        return ""
    return f"{'a' if layer.op == 'GRU' else 'an'} {layer.op} between pairs"


def _few_channels(graph: FloatGraph, layer: Layer) -> str:
    """Return how few channels a convolution has that is slower for it; empty for other layers."""
    if layer.op != "Conv" or len(layer.weight_shape) < 3:
        return ""
    groups = integer_attribute(graph.nodes[layer.nodes[0]], "group", 1)
    read, written = layer.weight_shape[1], layer.weight_shape[0] // groups
    is_depthwise = read == written == 1
    if is_depthwise or read * written >= _FEWEST_PRODUCTS or (groups == 1 and read > _RGB):
        return ""
    return f"a Conv of {read} to {written} channels{' a group' if groups > 1 else ''}"
