#!/usr/bin/env bash
# ONNX Runtime names a fused node in four ways: by its own name, with a word in front, with words behind, or by a tensor.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU, x86-64.
# Behaviour: in the optimised graph and in profiles, a Gemm that took in an activation has "fused " in front of its name. A
# MatMul that took in a scale has "/MatMulScaleFusion/" behind it, one that took in a transposition
# "/MatmulTransposeFusion/" (a small m), and one that took in both has both. A float Conv in blocks of channels has not its
# name at all, but "_nchwc" behind the name of the tensor that it writes in the end, which is the one behind the Relu that
# it took in: of such a Conv neither the name nor the output is left. So whoever adds up times by the names of a model's
# nodes misses most of a float network.
# Seen: MatMul "the MatMul/MatMulScaleFusion/"; transposed "the MatMul/MatmulTransposeFusion/"; both
# "the MatMul/MatmulTransposeFusion//MatMulScaleFusion/"; Gemm and Relu "fused the Gemm"; Conv, with a Relu or
# without: "y_nchwc", where y is the output behind the Relu; the same names in the profile
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

FOLDER = Path(sys.argv[1])
PRODUCTS = {
    "scale": ("float[2,4,4]", "a = MatMul(x, x) y = Mul(a, half)"),
    "transposed": ("float[2,4,4]", "t = Transpose<perm=[0, 2, 1]>(x) y = MatMul(x, t)"),
    "both": ("float[2,4,4]", "t = Transpose<perm=[0, 2, 1]>(x) a = MatMul(x, t) y = Mul(a, half)"),
    "gemm": ("float[4,4]", "a = Gemm(x, x) y = Relu(a)"),
    "conv": ("float[1,16,8,8]", "y = Conv<pads=[1, 1, 1, 1]>(x, w)"),
    "conv, relu": ("float[1,16,8,8]", "a = Conv<pads=[1, 1, 1, 1]>(x, w) y = Relu(a)"),
}
EXPECTED = {
    "scale": "the MatMul/MatMulScaleFusion/",
    "transposed": "the MatMul/MatmulTransposeFusion/",
    "both": "the MatMul/MatmulTransposeFusion//MatMulScaleFusion/",
    "gemm": "fused the Gemm",
    "conv": "y_nchwc",
    "conv, relu": "y_nchwc",
}


def names(kind, body):
    text = f'<ir_version: 8, opset_import: ["": 17]> g ({kind} x) => ({kind} y) <float half = {{0.5}}> {{ {body} }}'
    model = onnx.parser.parse_model(text)
    if "Conv" in body:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((16, 16, 3, 3), np.float32), "w"))
    for node in model.graph.node:
        node.name = f"the {node.op_type}"
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(FOLDER / "optimised.onnx")
    options.enable_profiling, options.profile_file_prefix, options.log_severity_level = True, str(FOLDER / "profile"), 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.ones(session.get_inputs()[0].shape, np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    timed = {event["name"].removesuffix("_kernel_time") for event in events if event.get("cat") == "Node"}
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    (product,) = [node.name for node in nodes if any(part in node.op_type for part in ("MatMul", "Gemm", "Conv"))]
    assert product in timed, (product, timed)
    return product


found = {case: names(*made) for case, made in PRODUCTS.items()}
for case, name in found.items():
    print(f"{case}: {name!r}")
sys.exit(found != EXPECTED)
PY
"$folder/venv/bin/python" "$folder/seen.py" "$folder"
