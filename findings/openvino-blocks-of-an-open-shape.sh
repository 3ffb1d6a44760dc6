#!/usr/bin/env bash
# OpenVINO dequantizes blocks only where every dimension is known: looking rows of codes up for an open batch is refused.
#
# Versions: openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU.
# Behaviour: an embedding held in int8 with a scale a row is small and fast if a Gather looks up codes, another their scales, and
# a DequantizeLinear with the row as its block follows. With the number of ids fixed OpenVINO runs that, scales computed or
# not. With that number open, as of any model with a batch or a text length, compiling ends with "DequantizeLinear cannot
# operate with dynamic shapes of input X". Along an axis (opset 13's scale a row, one dimension of ids) it takes the open shape.
# So: for OpenVINO dequantize the constant table, and look rows up behind that.
# Seen:
#   2 ids, rows as blocks: runs    N ids, rows as blocks: refused    N ids, scales along the axis: runs
#   N ids, behind a dequantized table: runs
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
from onnx import TensorProto, helper, numpy_helper

CODES = np.arange(-32, 32).reshape(8, 8).astype(np.int8)
SCALES = np.linspace(0.1, 0.8, 8).astype(np.float32)
IDS = np.array([1, 3])


def looked_up(form):
    make = helper.make_node
    codes, scales = make("Gather", ["codes", "ids"], ["q"]), make("Gather", ["scales", "ids"], ["s"])
    if form == "blocks":
        return [codes, scales, make("DequantizeLinear", ["q", "s"], ["y"], axis=-1, block_size=8)]
    if form == "axis":
        return [codes, scales, make("DequantizeLinear", ["q", "s"], ["y"], axis=0)]
    return [make("DequantizeLinear", ["codes", "scales"], ["table"], axis=0), make("Gather", ["table", "ids"], ["y"])]


def runs(ids, form):
    scales = SCALES[:, None] if form == "blocks" else SCALES
    constants = [numpy_helper.from_array(CODES, "codes"), numpy_helper.from_array(scales, "scales")]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        looked_up(form), "g", [value("ids", TensorProto.INT64, [ids])], [value("y", TensorProto.FLOAT, [ids, 8])], constants
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    expected = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"ids": IDS})[0]
    with tempfile.TemporaryDirectory() as name:
        onnx.save(made, Path(name, "model.onnx"))
        try:
            compiled = openvino.Core().compile_model(str(Path(name, "model.onnx")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            if "cannot operate with dynamic shapes of input X" not in str(error):
                raise
            return False
        assert np.allclose(list(compiled({"ids": IDS}).values())[0], expected)
    return True


print("openvino", openvino.__version__.split("-")[0], "onnxruntime", ort.__version__, "onnx", onnx.__version__)
expected = {(2, "blocks"): True, ("N", "blocks"): False, ("N", "axis"): True, ("N", "table"): True}
found = {case: runs(*case) for case in expected}
print("    ".join(f"{ids} ids, {form}: {'runs' if one else 'refused'}" for (ids, form), one in found.items()))
sys.exit("this has changed" if found != expected else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py"
