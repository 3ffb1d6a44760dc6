"""Layers that ONNX Runtime's CPU kernels run more slowly in 8 bits than in float."""

from __future__ import annotations

from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import RECURRENT_OPS
from quant_core.runtimes.few_channels import few_channels

__all__ = ["slower_layer"]


def slower_layer(graph: FloatGraph, layer: Layer, form: str) -> str:
    """Return why a layer is slower in 8 bits than in float in a file of a form; empty where it is not.

    A recurrent layer between pairs is computed in float, and its weights are dequantized on every run: measured at
    1.32, it takes 1.2 to 2.3 times as long as in float, and an LSTM as DynamicQuantizeLSTM 0.29 to 0.91 times.
    """
    if layer.op not in RECURRENT_OPS:
        return few_channels(graph, layer)
    if layer.op == "LSTM" and form == "dynamiclstm":
        return ""
    return f"{'a' if layer.op == 'GRU' else 'an'} {layer.op} between pairs"
