#!/usr/bin/env bash
# In ONNX Runtime a Conv with a Relu behind it runs in float between symmetric int8 pairs, though both are 8 bits wide.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU, x86-64.
# Behaviour: a Relu in front of a QuantizeLinear is taken away where the pair clips at 0 by itself, which is where 0 is
# its lowest code (int8 with zero point -128, uint8 with 0). With int8 and zero point 0, what "symmetric" means and what
# many NPUs ask for, the Relu stays, is fused with the Conv, and the Conv is a float FusedConv between its pairs: no
# integer kernel. Without a Relu the same pairs give a QLinearConv.
# So: a symmetric int8 model of Conv and Relu gains nothing on a CPU; int8 with zero point -128 behind each Relu does.
# Seen (what the Conv is in the optimised model):
#   Conv, Relu  int8  zero point    0: FusedConv
#   Conv, Relu  int8  zero point -128: QLinearConv
#   Conv, Relu  uint8 zero point    0: QLinearConv
#   Conv        int8  zero point    0: QLinearConv
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


def model(relu: bool, kind: type, zero: int) -> onnx.ModelProto:
    constants = {
        "s": np.float32(0.05), "z": kind(zero), "s0": np.float32(0.05), "z0": kind(0 if kind is np.int8 else 128),
        "w": np.random.default_rng(0).integers(-60, 60, (8, 4, 3, 3)).astype(np.int8),
        "ws": np.float32(0.01), "wz": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s0", "z0"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s0", "z0"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["v"]),
        helper.make_node("Conv", ["d", "v"], ["c"]),
        *([helper.make_node("Relu", ["c"], ["r"])] if relu else []),
        helper.make_node("QuantizeLinear", ["r" if relu else "c", "s", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 8, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def kernel(made: onnx.ModelProto) -> str:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = sys.argv[1]
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return ", ".join(node.op_type for node in onnx.load(sys.argv[1]).graph.node if "Conv" in node.op_type)


seen = {}
for relu, kind, zero in ((True, np.int8, 0), (True, np.int8, -128), (True, np.uint8, 0), (False, np.int8, 0)):
    seen[relu, kind, zero] = kernel(model(relu, kind, zero))
    text = f"{'Conv, Relu' if relu else 'Conv':<11} {kind.__name__:<5} zero point {zero:4}"
    print(f"{text}: {seen[relu, kind, zero]}")
print("onnxruntime", ort.__version__, "onnx", onnx.__version__)
assert list(seen.values()) == ["FusedConv", "QLinearConv", "QLinearConv", "QLinearConv"], "it has changed"
PY
"$folder/venv/bin/python" "$folder/seen.py" "$folder/optimized.onnx"
