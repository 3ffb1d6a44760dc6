"""A part of a written plan as a model, for runtimes that open files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core.latency.sections import Section, WrittenPlan

__all__ = ["section_model"]


def section_model(plan: WrittenPlan, section: Section, values: Mapping[str, NDArray[np.generic]]) -> onnx.ModelProto:
    """Return a section as a model; `values` are its inputs, whose shapes it declares.

    The batch stays open where the model's own is, for runtimes compile for that.
    """
    inputs = [_declared(plan, name, values[name]) for name in section.inputs]
    outputs = [onnx.helper.make_tensor_value_info(name, plan.element_type(name), None) for name in section.outputs]
    graph = onnx.helper.make_graph(list(section.nodes), "section", inputs, outputs, _constants(plan, section))
    model = onnx.ModelProto(ir_version=plan.graph.model.ir_version, graph=graph)
    model.opset_import.extend(plan.graph.model.opset_import)
    model.functions.extend(plan.graph.model.functions)
    return model


def _declared(plan: WrittenPlan, name: str, value: NDArray[np.generic]) -> onnx.ValueInfoProto:
    first = plan.graph.values[plan.graph.inputs[0]].type.tensor_type.shape.dim
    shape: list[int | str] = list(value.shape)
    if shape and first and first[0].dim_param:
        shape[0] = first[0].dim_param
    return onnx.helper.make_tensor_value_info(name, plan.element_type(name), shape)


def _constants(plan: WrittenPlan, section: Section) -> list[onnx.TensorProto]:
    read = dict.fromkeys(name for node in section.nodes for name in node.input)
    written = [
        onnx.numpy_helper.from_array(np.asarray(plan.constants[name], order="C"), name)
        for name in read
        if name in plan.constants
    ]
    kept = [name for name in read if name in plan.graph.initializers and name not in plan.constants]
    return [*written, *(onnx.numpy_helper.from_array(plan.graph.constant(name), name) for name in kept)]
