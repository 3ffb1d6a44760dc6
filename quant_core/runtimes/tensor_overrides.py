"""The overrides by which ONNX Runtime's own quantizer gives tensors the same types and scales.

`read_tensor_overrides` reads the file as the quantizer takes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quant_core.runtimes.encoded_tensors import EncodedTensor

__all__ = ["read_tensor_overrides", "tensor_overrides"]


def tensor_overrides(tensors: Mapping[str, Sequence[EncodedTensor]]) -> dict[str, object]:
    """Return the overrides of tensors as JSON, with the names of types for the types.

    A tensor that is held in two ways is written the wide way, and converted for the nodes that read it the other way.
    """
    return {name: _overrides(*ways) for name, ways in tensors.items()}


def _overrides(wide: EncodedTensor, *narrower: EncodedTensor) -> list[dict[str, object]]:
    channels: list[dict[str, object]] = [_way(wide, at) for at in range(len(wide.scale))]
    if wide.axis is not None:
        channels = [{**channel, "axis": wide.axis} for channel in channels]
    elif narrower and not wide.is_weight:
        channels[0]["convert"] = {**_way(narrower[0], 0), "recv_nodes": list(narrower[0].readers)}
    return channels


def _way(tensor: EncodedTensor, channel: int) -> dict[str, object]:
    return {
        "quant_type": f"Q{'Int' if tensor.kind.signed else 'UInt'}{tensor.kind.bits}",
        "scale": float(tensor.scale[channel]),
        "zero_point": int(tensor.zero_point[channel]),
    }


def read_tensor_overrides(
    file: str | os.PathLike[str], model: str | os.PathLike[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the overrides in a file as ONNX Runtime takes them (`extra_options["TensorQuantOverrides"]`).

    Tensors that the float `model` has not got are left out: weights, say, into which a batch norm was folded.
    """
    graph = onnx.load(model, load_external_data=False).graph
    known = {tensor.name for tensor in (*graph.input, *graph.initializer)}
    known |= {name for node in graph.node for name in node.output}
    found = json.loads(Path(file).read_text(encoding="utf-8"))
    return {name: [_typed(channel) for channel in channels] for name, channels in found.items() if name in known}


def _typed(channel: Mapping[str, Any]) -> dict[str, Any]:
    from onnxruntime.quantization import QuantType

    kind = QuantType[channel["quant_type"]]
    typed = {
        **channel,
        "quant_type": kind,
        "scale": np.array(channel["scale"], np.float32),
        "zero_point": np.array(channel["zero_point"], onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type)),
    }
    if "convert" in channel:
        typed["convert"] = {**_typed(channel["convert"]), "recv_nodes": set(channel["convert"]["recv_nodes"])}
    return typed
