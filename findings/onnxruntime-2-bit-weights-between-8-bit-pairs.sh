#!/usr/bin/env bash
# A default ONNX Runtime session refuses a Conv or MatMul with 2-bit weights between 8-bit Q/DQ pairs; 4 bits it opens.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6, ml_dtypes 0.5.4; CPU, x86-64.
# Behaviour: opset 25 gives DequantizeLinear the types int2 and uint2, and ONNX Runtime has kernels for them. Where a Conv
# or a MatMul stands between 8-bit pairs, its optimiser makes one QLinearConv or QLinearMatMul of the whole, with the
# 2-bit codes as they are. These operators take weights of 8 bits alone, and the session raises INVALID_GRAPH. With all
# optimisations off the same file runs. 4-bit codes are left alone or widened, a Gemm is not fused, and beside 16-bit
# activations nothing is. So: 2-bit weights go beside 16-bit or float activations; the file is as small.
# Seen: Conv int2 refused, int4 opened; MatMul int2 refused, int4 opened; Gemm int2 opened, int4 opened; each of them
# opened with optimisations off, and with 16-bit pairs
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 ml_dtypes==0.5.4
cat > "$folder/seen.py" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

OFF, ALL = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
rng = np.random.default_rng(0)


def model(operator, weights, activations):
    convolves = operator == "Conv"
    shape, given = ((8, 8, 1, 1), [1, 8, 4, 4]) if convolves else ((8, 8), [4, 8])
    codes = rng.integers(-2, 2, shape).ravel().tolist()
    constants = [
        helper.make_tensor("codes", getattr(TensorProto, weights), shape, codes),
        helper.make_tensor("scales", TensorProto.FLOAT, [8], [0.1] * 8),
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.05]),
        helper.make_tensor("t", TensorProto.FLOAT, [], [0.07]),
        helper.make_tensor("z", getattr(TensorProto, activations), [], [0]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["codes", "scales"], ["w"], axis=0 if convolves else 1),
        helper.make_node(operator, ["d", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "t", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "t", "z"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, given)], [value("y", TensorProto.FLOAT, given)], constants
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def opens(operator, weights, activations="INT8", level=ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    try:
        ort.InferenceSession(model(operator, weights, activations), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "INVALID_GRAPH" not in str(error):
            raise
        return False
    return True


print("onnxruntime", ort.__version__, "onnx", onnx.__version__, "numpy", np.__version__)
operators = ("Conv", "MatMul", "Gemm")
seen = {name: (opens(name, "INT2"), opens(name, "INT4")) for name in operators}
told = {True: "opened", False: "refused"}
print("; ".join(f"{name} int2 {told[two]}, int4 {told[four]}" for name, (two, four) in seen.items()))
others = [opens(name, "INT2", level=OFF) for name in operators] + [opens(name, "INT2", "INT16") for name in operators]
print("with optimisations off, and with 16-bit pairs:", "all opened" if all(others) else "not all opened")
expected = {"Conv": (False, True), "MatMul": (False, True), "Gemm": (True, True)}
sys.exit("this has changed" if seen != expected or not all(others) else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py"
