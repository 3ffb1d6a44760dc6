#!/usr/bin/env bash
# ONNX Runtime's QNN provider opens no session where two Conv read one weight and write to pairs of 8 and of 16 bits.
#
# Versions: onnxruntime 1.32.0, onnxruntime-qnn 2.7.0 (its x86-64 wheel runs the vendor's HTP library), onnx 1.23.2.
# Behaviour: two Conv between pairs share a weight in codes, as one head run on several feature maps does; both read 8 bits,
# and what one writes has 16, as mixed precision will have it. The session is refused: a Conv "was inserted using the NHWC
# format as requested by QNN, but was not selected by that EP". A DequantizeLinear for each Conv does not help as long as both
# read the same constants; a copy of codes, scale and zero point for each does. Where both write to 8 bits sharing is no
# problem, nor is a shared float weight, and the CPU provider runs all of them.
# So: in a mix for QNN, store a weight once for each Conv that reads it.
# Seen:
#   codes, one DequantizeLinear, both 8     CPU runs, QNN runs
#   float weight, shared                    CPU runs, QNN runs
#   codes, one DequantizeLinear             CPU runs, QNN opens no session (Fail)
#   codes, a DequantizeLinear for each      CPU runs, QNN opens no session (Fail)
#   codes, a copy for each                  CPU runs, QNN runs
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
FORMS = {
    "codes, one DequantizeLinear, both 8": ("d", "d"),
    "float weight, shared": ("w", "w"),
    "codes, one DequantizeLinear": ("d", "d"),
    "codes, a DequantizeLinear for each": ("d", "e"),
    "codes, a copy for each": ("d", "f"),
}


def model(weights, both_in_8_bits):
    codes = random.integers(-60, 60, (4, 3, 1, 1)).astype(np.int8)
    own = {"c": codes, "ws": np.float32(0.01), "wz": np.int8(0)}
    constants = {"s": np.float32(0.05), "z": np.uint8(128), "w": codes * np.float32(0.01)}
    constants |= {"o0": np.uint8(128), "o1": np.uint8(128) if both_in_8_bits else np.uint16(32768)}
    constants |= own | {f"{name}2": value for name, value in own.items()}
    make, nodes = helper.make_node, []
    for result, read in {"d": ["c", "ws", "wz"], "e": ["c", "ws", "wz"], "f": ["c2", "ws2", "wz2"]}.items():
        if result in weights:
            nodes.append(make("DequantizeLinear", read, [result]))
    for number, weight in enumerate(weights):
        x, q, d, c, p, y = (f"{name}{number}" for name in "xqDCpy")
        nodes += [
            *([] if weight == "w" else [make("QuantizeLinear", [x, "s", "z"], [q]), make("DequantizeLinear", [q, "s", "z"], [d])]),
            make("Conv", [x if weight == "w" else d, weight], [y if weight == "w" else c], name=f"conv{number}"),
            *([] if weight == "w" else [make("QuantizeLinear", [c, "s", f"o{number}"], [p]), make("DequantizeLinear", [p, "s", f"o{number}"], [y])]),
        ]
    read = {name for node in nodes for name in node.input}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g",
        [value(f"x{number}", TensorProto.FLOAT, [1, 3, 8, 8]) for number in range(2)],
        [value(f"y{number}", TensorProto.FLOAT, [1, 4, 8, 8]) for number in range(2)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items() if name in read],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def outcome(made, options):
    options.log_severity_level = 4
    x = np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    try:
        session = ort.InferenceSession(made.SerializeToString(), options)
    except Exception as error:
        if "was not selected by that EP" not in str(error):
            raise
        return f"opens no session ({type(error).__name__})"
    session.run(None, {"x0": x, "x1": x})
    return "runs"


ort.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
devices = [one for one in ort.get_ep_devices() if "QNN" in one.ep_name]
for form, weights in FORMS.items():
    made, options = model(weights, "both 8" in form), ort.SessionOptions()
    options.add_provider_for_devices(
        devices[:1], {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "soc_model": "60"}
    )
    print(f"{form:<39} CPU {outcome(made, ort.SessionOptions())}, QNN {outcome(made, options)}")
PY
"$folder/venv/bin/python" "$folder/seen.py" 2> /dev/null | grep "CPU" | tee "$folder/seen"
cat > "$folder/expected" <<'SEEN'
codes, one DequantizeLinear, both 8     CPU runs, QNN runs
float weight, shared                    CPU runs, QNN runs
codes, one DequantizeLinear             CPU runs, QNN opens no session (Fail)
codes, a DequantizeLinear for each      CPU runs, QNN opens no session (Fail)
codes, a copy for each                  CPU runs, QNN runs
SEEN
diff "$folder/expected" "$folder/seen" && echo "as seen before"
