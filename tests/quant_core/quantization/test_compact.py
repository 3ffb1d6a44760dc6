"""What short names and attributes that are left out must not change."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort

from quant_core.quantization.compact import compacted
from tests.models import build


def test_short_names_are_none_of_those_in_bodies():
    body = onnx.parser.parse_graph(
        "body (int64 a, bool b, float[N,4] c) => (bool d, float[N,4] e) { d = Identity(b)  f = Tanh(c)  e = Add(f, g) }"
    )
    bias = np.ones(4, np.float32)
    body.initializer.append(onnx.numpy_helper.from_array(bias, "g"))
    model = build(
        "(float[N,4] x) => (float[N,4] y) { start = MatMul(x, w)  more = Relu(start)  y = Add(looped, more) }",
        {"w": (4, 4), "count": np.int64(2), "go": np.bool_(True)},
    )
    loop = onnx.helper.make_node("Loop", ["count", "go", "start"], ["looped"], body=body)
    model.graph.node.insert(1, loop)
    _check(model, {"x": np.ones((2, 4), np.float32)})


def test_an_attribute_without_which_onnx_infers_another_shape_stays():
    model = build(
        "(float[1,64,1] x) => (float[1,7,9,2] y) { y = STFT<onesided=1>(x, step, window, length) }",
        {"step": np.int64(8), "length": np.int64(16), "window": np.hanning(16).astype(np.float32)},
    )
    _check(model, {"x": np.ones((1, 64, 1), np.float32)})


def _check(model: onnx.ModelProto, feeds) -> None:
    short = compacted(model, [])
    onnx.checker.check_model(short, full_check=True)
    found = [ort.InferenceSession(one.SerializeToString()).run(None, feeds)[0] for one in (model, short)]
    np.testing.assert_array_equal(*found)
