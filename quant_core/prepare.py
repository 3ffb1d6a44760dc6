"""Makes the float model ready: batch norms folded, constants folded, shapes inferred, opset new enough."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime as ort
import pyarrow as pa
from google.protobuf.message import DecodeError

from quant_core.errors import InputError
from quant_core.graph import FloatGraph
from quant_core.layers import find_layers, layer_table
from quant_core.machine import Machine
from quant_core.references import Reference, atomic_folder, fetch, file_digest
from quant_core.tables import facts, with_facts

__all__ = ["OPSET", "is_prepared", "prepare", "prepared_graph"]

OPSET = 21
"""The first opset in which QuantizeLinear and DequantizeLinear take 16-bit types."""

_IR_VERSION = 10  # the one that came with opset 21
_QUANTIZED_OPS = frozenset(
    ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"]
)


def prepare(model: Reference, layer_ops: Sequence[str], machine: Machine) -> pa.Table:
    """Write the prepared model to the cache and return its layer table (schema LAYERS).

    The table's facts hold `prepared`, the digest of the prepared file (see `prepared_graph`). Raises
    InputError when the file is no float ONNX model or has nothing to narrow.
    """
    cache = machine.cache
    path = fetch(model, cache)
    proto = _load(path, model.url)
    _refuse_quantized(proto, model.url)
    with tempfile.TemporaryDirectory(dir=_made(cache)) as scratch:
        prepared = _optimized(_upgraded(proto, model.url), Path(scratch), model.url)
        _name_nodes(prepared)
        prepared = onnx.shape_inference.infer_shapes(prepared, data_prop=True)
        written = Path(scratch) / "model.onnx"
        written.write_bytes(prepared.SerializeToString(deterministic=True))
        digest = file_digest(written)
        with atomic_folder(cache / "prepared" / digest) as folder:
            written.rename(folder / "model.onnx")
    graph = prepared_graph(digest, cache)
    layers = find_layers(graph, layer_ops)
    if not layers:
        raise InputError(f"{model.url}: has no layer to narrow: no {', '.join(layer_ops)} on float data")
    return with_facts(layer_table(layers), prepared=digest)


def prepared_graph(digest: str, cache: Path) -> FloatGraph:
    """The prepared model with that digest."""
    return FloatGraph.load(cache / "prepared" / digest / "model.onnx")


def is_prepared(table: pa.Table, cache: Path) -> bool:
    """Whether the file a layer table was read from is still in the cache, unchanged."""
    digest: str = facts(table)["prepared"]
    path = cache / "prepared" / digest / "model.onnx"
    return path.exists() and file_digest(path) == digest


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _load(path: Path, source: str) -> onnx.ModelProto:
    try:
        proto = onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"{source}: not an ONNX model: {error}") from error
    if not proto.graph.node or not proto.opset_import:
        raise InputError(f"{source}: not an ONNX model: it holds no graph")
    return proto


def _refuse_quantized(proto: onnx.ModelProto, source: str) -> None:
    found = Counter(
        node.op_type
        for node in proto.graph.node
        if node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear")
    )
    if found:
        listed = ", ".join(f"{count} {op}" for op, count in found.items())
        raise InputError(f"{source}: already quantized ({listed}); give the float model it was made from")


def _upgraded(proto: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """The model at OPSET or newer."""
    version = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    if version >= OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the converter raises bare RuntimeErrors from C++
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{source}: cannot be converted from opset {version} to {OPSET}: {reason}") from error


def _optimized(proto: onnx.ModelProto, scratch: Path, source: str) -> onnx.ModelProto:
    """What ONNX Runtime's basic optimisations make of the model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(scratch / "optimized.onnx")
    options.log_severity_level = 4
    try:
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        raise InputError(f"{source}: ONNX Runtime cannot run it: {str(error).strip().splitlines()[0]}") from error
    optimized = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in optimized.graph.node} | {""}
    kept = [entry for entry in optimized.opset_import if entry.domain in used]
    del optimized.opset_import[:]
    optimized.opset_import.extend(kept)
    optimized.ir_version = max(optimized.ir_version, _IR_VERSION)
    return optimized


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own: a plan refers to layers by name."""
    taken: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        node.name = name if name not in taken else f"{name}_{index}"
        taken.add(node.name)
