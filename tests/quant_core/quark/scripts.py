"""Runs Quark's scripts on a tiny model, and reads types and codes off what comes out."""

from __future__ import annotations

import numpy as np
import onnx

from quant_core.quark import (
    CalibrationDataReader,
    Config,
    ModelQuantizer,
    QuantizationConfig,
    QuantType,
    VitisQuantType,
)
from tests.models import MODELS, samples

__all__ = ["MODEL", "Reader", "auto", "constants", "narrowed", "quantized", "types", "weight_types"]

MODEL = MODELS["residual"]()


class Reader(CalibrationDataReader):
    """Items of three samples, of which the last may have fewer."""

    def __init__(self, count: int = 11, model: onnx.ModelProto = MODEL) -> None:
        values = {name: array[:count] for name, array in samples(model, 11, 1).items()}
        self.items = iter([{name: array[at : at + 3] for name, array in values.items()} for at in range(0, count, 3)])

    def get_next(self):
        return next(self.items, None)


def quantized(model: onnx.ModelProto = MODEL, count: int = 11, **fields) -> onnx.ModelProto:
    """What a script makes of a model."""
    given = {"print_summary": False, "include_cle": False} | fields
    return ModelQuantizer(Config(QuantizationConfig(**given))).quantize_model(model, None, Reader(count, model))


def auto(model: onnx.ModelProto = MODEL, fields: dict | None = None, **options) -> onnx.ModelProto:
    """What automatic mixed precision makes of a model; layers that share their input are not left out."""
    mix = {"ActTargetQuantType": QuantType.QInt8, "NoInputQDQShared": False} | options
    given = {"activation_type": VitisQuantType.QInt16, "include_auto_mp": True} | (fields or {})
    extra = {"AutoMixprecision": mix} | given.pop("extra_options", {})
    return quantized(model, **given, extra_options=extra)


def types(model: onnx.ModelProto) -> dict[str, set[str]]:
    """Types of the pairs of each activation, by its name in the float model."""
    zeros = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer}
    found: dict[str, set[str]] = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            found.setdefault(node.output[0].split("/")[0], set()).add(zeros[node.input[2]])
    return found


def narrowed(model: onnx.ModelProto) -> set[str]:
    """Activations with a pair in int8."""
    return {name for name, kinds in types(model).items() if "INT8" in kinds}


def weight_types(model: onnx.ModelProto) -> dict[str, str]:
    """Types of weights, by name, and of biases, by `NODE/bias`."""
    codes = {tensor.name: tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith("/codes")}
    kinds = {name: onnx.TensorProto.DataType.Name(kind) for name, kind in codes.items()}
    return {name.removesuffix("/codes").rpartition("/")[0]: kind for name, kind in kinds.items()}


def constants(model: onnx.ModelProto, ending: str) -> dict[str, np.ndarray]:
    """Constants whose name has an ending, by what is before it."""
    return {
        tensor.name.removesuffix(ending): onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.endswith(ending)
    }
