"""Graphs that few exporters write: each ships a file whose default session scores what the manifest tells."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.pipeline.check import check_file
from quant_core.pipeline.file_comparison.compare_files import compare_files
from tests.models import build
from tests.quant_core.workbench import saved

X = {"x": np.random.default_rng(0).standard_normal((48, 8)).astype(np.float32)}


def vector_weight():
    return build("(float[N,8] x) => (float[N] y) { h = MatMul(x, v)  y = MatMul(h, w) }", {"v": (8, 6), "w": (6,)})


def weights_on_the_left():
    """Classes are on the axis that a weight on the left puts out, here turned back to the last one."""
    return build(
        """(float[N,8] x) => (float[N,3] y) {
            t = Transpose<perm=[1,0]>(x)  h = MatMul(v, t)  r = Relu(h)  o = MatMul(w, r)  y = Transpose<perm=[1,0]>(o)
        }""",
        {"v": (5, 8), "w": (3, 5)},
    )


def sparse_weight():
    model = build("(float[N,8] x) => (float[N,3] y) { h = MatMul(x, v)  y = MatMul(h, w) }", {"w": (6, 3)})
    for shape, places in (((8, 6), [0, 9, 20]), ((6,), [[2], [5], [3]])):
        values = onnx.numpy_helper.from_array(np.float32([1, 2, 3]), "v" if len(shape) == 2 else "unused")
        indices = onnx.numpy_helper.from_array(np.int64(places), "places")
        model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, shape))
    return model


def old_flatten():
    """Upsample keeps the opset below 10; 8 bits go through a Flatten from 9 on."""
    return build(
        """(float[N,8] x) => (float[N,3] y) {
            a = Reshape(x, image)  c = Conv(a, v, b)  u = Upsample<scales=[1.0,1.0,2.0,2.0]>(c)
            p = MaxPool<kernel_shape=[4,4]>(u)  f = Flatten(p)  y = Gemm(f, w, z)
        }""",
        {"image": np.int64([-1, 2, 2, 2]), "v": (6, 2, 1, 1), "b": (6,), "w": (6, 3), "z": (3,)},
        opset=7,
    )


def sequence_output():
    model = build("(float[N,8] x) => (float[N,4] y) { h = MatMul(x, v)  y = MatMul(h, w) }", {"v": (8, 6), "w": (6, 4)})
    model.graph.node.append(helper.make_node("SplitToSequence", ["y"], ["s"], axis=1))
    model.graph.output.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    return model


def rank_unknown():
    """What an operator of another domain gives has a rank that nothing infers."""
    body = "s = ai.onnx.ml.Scaler<offset=[0.1], scale=[0.9]>(x)  h = MatMul(s, v)  y = MatMul(h, w)"
    return build(
        f"(float[N,8] x) => (float[N,4] y) {{ {body} }}", {"v": (8, 6), "w": (6, 4)}, domains=', "ai.onnx.ml" : 1'
    )


ODD = [rank_unknown, vector_weight, weights_on_the_left, sparse_weight, old_flatten, sequence_output]


def quantized(model, folder, evaluation=None, **target):
    config = config_from(
        target=target or {"metric": "sqnr_db", "limit": 15}, search="linear"
    )  # which probes all layers
    given = {"calibration": X, "evaluation": evaluation or X}
    auto_mixed_precision(saved(model, folder), **given, config=config, output=folder / "out", workers=1)
    return json.loads((folder / "out/manifest.json").read_text())


def outputs(model):
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, X)


@pytest.mark.parametrize("made", ODD, ids=lambda made: made.__name__)
def test_an_odd_graph_ships_what_is_told(made, tmp_path):
    manifest = quantized(made(), tmp_path)
    assert set(manifest["plan"].values()) == {"a8w8"}
    one, other = (outputs(model)[0] for model in (made().SerializeToString(), tmp_path / "out/model.onnx"))
    distance = np.linalg.norm((one - other).reshape(len(one), -1).astype(np.float64), axis=1).mean()
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(distance, rel=1e-5)


def test_a_map_of_probabilities_is_scored_by_the_tensor_it_is_made_of(tmp_path):
    model = build(
        """(float[N,8] x) => (int64[N] label) {
            h = MatMul(x, v)  r = Relu(h)  o = MatMul(r, w)  p = Softmax(o)  label = ArgMax<axis=1, keepdims=0>(p)
        }""",
        {"v": (8, 6), "w": (6, 3)},
        domains=', "ai.onnx.ml" : 1',
    )
    model.graph.node.append(
        helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    )
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    model.graph.output.append(helper.make_value_info("maps", helper.make_sequence_type_proto(kind)))
    evaluation = X | {"labels": outputs(model.SerializeToString())[0]}
    manifest = quantized(model, tmp_path, evaluation, metric="top1_drop", limit=0.1)
    assert manifest["scores"]["float"]["top1"] == 1
    assert 0 < manifest["scores"]["mixed"]["kl"] < 0.1
    assert outputs(tmp_path / "out/model.onnx")[1][0].keys() == {0, 1, 2}
    ours, floats = tmp_path / "out/model.onnx", saved(model, tmp_path)
    assert check_file(ours, "reference", X, floats).deployed["kl"] == pytest.approx(manifest["scores"]["mixed"]["kl"])
    found, _ = compare_files(ours, floats, floats, X)
    assert found.caveats == () and len(found.samples) == 8


def test_float16_data_are_checked(tmp_path):
    model = build("(float16[N,8] x) => (float16[N,4] y) { y = MatMul(x, w) }", {"w": np.eye(8, 4, dtype=np.float16)})
    file = saved(model, tmp_path)
    assert check_file(file, "onnxruntime", {"x": X["x"].astype(np.float16)}, file).deployed["l2"] == 0
