"""Models that cannot be prepared, and what their users are told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx

from quant_core.errors import InputError, first_line
from quant_core.model.graph import FloatGraph, nodes_inside
from quant_core.model.layers import Layer
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS

__all__ = ["no_layers", "one_line_on_faults", "refuse_float64", "refuse_infinite_weights"]


def no_layers(graph: FloatGraph, layer_ops: Sequence[str], source: str) -> InputError:
    """Return the error for a model without layers, which says where those are that cannot be reached, if any."""
    return InputError(
        f"{source}: has no layer to narrow: no {_named(layer_ops)} on float data{_inside_bodies(graph, layer_ops)}"
    )


@contextmanager
def one_line_on_faults(source: str) -> Iterator[None]:
    """Raise InputError for shapes that contradict each other, and for what does not run even on a first sample."""
    try:
        yield
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"{source}: its shapes or types contradict each other: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime") or isinstance(error, MemoryError):
            reason = first_line(error) if str(error).strip() else "it needs too much memory"
            raise InputError(f"{source}: ONNX Runtime cannot run it on a first sample: {reason}") from error
        raise


def refuse_infinite_weights(graph: FloatGraph, layers: Sequence[Layer], source: str) -> None:
    """Raise InputError for a weight that holds a NaN or an infinity."""
    for layer in layers:
        for weight in layer.weights:
            values = graph.constant(weight)
            if not np.isfinite([values.min(initial=0), values.max(initial=0)]).all():
                raise InputError(f"{source}: weight {weight!r} of layer {layer.name!r} holds a NaN or an infinity")


def _inside_bodies(graph: FloatGraph, layer_ops: Sequence[str]) -> str:
    """Return where layers are that cannot be reached, and what frees them."""
    found = {
        node.name: sum(inner.op_type in layer_ops for inner in nodes_inside(node))
        for node in graph.nodes
        if any(inner.op_type in layer_ops for inner in nodes_inside(node))
    }
    if not found:
        return ""
    listed = ", ".join(f"{count} in {name}" for name, count in found.items())
    choice = ", ".join(graph.inputs)
    return (
        f"; there are layers in bodies of If, Loop or Scan: {listed}. A branch is freed by fixing the input that "
        f"chooses it, with --set NAME=VALUE (inputs: {choice})"
    )


def _named(layer_ops: Sequence[str]) -> str:
    return "operator that is quantized" if set(COMPUTE_OPS) <= set(layer_ops) else ", ".join(layer_ops)


def refuse_float64(proto: onnx.ModelProto, source: str) -> None:
    """Raise InputError for layers in float64: all numbers here are in float32."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    declared = [*graph.input, *graph.value_info, *graph.output]
    kinds |= {value.name: value.type.tensor_type.elem_type for value in declared}
    read = {kinds.get(node.input[0]) for node in graph.node if node.op_type in DEFAULT_LAYER_OPS}
    if onnx.TensorProto.DOUBLE in read:
        raise InputError(f"{source}: its {', '.join(DEFAULT_LAYER_OPS)} compute in double; give the model in float32")
