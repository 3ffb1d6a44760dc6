#!/usr/bin/env bash
# OpenVINO rounds after it has added the zero point: where that is odd, a value between two codes goes to the other one.
#
# Versions: openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU, x86-64.
# Behaviour: the standard's QuantizeLinear rounds x / scale to the nearest integer, halves to the even one, and adds the zero
# point to that. OpenVINO makes a FakeQuantize of a pair, which rounds x / scale + zero point: halves go to the even code, and
# with an odd zero point that is the odd quotient. ONNX Runtime does as the standard says. Halves are no rarity where scales are
# powers of two and data are integers (pixels, counts), or sums of what was quantized before.
# So: to compare codes between the two, take even zero points; narrowcast scores in the runtime that the file is for.
# Seen (scale 1, x = -2.5, -1.5, -0.5, 0.5, 1.5, 2.5; what a pair gives):
#   int8  zero point   0   onnxruntime -2 -2  0  0  2  2   openvino -2 -2  0  0  2  2
#   int8  zero point   5   onnxruntime -2 -2  0  0  2  2   openvino -3 -1 -1  1  1  3
#   uint8 zero point 128   onnxruntime -2 -2  0  0  2  2   openvino -2 -2  0  0  2  2
#   uint8 zero point 127   onnxruntime -2 -2  0  0  2  2   openvino -3 -1 -1  1  1  3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import openvino
from onnx import TensorProto, helper

X = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
EVEN, ODD = [-2, -2, 0, 0, 2, 2], [-3, -1, -1, 1, 1, 3]


def pair(kind, zero):
    constants = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("z", getattr(TensorProto, kind), [], [zero]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [6])], [value("y", TensorProto.FLOAT, [6])], constants
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def given(kind, zero):
    made = pair(kind, zero)
    runtime = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]
    with tempfile.TemporaryDirectory() as name:
        onnx.save(made, Path(name, "model.onnx"))
        compiled = openvino.Core().compile_model(str(Path(name, "model.onnx")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        other = list(compiled({"x": X}).values())[0]
    return [round(float(value)) for value in runtime], [round(float(value)) for value in other]


print("openvino", openvino.__version__.split("-")[0], "onnxruntime", ort.__version__, "numpy", np.__version__)
expected = {("INT8", 0): EVEN, ("INT8", 5): ODD, ("UINT8", 128): EVEN, ("UINT8", 127): ODD}
found = {case: given(*case) for case in expected}
for (kind, zero), (runtime, other) in found.items():
    told = "   ".join(f"{name} {' '.join(f'{code:2}' for code in codes)}" for name, codes in (("onnxruntime", runtime), ("openvino", other)))
    print(f"{kind.lower():5} zero point {zero:3}   {told}")
sys.exit("this has changed" if found != {case: (EVEN, other) for case, other in expected.items()} else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py"
