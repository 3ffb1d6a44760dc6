"""At which opset a model is shipped, and what its file leaves open."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.model.opset import CHANNELS_OPSET, NEWEST, OPSET, RUNTIME_DOMAIN, opset_of
from tests.models import MODELS, build, samples


def shipped(model: onnx.ModelProto, folder, **options) -> onnx.ModelProto:
    onnx.save(model, folder / "float.onnx")
    feeds = samples(model, 16)
    config = config_from(target={"metric": "l2", "limit": 1e9}, **options)
    auto_mixed_precision(
        folder / "float.onnx", calibration=feeds, evaluation=feeds, config=config, output=folder / "out", workers=1
    )
    assert json.loads((folder / "out/manifest.json").read_text())["narrowed"]["layers"]
    return onnx.load(folder / "out/model.onnx")


def test_a_model_of_the_newest_opset_is_brought_to_the_last_whose_pairs_run(tmp_path):
    found = shipped(_chain(28), tmp_path)
    assert opset_of(found) == NEWEST
    ort.InferenceSession(found.SerializeToString(), providers=["CPUExecutionProvider"])


def test_where_that_fails_its_pairs_are_those_of_the_runtime(tmp_path, monkeypatch):
    def failing(model, version):
        raise RuntimeError("no adapter")

    monkeypatch.setattr(onnx.version_converter, "convert_version", failing)
    found = shipped(_chain(28), tmp_path)
    assert opset_of(found) == 28
    pairs = [node for node in found.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {node.domain for node in pairs} == {RUNTIME_DOMAIN}


def test_pairs_of_the_runtime_load_beside_a_bias_that_stays_float(tmp_path):
    model = build(
        "(float[N,8] x) => (float[N,4] y) { y = Gemm<alpha=0.5, beta=2.0>(x, w, b) }", {"w": (8, 4), "b": (4,)}, 12
    )
    found = shipped(model, tmp_path, pairs=RUNTIME_DOMAIN)
    assert opset_of(found) == CHANNELS_OPSET
    ort.InferenceSession(found.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("opset", "options", "right"),
    [
        (11, {"wide": "float32", "narrow": ["au8w8"], "per_channel": False}, 11),
        (11, {"wide": "float32", "narrow": ["au8w8"], "per_channel": True}, 13),
        (17, {"wide": "float32", "narrow": ["a8w8"], "per_channel": True}, 17),
        (17, {"wide": "float32", "narrow": ["a16w8"]}, OPSET),
        (17, {"wide": "float32", "narrow": ["a8w4"]}, OPSET),
        (17, {"wide": "a16w8", "narrow": ["a8w8"]}, OPSET),
    ],
    ids=["8 bits", "8 bits a channel", "new enough", "16 bits", "4 bits", "16 bits wide"],
)
def test_the_opset_is_raised_as_far_as_the_types_need(tmp_path, opset, options, right):
    found = shipped(_chain(opset), tmp_path, **options)
    assert opset_of(found) == right
    assert {node.domain for node in found.graph.node} == {""}
    assert found.ir_version == (_chain(opset).ir_version if right < OPSET else 10)


def test_shapes_inside_leave_the_batch_open(tmp_path):
    found = shipped(_chain(17), tmp_path)
    sizes = [dim for value in found.graph.value_info for dim in value.type.tensor_type.shape.dim]
    assert all(dim.HasField("dim_value") for dim in sizes)
    assert [value.name for value in found.graph.value_info]
    for batch in (1, 5):
        feeds = {"x": np.zeros((batch, 3, 8, 8), np.float32)}
        session = ort.InferenceSession(found.SerializeToString(), providers=["CPUExecutionProvider"])
        assert session.run(None, feeds)[0].shape == (batch, 4)


def test_a_weight_that_nodes_share_runs_with_the_precision_switch(tmp_path):
    model = build(
        """(float[N,3,6,6] x) => (float[N,3,6,6] y) {
            [first] a = Conv(x, w, b)  r = Relu(a)  [second] c = Conv(r, w, b2)  y = Add(c, r)
        }""",
        {"w": (3, 3, 1, 1), "b": (3,), "b2": (3,)},
    )
    found = shipped(model, tmp_path, wide="au8w8", narrow=["au8w4"], runtime="reference")
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    ort.InferenceSession(found.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _chain(opset: int) -> onnx.ModelProto:
    return MODELS["chain"]() if opset == 17 else _at(opset)


def _at(opset: int) -> onnx.ModelProto:
    model = MODELS["chain"]()
    model.opset_import[0].version = opset  # none of its operators changed what it computes
    return model
