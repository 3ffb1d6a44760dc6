#!/usr/bin/env bash
# onnx's own reference gives +infinity the lowest code, not the highest, and has no DequantizeLinear before opset 19.
#
# Versions: onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6; CPU, x86-64 (what does not fit 32 bits is the processor's affair).
# Behaviour: the standard says that QuantizeLinear saturates. onnx.reference.ReferenceEvaluator goes through 32-bit integers
# first, so that whatever is 2^31 steps or more above 0 (an infinity of a mask, 1e9 at a step of 0.1) comes out as the lowest
# code: a pair turns the largest value into the smallest. Below 0 the same overflow ends at the lowest code, which is right.
# ONNX Runtime saturates on both sides. At opsets 13 to 18, which most quantized models have, the evaluator knows
# QuantizeLinear and no DequantizeLinear, and refuses the model.
# So: check a quantized model against ONNX Runtime with optimizations off; the evaluator serves from opset 19 on, for small
# values.
# Seen (int8, scale 0.1, what a pair makes of 3, 1e9, infinity and -infinity):
#   onnxruntime         3.0  12.7  12.7 -12.8
#   reference           3.0 -12.8 -12.8 -12.8
#   reference, opset 17: No implementation for operator 'DequantizeLinear'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

warnings.simplefilter("ignore")
X = np.array([3, 1e9, np.inf, -np.inf], np.float32)


def pair(opset):
    constants = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.array(0, np.int8), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])], constants
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def refused(model):
    try:
        ReferenceEvaluator(model).run(None, {"x": X})
    except RuntimeError as error:
        return "No implementation for operator 'DequantizeLinear'" in str(error)
    return False


print("onnx", onnx.__version__, "onnxruntime", ort.__version__, "numpy", np.__version__)
runtime = ort.InferenceSession(pair(19).SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]
reference = ReferenceEvaluator(pair(19)).run(None, {"x": X})[0]
print("onnxruntime", *(f"{value:6.1f}" for value in runtime))
print("reference  ", *(f"{value:6.1f}" for value in reference))
older = [opset for opset in range(13, 19) if refused(pair(opset))]
print("refused by the reference at opsets", *older)
as_seen = np.allclose(runtime, [3, 12.7, 12.7, -12.8]) and np.allclose(reference, [3, -12.8, -12.8, -12.8])
sys.exit("this has changed" if not as_seen or older != list(range(13, 19)) else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py"
