"""What ONNX Runtime's optimisations make of a model: constants and batch norms folded, decided branches in place."""

from __future__ import annotations

import heapq
from graphlib import TopologicalSorter
from pathlib import Path

import onnx
import onnxruntime as ort

from quant_core.model.graph import outer_names
from quant_core.model.sessions import session_options
from quant_core.model.stored_model import INLINE_BYTES

__all__ = ["OLDEST_IR_VERSION", "optimized_by_runtime", "restore_order"]

OLDEST_IR_VERSION = 4
"""The first in which constants need not be inputs."""


def optimized_by_runtime(
    proto: onnx.ModelProto,
    folder: Path,
    scratch: Path,
    optimize: bool = True,
    ir_version: int = OLDEST_IR_VERSION,
) -> onnx.ModelProto:
    """Return what ONNX Runtime's basic optimisations (or none) make of a model.

    Large constants are read from `folder`, and are in a file in `scratch` then.
    """
    options = session_options(folder=folder)
    if optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(scratch / "optimized.onnx")
    options.add_session_config_entry(f"{_OPTIMIZED}_file_name", "optimized.data")
    options.add_session_config_entry(f"{_OPTIMIZED}_min_size_in_bytes", str(INLINE_BYTES))
    plain = _without_listed_constants(proto, ir_version)
    ort.InferenceSession(plain.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(scratch / "optimized.onnx", load_external_data=False)


_OPTIMIZED = "session.optimized_model_external_initializers"


def _without_listed_constants(proto: onnx.ModelProto, ir_version: int) -> onnx.ModelProto:
    """The model with no initializer among its inputs: one that a caller might replace is never folded."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    plain = onnx.ModelProto()
    plain.CopyFrom(proto)
    del plain.graph.input[:]
    plain.graph.input.extend(value for value in proto.graph.input if value.name not in constants)
    plain.ir_version = max(plain.ir_version, ir_version)
    return plain


def restore_order(optimized: onnx.ModelProto, proto: onnx.ModelProto) -> None:
    """Bring nodes, which ONNX Runtime writes in an order of its own, into the order of the tensors in the model."""
    places = {name: place for place, node in enumerate(proto.graph.node) for name in node.output if name}
    nodes = list(optimized.graph.node)
    writer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    read = ([*node.input, *outer_names(node)] for node in nodes)
    sorter = TopologicalSorter(
        {index: {writer[name] for name in names if name in writer} for index, names in enumerate(read)}
    )
    sorter.prepare()
    ready: list[tuple[int, int]] = []
    del optimized.graph.node[:]
    while sorter:
        for index in sorter.get_ready():
            heapq.heappush(ready, (max(places.get(name, -1) for name in nodes[index].output), index))
        _, index = heapq.heappop(ready)
        optimized.graph.node.append(nodes[index])
        sorter.done(index)
