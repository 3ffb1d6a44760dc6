#!/usr/bin/env bash
# Below opset 13 ONNX Runtime makes a file unloadable by itself: it gives a float bias a DequantizeLinear with an axis.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU, x86-64.
# Behaviour: a Conv or Gemm between Q/DQ pairs of the domain com.microsoft (which hold 16 bits, and a scale a channel, at
# any opset) may keep its bias in float. By default ONNX Runtime then quantizes the bias itself, behind a DequantizeLinear
# of the standard's domain with the attribute `axis`. That exists from opset 13 on; in a model of opset 12 the session
# ends with "Unrecognized attribute: axis for operator DequantizeLinear", naming a node that is not in the file. With
# optimisations off it opens, and with a bias in int32 behind a pair, or one scale for the weight, it does too.
# So: bring such a model to opset 13, or quantize its biases.
# Seen: opset 12 float bias refused (optimisations off: opened), int32 bias opened, one scale opened; opset 13 opened
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OFF, ALL = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL


def model(opset: int, in_codes: bool, by_channel: bool) -> bytes:
    scale = np.full(4, 0.01, np.float32) if by_channel else np.float32(0.01)
    constants = {"s": np.float32(0.05), "z": np.int8(0), "ws": scale, "wz": np.zeros_like(scale, np.int8)}
    constants["wq"] = np.random.default_rng(0).integers(-127, 128, (8, 4)).astype(np.int8)
    axis = {"axis": 1} if by_channel else {}
    pair = {"domain": "com.microsoft"}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **pair),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], **pair),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], **pair, **axis),
    ]
    if in_codes:
        constants |= {"bq": np.arange(4, dtype=np.int32), "bs": scale * np.float32(0.05)}
        constants["bz"] = np.zeros_like(scale, np.int32)
        nodes.append(helper.make_node("DequantizeLinear", ["bq", "bs", "bz"], ["b"], **pair, **({"axis": 0} if axis else {})))
    else:
        constants["b"] = np.ones(4, np.float32)
    nodes += [
        helper.make_node("Gemm", ["d", "w", "b"], ["g"], name="gemm"),
        helper.make_node("QuantizeLinear", ["g", "s", "z"], ["o"], **pair),
        helper.make_node("DequantizeLinear", ["o", "s", "z"], ["y"], **pair),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def opened(level, *form) -> str:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    try:
        session = ort.InferenceSession(model(*form), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        assert "Unrecognized attribute: axis for operator DequantizeLinear" in str(error), error
        return "refused"
    session.run(None, {"x": np.ones((2, 8), np.float32)})
    return "opened"


seen = {
    "opset 12, float bias": opened(ALL, 12, False, True),
    "opset 12, float bias, optimisations off": opened(OFF, 12, False, True),
    "opset 12, int32 bias": opened(ALL, 12, True, True),
    "opset 12, float bias, one scale": opened(ALL, 12, False, False),
    "opset 13, float bias": opened(ALL, 13, False, True),
}
for form, found in seen.items():
    print(f"{form}: {found}")
print("onnxruntime", ort.__version__, "onnx", onnx.__version__)
assert [*seen.values()] == ["refused", *["opened"] * 4], "it has changed"
PY
"$folder/venv/bin/python" "$folder/seen.py"
