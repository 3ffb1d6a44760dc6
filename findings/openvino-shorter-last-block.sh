#!/usr/bin/env bash
# OpenVINO does not read weights in blocks where the block does not divide the inputs, though the standard rounds up.
#
# Versions: openvino 2026.4.1, onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU.
# Behaviour: DequantizeLinear with block_size B has ceil(K / B) scales for K values, so that the last block may be shorter.
# The checker (full_check) and ONNX Runtime take that, for every operator. OpenVINO's frontend takes blocks that divide K, and
# ends at others with "Conversion is failed for: DequantizeLinear-21", which says nothing of blocks. A block longer than K,
# which is one scale a channel, is refused as well.
# So: for OpenVINO give such a layer a scale a channel, or a block that divides its inputs.
# Seen (MatMul, 4-bit weights):
#   64 inputs, block 16: runs    40 inputs, block 16: refused    40 inputs, block 8: runs    10 inputs, block 16: refused
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

rng = np.random.default_rng(0)


def product(inputs, block):
    scales = [-(-inputs // block), 8]
    constants = [
        helper.make_tensor("w", TensorProto.INT4, [inputs, 8], rng.integers(-7, 8, inputs * 8).tolist()),
        helper.make_tensor("s", TensorProto.FLOAT, scales, rng.uniform(0.1, 0.2, scales).ravel().tolist()),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=block),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [3, inputs])], [value("y", TensorProto.FLOAT, [3, 8])], constants
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def runs(inputs, block):
    made, x = product(inputs, block), rng.standard_normal((3, inputs)).astype(np.float32)
    expected = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    with tempfile.TemporaryDirectory() as name:
        onnx.save(made, Path(name, "model.onnx"))
        try:
            compiled = openvino.Core().compile_model(str(Path(name, "model.onnx")), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            if "Conversion is failed for: DequantizeLinear" not in str(error):
                raise
            return False
        assert np.allclose(list(compiled({"x": x}).values())[0], expected, atol=0.05 * np.abs(expected).max())
    return True


print("openvino", openvino.__version__.split("-")[0], "onnxruntime", ort.__version__, "onnx", onnx.__version__)
expected = {(64, 16): True, (40, 16): False, (40, 8): True, (10, 16): False}
found = {case: runs(*case) for case in expected}
print("    ".join(f"{inputs} inputs, block {block}: {'runs' if one else 'refused'}" for (inputs, block), one in found.items()))
sys.exit("this has changed" if found != expected else 0)
PY
"$folder/venv/bin/python" "$folder/seen.py"
