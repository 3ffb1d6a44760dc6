"""The type and shape of every tensor of a model, as far as they can be inferred."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import onnxruntime as ort

from quant_core.model.sessions import session_options

__all__ = ["with_inferred_types"]


def with_inferred_types(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return the model with every tensor's type: by ONNX's inference, else by ONNX Runtime's.

    `folder` is where constants are that the model keeps outside itself.
    """
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    known = {value.name for value in [*proto.graph.value_info, *proto.graph.output]}
    unknown = [name for node in proto.graph.node for name in node.output if name and name not in known]
    if unknown:
        asked = onnx.ModelProto()
        asked.CopyFrom(proto)
        asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
        session = ort.InferenceSession(asked.SerializeToString(), session_options(folder=folder))
        found = [value for value in session.get_outputs() if value.name in set(unknown)]
        proto.graph.value_info.extend(filter(None, map(_declared, found)))
    return proto


def _declared(value: ort.NodeArg) -> onnx.ValueInfoProto | None:
    """Return ONNX's declaration of what ONNX Runtime inferred; None for what is not a tensor."""
    kind = re.fullmatch(r"tensor\((\w+)\)", value.type)
    if kind is None:
        return None
    shape = value.shape or None  # it has none of a tensor of unknown rank, either
    return onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.DataType.Value(kind[1].upper()), shape)
