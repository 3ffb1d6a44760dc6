#!/usr/bin/env bash
# ONNX Runtime's converter for phones stops at a quantized Conv whose zero points of 0 are left out, as the standard allows.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU, x86-64.
# Behaviour: DequantizeLinear's third input is optional, and 0 where it is missing. A Conv between 8-bit pairs whose weight or
# bias has none opens and gives the right numbers in a default session. Saved in ONNX Runtime's own format with optimizations
# for run time (what convert_onnx_models_to_ort does too, unless --optimization_style Fixed is said) it ends with "The sum of
# input arg count is not equal to size of input defs". With both zero points written the same model is saved. A Gemm minds the
# bias alone, and only where its weight has a zero point.
# So: write the zero points of weights and of int32 biases, though they are 0.
# Seen (0: there, -: left out):
#   Conv  weight -, bias -: stops    weight 0, bias -: stops    weight -, bias 0: stops    weight 0, bias 0: saved
#   Gemm  weight -, bias -: saved    weight 0, bias -: stops    weight -, bias 0: saved    weight 0, bias 0: saved
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)


def model(operator, weight_zero, bias_zero):
    shape, given, result = ((8, 8, 1, 1), [1, 8, 4, 4], [1, 8, 4, 4]) if operator == "Conv" else ((32, 8), [2, 32], [2, 8])
    constants = {
        "codes": rng.integers(-60, 60, shape).astype(np.int8),
        "scale": np.float32(0.01),
        "bias": rng.integers(-99, 99, 8).astype(np.int32),
        "product": np.float32(0.0005),
        "s": np.float32(0.05),
        "z": np.uint8(128),
    }
    constants |= {"zero8": np.int8(0)} if weight_zero else {}
    constants |= {"zero32": np.int32(0)} if bias_zero else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", *["zero8"] * weight_zero], ["w"]),
        helper.make_node("DequantizeLinear", ["bias", "product", *["zero32"] * bias_zero], ["b"]),
        helper.make_node(operator, ["d", "w", "b"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    value, given_as = helper.make_tensor_value_info, TensorProto.FLOAT
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [value("x", given_as, given)], [value("y", given_as, result)], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def is_saved(content):
    ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("optimization.minimal_build_optimizations", "save")
    with tempfile.TemporaryDirectory() as name:
        options.optimized_model_filepath = str(Path(name, "model.ort"))
        try:
            ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if "sum of input arg count is not equal" not in str(error):
                raise
            return False
        ort.InferenceSession(options.optimized_model_filepath, providers=["CPUExecutionProvider"])
    return True


print("onnxruntime", ort.__version__, "onnx", onnx.__version__, "numpy", np.__version__)
found = {}
for operator in ("Conv", "Gemm"):
    for bias_zero, weight_zero in itertools.product((False, True), repeat=2):
        found[operator, weight_zero, bias_zero] = is_saved(model(operator, weight_zero, bias_zero))
        zeros = f"weight {'0' if weight_zero else '-'}, bias {'0' if bias_zero else '-'}"
        print(f"{operator}  {zeros}: {'saved' if found[operator, weight_zero, bias_zero] else 'stops'}")
stops = {case for case, saved in found.items() if not saved}
expected = {("Conv", False, False), ("Conv", True, False), ("Conv", False, True), ("Gemm", True, False)}
sys.exit("this has changed" if stops != expected else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py"
