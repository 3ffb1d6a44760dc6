"""Makes the float model ready: batch norms folded, constants folded, types inferred, opset new enough."""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime as ort
import pyarrow as pa
from google.protobuf.message import DecodeError

from quant_core.errors import InputError, UnsupportedError
from quant_core.graph import FloatGraph
from quant_core.layers import find_layers, layer_table
from quant_core.machine import Machine
from quant_core.opset import OPSET, RUNTIME_DOMAIN, opset_of, upgraded
from quant_core.references import Reference, atomic_folder, fetch, file_digest
from quant_core.sessions import session_options
from quant_core.tables import facts, with_facts

__all__ = ["is_prepared", "prepare", "prepared_graph"]

_LARGEST = 2**31 - 2**20  # what protobuf can serialize, less what the nodes take
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
        prepared = _optimized(proto, Path(scratch), model.url)
        _write_constant_outputs(prepared)
        _name_nodes(prepared)
        prepared = _inferred(prepared)
        written = Path(scratch) / "model.onnx"
        written.write_bytes(prepared.SerializeToString(deterministic=True))
        digest = file_digest(written)
        with atomic_folder(cache / "prepared" / digest) as folder:
            written.rename(folder / "model.onnx")
    graph = prepared_graph(digest, cache)
    layers = find_layers(graph, layer_ops)
    if not layers:
        raise InputError(f"{model.url}: has no layer to narrow: {_why_no_layer(graph, layer_ops)}")
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
        proto = onnx.load(path, load_external_data=False)
        size = sum(_external_bytes(tensor) for tensor in proto.graph.initializer)
        if size > _LARGEST:
            raise UnsupportedError(
                f"{source}: holds {size / 2**30:.1f} GiB of constants; 2 GiB is the most there can be"
            )
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"{source}: not an ONNX model: {error}") from error
    if not proto.graph.node or not proto.opset_import:
        raise InputError(f"{source}: not an ONNX model: it holds no graph")
    return proto


def _external_bytes(tensor: onnx.TensorProto) -> int:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return 0
    return int(math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _refuse_quantized(proto: onnx.ModelProto, source: str) -> None:
    found = Counter(
        node.op_type
        for node in proto.graph.node
        if node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear")
    )
    if found:
        listed = ", ".join(f"{count} {op}" for op, count in found.items())
        raise InputError(f"{source}: already quantized ({listed}); give the float model it was made from")


def _optimized(proto: onnx.ModelProto, scratch: Path, source: str) -> onnx.ModelProto:
    """What ONNX Runtime's basic optimisations make of the model, at a newer opset where that works."""
    failure = None
    for candidate in (upgraded(proto), proto):
        try:
            optimized = _basic_optimisations(candidate, scratch / "optimized.onnx")
            break
        except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
            failure = error
    else:
        reason = str(failure).strip().splitlines()[0]
        raise InputError(f"{source}: ONNX Runtime cannot run it: {reason}") from failure
    _declare_domains(optimized)
    optimized.ir_version = max(optimized.ir_version, _IR_VERSION)
    return optimized


def _basic_optimisations(proto: onnx.ModelProto, written: Path) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(written)
    options.log_severity_level = 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(written)


def _declare_domains(proto: onnx.ModelProto) -> None:
    """Import the domains the nodes and the pairs to come are of, instead of all that ONNX Runtime knows."""
    version, used = opset_of(proto), {node.domain for node in proto.graph.node} | {""}
    kept = [entry for entry in proto.opset_import if entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    if version < OPSET and RUNTIME_DOMAIN not in used:
        proto.opset_import.add(domain=RUNTIME_DOMAIN, version=1)


def _write_constant_outputs(proto: onnx.ModelProto) -> None:
    """Give every output that is a constant a node that writes it, as all other outputs have."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name in [value.name for value in proto.graph.output if value.name in constants]:
        constants[name].name = f"{name}/constant"
        for node in proto.graph.node:
            node.input[:] = [f"{name}/constant" if read == name else read for read in node.input]
        proto.graph.node.append(onnx.helper.make_node("Identity", [f"{name}/constant"], [name]))


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every tensor's type: ONNX's inference, and ONNX Runtime's for what that cannot tell."""
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    known = {value.name for value in [*proto.graph.value_info, *proto.graph.output]}
    unknown = [name for node in proto.graph.node for name in node.output if name and name not in known]
    if unknown:
        asked = onnx.ModelProto()
        asked.CopyFrom(proto)
        asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
        session = ort.InferenceSession(asked.SerializeToString(), session_options())
        found = [value for value in session.get_outputs() if value.name in set(unknown)]
        proto.graph.value_info.extend(filter(None, map(_declared, found)))
    return proto


def _declared(value: ort.NodeArg) -> onnx.ValueInfoProto | None:
    """ONNX's declaration of what ONNX Runtime inferred; None for what is no tensor."""
    kind = re.fullmatch(r"tensor\((\w+)\)", value.type)
    if kind is None:
        return None
    return onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.DataType.Value(kind[1].upper()), value.shape)


def _why_no_layer(graph: FloatGraph, layer_ops: Sequence[str]) -> str:
    """What the model has instead of a layer on float32 data."""
    read = [graph.element_type(node.input[0]) for node in graph.nodes if node.op_type in layer_ops]
    if not read:
        return f"no {', '.join(layer_ops)} at all"
    kinds = sorted({onnx.TensorProto.DataType.Name(kind).lower() for kind in read})
    return f"its {', '.join(layer_ops)} compute in {', '.join(kinds)}; give the model in float32"


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own: a plan refers to layers by name."""
    taken: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        node.name = name if name not in taken else f"{name}_{index}"
        taken.add(node.name)
