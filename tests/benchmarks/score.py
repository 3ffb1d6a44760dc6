"""Scores a quantized model on its own, without any of narrowcast's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

LAYER_OPS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_MOVERS = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "MaxPool"}
_EIGHT_BITS = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4}


def outputs(model: Path, data: dict[str, np.ndarray], custom_ops: Path | None = None) -> np.ndarray:
    """First output of a model, with every optimisation off: over all data, or its whole batches if they are fixed."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if custom_ops:
        options.register_custom_ops_library(str(custom_ops))
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    first = session.get_inputs()[0].shape[0]
    batch, count = (first if isinstance(first, int) else 100), len(data[names[0]])
    if isinstance(first, int):
        count -= count % batch
    parts = [session.run(None, {n: data[n][i : i + batch] for n in names})[0] for i in range(0, count, batch)]
    return np.concatenate(parts).astype(np.float64)


def distances(float_model: Path, model: Path, data: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean L2 to the float outputs, and both top-1 accuracies where there are labels."""
    reference, found = outputs(float_model, data), outputs(model, data)
    count = len(reference)
    result = {"l2": float(np.linalg.norm((found - reference).reshape(count, -1), axis=1).mean())}
    if "labels" in data:
        labels = data["labels"][:count]
        result["float_top1"] = float((reference.argmax(1) == labels).mean())
        result["top1"] = float((found.argmax(1) == labels).mean())
    return result


def narrowed(model: Path) -> tuple[int, int, float]:
    """Layers that read 8 bits or fewer, all layers, and the narrow layers' share of multiply-accumulates."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(model)).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    shapes = {
        value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.value_info, *graph.output]
    }
    macs: dict[str, int] = {}
    narrow: set[str] = set()
    for node in graph.node:
        if node.op_type not in LAYER_OPS:
            continue
        source = producer.get(node.input[1])
        stored = constants.get(source.input[0] if source is not None else node.input[1])
        dims = list(stored.dims) if stored is not None else []
        inner = int(np.prod(dims[1:])) if "Conv" in node.op_type else (dims[0] if dims else 1)
        if any(entry.name == "transB" and entry.i for entry in node.attribute):
            inner = dims[1]
        macs[node.name] = inner * int(np.prod(shapes.get(node.output[0], [1])[1:]))
        pair = producer.get(node.input[0])
        while pair is not None and pair.op_type in _MOVERS:
            pair = producer.get(pair.input[0])
        if pair is not None and "Dequantize" in pair.op_type and constants[pair.input[2]].data_type in _EIGHT_BITS:
            narrow.add(node.name)
    return len(narrow), len(macs), sum(macs[name] for name in narrow) / max(sum(macs.values()), 1)
