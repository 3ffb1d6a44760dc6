#!/usr/bin/env bash
# A default ONNX Runtime session loses the float bias of a quantized Conv whose channel has a tiny weight scale.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU, x86-64.
# Behaviour: where a Conv reads an 8-bit pair and weights in codes, and its bias is stored as float32, the session's
# optimiser makes int32 of the bias, at the scale of input times weight. For a channel of tiny weights (a batch norm
# folded into a dead channel) the bias divided by that scale leaves 32 bits, and the bias becomes 0, without a word. With
# all optimisations off it is added as it is. So: a writer of float biases has to keep scales of weights large enough for
# the int32 that nobody wrote.
# Seen (channel with scale 1e-14 and bias 1.7): all optimisations off 1.7, default session 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
constants = {
    "s": np.float32(0.02), "t": np.float32(0.1), "z": np.int8(0),
    "codes": rng.integers(-127, 128, (2, 4, 3, 3)).astype(np.int8),
    "scales": np.array([0.01, 1e-14], np.float32), "zeros": np.zeros(2, np.int8), "b": np.array([0.5, 1.7], np.float32),
}
nodes = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], axis=0),
    helper.make_node("Conv", ["d", "w", "b"], ["c"]),
    helper.make_node("QuantizeLinear", ["c", "t", "z"], ["p"]),
    helper.make_node("DequantizeLinear", ["p", "t", "z"], ["y"]),
]
value = helper.make_tensor_value_info
graph = helper.make_graph(
    nodes, "g", [value("x", TensorProto.FLOAT, ["N", 4, 8, 8])], [value("y", TensorProto.FLOAT, ["N", 2, 6, 6])],
    [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
)
made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.checker.check_model(made, full_check=True)
x, found = rng.normal(size=(1, 4, 8, 8)).astype(np.float32), []
for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found.append(float(session.run(None, {"x": x})[0][0, 1, 0, 0]))
print("onnxruntime", ort.__version__, "onnx", onnx.__version__, "numpy", np.__version__)
print(f"all optimisations off {found[0]:.1f}, default session {found[1]:.1f}")
sys.exit("this has changed" if abs(found[0] - 1.7) > 0.01 or abs(found[1]) > 0.01 else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py"
