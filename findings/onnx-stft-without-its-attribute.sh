#!/usr/bin/env bash
# onnx infers another shape for an STFT that leaves out `onesided` than for one that has it at its default, 1.
#
# Versions: onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# Behaviour: of a real signal in frames of 16 a one-sided STFT has 9 bins. ONNX Runtime and onnx's own reference give 9
# with `onesided=1` and without the attribute, as the operator's schema says. Shape inference gives 9 with it and 16
# without. So a model whose next MatMul has 9 rows is refused by the full check ("Incompatible dimensions for matrix
# multiplication") and loses its shapes by infer_shapes, although it runs.
# So: write `onesided` even where it is at its default; a tool that strips defaults must leave this one.
# Seen: with onesided=1: inferred 9, ONNX Runtime 9, reference 9, full check passes
#       without it:      inferred 16, ONNX Runtime 9, reference 9, full check refuses
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$folder/seen.py" <<'PY'
import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FRAME, STEP, LENGTH = 16, 8, 64
BINS = FRAME // 2 + 1


def model(attributes: dict, with_product: bool) -> onnx.ModelProto:
    constants = {
        "step": np.int64(STEP),
        "frame": np.int64(FRAME),
        "window": np.hanning(FRAME).astype(np.float32),
        "w": np.ones((BINS, 2), np.float32),
    }
    nodes = [helper.make_node("STFT", ["x", "step", "window", "frame"], ["bins"], **attributes)]
    shape = [1, (LENGTH - FRAME) // STEP + 1, BINS, 2]
    if with_product:
        nodes += [
            helper.make_node("Transpose", ["bins"], ["turned"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["turned", "w"], ["y"]),
        ]
        shape[2:] = [2, 2]
    else:
        nodes.append(helper.make_node("Identity", ["bins"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, LENGTH, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape if with_product else None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def bins_found(attributes: dict) -> tuple[int, int, int]:
    made, feeds = model(attributes, False), {"x": np.ones((1, LENGTH, 1), np.float32)}
    inferred = onnx.shape_inference.infer_shapes(made).graph.output[0].type.tensor_type.shape.dim[2].dim_value
    ran = onnxruntime.InferenceSession(made.SerializeToString()).run(None, feeds)[0].shape[2]
    return inferred, ran, onnx.reference.ReferenceEvaluator(made).run(None, feeds)[0].shape[2]


def checked(attributes: dict) -> str:
    made = model(attributes, True)
    onnxruntime.InferenceSession(made.SerializeToString()).run(None, {"x": np.ones((1, LENGTH, 1), np.float32)})
    try:
        onnx.checker.check_model(made, full_check=True)
    except onnx.shape_inference.InferenceError:
        return "refuses"
    return "passes"


default = onnx.defs.get_schema("STFT", 17).attributes["onesided"].default_value.i
seen = {}
for attributes in ({"onesided": 1}, {}):
    seen[bool(attributes)] = (*bins_found(attributes), checked(attributes))
    print(attributes, "inferred {}, ONNX Runtime {}, reference {}, full check {}".format(*seen[bool(attributes)]))
print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
assert default == 1 and seen == {True: (9, 9, 9, "passes"), False: (16, 9, 9, "refuses")}, "it has changed"
PY
"$folder/venv/bin/python" "$folder/seen.py"
