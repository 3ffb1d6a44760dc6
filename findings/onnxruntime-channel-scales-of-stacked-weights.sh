#!/usr/bin/env bash
# ONNX Runtime's default options cannot run a MatMul whose 8-bit weight has three dimensions and one scale a channel.
#
# Versions: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6; CPU.
# Behaviour: a weight of shape [1, K, N] behind a DequantizeLinear with axis=2, beside uint8 activations, is valid for
# the checker (full_check) and gives the right numbers with optimisations off and at level BASIC. With the defaults it is
# fused to MatMulIntegerToFloat, which refuses the scales at run time, not when the session is made. The same weight as
# [K, N] with a scale a channel, or as [1, K, N] with a single scale, runs at every level.
# So: exported batched products (a projection kept as [1, K, N]) must have one scale a tensor, or be reshaped to [K, N].
# Seen:
#   [K, N]    one scale       off: same  basic: same  default: same
#   [K, N]    scale a channel off: same  basic: same  default: same
#   [1, K, N] one scale       off: same  basic: same  default: same
#   [1, K, N] scale a channel off: same  basic: same  default: fails in MatMulIntegerToFloat
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
K, N = 16, 8
WEIGHT = random.integers(-60, 60, (K, N)).astype(np.int8)
X = random.standard_normal((3, 4, K)).astype(np.float32)


def model(stacked: bool, channels: bool) -> onnx.ModelProto:
    weight = WEIGHT[None] if stacked else WEIGHT
    scale = np.linspace(0.005, 0.02, N, dtype=np.float32) if channels else np.float32(0.01)
    constants = {
        "s": np.float32(0.02), "z": np.uint8(128), "w": weight, "ws": scale, "wz": np.zeros(np.shape(scale), np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["v"], axis=weight.ndim - 1),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4, K])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 4, N])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(made: onnx.ModelProto, level: str) -> np.ndarray | str:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    try:
        return session.run(None, {"x": X})[0]
    except Exception as error:
        assert "MatMulIntegerToFloat" in str(error), error
        return "fails in MatMulIntegerToFloat"


for stacked in (False, True):
    for channels in (False, True):
        made, words = model(stacked, channels), {}
        right = run(made, "ORT_DISABLE_ALL")
        for name, level in {"off": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "default": "ORT_ENABLE_ALL"}.items():
            found = run(made, level)
            words[name] = found if isinstance(found, str) else "same" if np.allclose(found, right, atol=1e-4) else "other"
        shape = "[1, K, N]" if stacked else "[K, N]   "
        scales = "scale a channel" if channels else "one scale      "
        print(f"{shape} {scales} " + "  ".join(f"{name}: {word}" for name, word in words.items()))
PY
seen=$("$folder/venv/bin/python" "$folder/seen.py")
echo "$seen"
expected=$(grep -E '^#   \[' "$0" | sed 's/^#   //' | tr -s ' ')
[ "$(tr -s ' ' <<< "$seen")" = "$expected" ] || { echo "this has changed; expected:"; echo "$expected"; exit 1; }
