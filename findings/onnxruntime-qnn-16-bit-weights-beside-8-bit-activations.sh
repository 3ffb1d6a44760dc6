#!/usr/bin/env bash
# ONNX Runtime's QNN provider takes a Conv of 16-bit weights beside 16-bit activations, and opens no session at all for the
# same weights beside 8-bit activations: the node is not left to the CPU.
#
# Versions: onnxruntime 1.32.0, onnxruntime-qnn 2.7.0 (its x86-64 wheel runs the vendor's HTP library), onnx 1.23.2.
# Behaviour: Conv between Q/DQ pairs, one scale a tensor, soc_model 60. The file is valid for the checker (full_check), and
# the CPU provider runs all four combinations. Nodes that QNN does not support are usually left to the CPU provider; here
# opening the session fails instead, so the whole model cannot be used with the provider.
# So: a mix that keeps weights at 16 bits has to keep the activations of those layers at 16 bits, too.
# Seen:
#    8-bit activations,  8-bit weights: CPU runs, QNN runs
#    8-bit activations, 16-bit weights: CPU runs, QNN opens no session (Fail)
#   16-bit activations,  8-bit weights: CPU runs, QNN runs
#   16-bit activations, 16-bit weights: CPU runs, QNN runs
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnxruntime-qnn==2.7.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_qnn
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
CODES = {"8": (np.uint8, 128, np.int8, 0.02), "16": (np.uint16, 32768, np.int16, 0.0001)}


def model(reads: str, weights: str) -> onnx.ModelProto:
    kind, zero, _, scale = CODES[reads]
    _, _, weight_kind, weight_scale = CODES[weights]
    weight = np.rint(random.standard_normal((4, 3, 3, 3)) * 0.3 / weight_scale).astype(weight_kind)
    constants = {
        "s": np.float32(scale), "z": kind(zero), "w": weight,
        "ws": np.float32(weight_scale), "wz": weight_kind(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"], name="conv"),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def outcome(made: onnx.ModelProto, options: ort.SessionOptions) -> str:
    options.log_severity_level = 4
    x = np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    try:
        session = ort.InferenceSession(made.SerializeToString(), options)
    except Exception as error:
        return f"opens no session ({type(error).__name__})"
    session.run(None, {"x": x})
    return "runs"


ort.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
devices = [one for one in ort.get_ep_devices() if "QNN" in one.ep_name]
for reads in CODES:
    for weights in CODES:
        made, options = model(reads, weights), ort.SessionOptions()
        options.add_provider_for_devices(
            devices[:1], {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "soc_model": "60"}
        )
        on_qnn, on_cpu = outcome(made, options), outcome(made, ort.SessionOptions())
        print(f"{reads:>2}-bit activations, {weights:>2}-bit weights: CPU {on_cpu}, QNN {on_qnn}")
PY
"$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null | grep activations | tee "$folder/seen"
cat > "$folder/expected" <<'SEEN'
 8-bit activations,  8-bit weights: CPU runs, QNN runs
 8-bit activations, 16-bit weights: CPU runs, QNN opens no session (Fail)
16-bit activations,  8-bit weights: CPU runs, QNN runs
16-bit activations, 16-bit weights: CPU runs, QNN runs
SEEN
diff "$folder/expected" "$folder/seen" && echo "as seen before"
