from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.opset import OPSET, opset_of
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import is_prepared, prepared_graph
from quant_core.storage.references import refer
from quant_core.storage.tables import facts
from tests.models import MODELS, build
from tests.quant_core.workbench import saved

STAY = ("upsample-9", "resize-10", "group-norm-18")
"""Models that onnx's converter would change without a word."""


def prepared(model: onnx.ModelProto, tmp_path, layer_ops=DEFAULT_LAYER_OPS):
    return prepare(refer(saved(model, tmp_path)), layer_ops, Machine(tmp_path / "cache"))


def refused(model: onnx.ModelProto, tmp_path, kind=InputError) -> str:
    with pytest.raises(kind) as caught:
        prepared(model, tmp_path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_the_prepared_model_computes_what_the_model_does(workbench, name):
    made = workbench(name)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    outputs = [
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
            None, made.feeds
        )
        for model in (MODELS[name](), made.graph.model)
    ]
    for before, after in zip(*outputs, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_has_a_type_and_every_node_a_name_of_its_own(workbench, name):
    graph = workbench(name).graph
    names = [node.name for node in graph.nodes]
    assert "" not in names
    assert len(set(names)) == len(names)
    unknown = [name for node in graph.nodes for name in node.output if name and name not in graph.values]
    assert unknown == (["s"] if name == "sequence" and "s" not in graph.values else [])


@pytest.mark.parametrize("name", MODELS)
def test_opset_is_raised_where_that_is_faithful(workbench, name):
    model = workbench(name).graph.model
    if name in STAY:
        assert opset_of(model) == opset_of(MODELS[name]())
        assert "com.microsoft" in {entry.domain for entry in model.opset_import}
    else:
        assert opset_of(model) >= OPSET
    assert model.ir_version >= 10


def test_a_model_the_converter_fails_on_stays_at_its_opset(tmp_path, monkeypatch):
    def failing(model, version):
        raise RuntimeError("no adapter")

    monkeypatch.setattr(onnx.version_converter, "convert_version", failing)
    table = prepared(MODELS["chain"](), tmp_path)
    model = prepared_graph(table, tmp_path / "cache").model
    assert opset_of(model) == 17


def test_a_conversion_that_does_not_run_is_dropped(tmp_path, monkeypatch):
    broken = build("(float[N,3,8,8] x) => (float[N,4] y) { y = com.nobody.Nothing(x) }", domains=', "com.nobody" : 1')
    monkeypatch.setattr(onnx.version_converter, "convert_version", lambda model, version: broken)
    table = prepared(MODELS["chain"](), tmp_path)
    assert table.column("layer").to_pylist() == ["c1", "c2", "c3", "fc"]


def test_a_batch_norm_is_folded_into_the_layer_before_it(tmp_path):
    model = build(
        """(float[N,3,4,4] x) => (float[N,4,4,4] y) {
            [c] a = Conv(x, w)  b = BatchNormalization(a, scale, shift, mean, var)  y = Relu(b)
        }""",
        {"w": (4, 3, 1, 1), "scale": (4,), "shift": (4,), "mean": (4,), "var": np.ones(4, np.float32)},
    )
    table = prepared(model, tmp_path)
    graph = prepared_graph(table, tmp_path / "cache")
    assert [node.op_type for node in graph.nodes] == ["Conv", "Relu"]


def test_nodes_without_a_name_get_one_of_their_own(tmp_path):
    model = build(
        "(float[N,4] x) => (float[N,4] y) { [MatMul_1] a = MatMul(x, w1) b = MatMul(a, w2) y = MatMul(b, w3) }",
        {"w1": (4, 4), "w2": (4, 4), "w3": (4, 4)},
    )
    names = prepared(model, tmp_path).column("layer").to_pylist()
    assert names[0] == "MatMul_1"
    assert len(set(names)) == 3
    assert "" not in names


def test_external_data_is_read(tmp_path):
    model = MODELS["chain"]()
    onnx.save(model, tmp_path / "float.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    table = prepare(refer(tmp_path / "float.onnx"), DEFAULT_LAYER_OPS, Machine(tmp_path / "cache"))
    assert table.num_rows == 4


def test_missing_external_data_is_said(tmp_path):
    onnx.save(
        MODELS["chain"](), tmp_path / "float.onnx", save_as_external_data=True, location="gone.bin", size_threshold=0
    )
    (tmp_path / "gone.bin").unlink()
    with pytest.raises(InputError, match=r"gone\.bin"):
        prepare(refer(tmp_path / "float.onnx"), DEFAULT_LAYER_OPS, Machine(tmp_path / "cache"))


def test_preparing_twice_gives_the_same_bytes(tmp_path):
    digests = [
        facts(prepare(refer(saved(MODELS["transformer"](), tmp_path)), DEFAULT_LAYER_OPS, Machine(tmp_path / name)))
        for name in ("first", "second")
    ]
    assert digests[0] == digests[1]


def test_a_changed_prepared_file_is_noticed(tmp_path):
    table = prepared(MODELS["chain"](), tmp_path)
    assert is_prepared(table, tmp_path / "cache")
    path = tmp_path / "cache" / "prepared" / facts(table)["prepared"] / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert not is_prepared(table, tmp_path / "cache")
    path.unlink()
    assert not is_prepared(table, tmp_path / "cache")


def in_type(kind: int) -> onnx.ModelProto:
    """The chain with all of its floats in another type."""
    model = MODELS["chain"]()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = kind
    return model


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16"])
def test_a_model_in_a_narrower_float_type_is_prepared_in_float32(tmp_path, kind):
    table = prepared(in_type(onnx.TensorProto.DataType.Value(kind)), tmp_path)
    graph = prepared_graph(table, tmp_path / "cache")
    assert table.column("layer").to_pylist() == ["c1", "c2", "c3", "fc"]
    assert {graph.element_type(name) for name in [*graph.inputs, *graph.outputs]} == {onnx.TensorProto.FLOAT}


def test_a_model_in_float64_is_refused_with_the_reason(tmp_path):
    assert "double; give the model in float32" in refused(in_type(onnx.TensorProto.DOUBLE), tmp_path)


def test_a_model_without_layers_is_refused(tmp_path):
    model = build("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    assert "has no layer to narrow: no Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU, RNN on float data" in refused(
        model, tmp_path
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(tmp_path, value):
    weight = np.eye(4, dtype=np.float32)
    weight[1, 2] = value
    model = build("(float[N,4] x) => (float[N,4] y) { [fc] y = MatMul(x, w) }", {"w": weight})
    assert "weight 'w' of layer 'fc' holds a NaN or an infinity" in refused(model, tmp_path)


def test_a_quantized_model_is_refused(tmp_path, workbench):
    made = workbench("chain")
    assert "already quantized (" in refused(made.exported(made.wide), tmp_path)


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "float.onnx"
    for content in (b"", b"hello world", b"\x08\x07"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not an ONNX model"):
            prepare(refer(path), DEFAULT_LAYER_OPS, Machine(tmp_path / "cache"))


def test_a_model_onnx_runtime_cannot_run_is_refused(tmp_path):
    model = build("(float[N,4] x) => (float[N,4] y) { y = com.nobody.Nothing(x) }", domains=', "com.nobody" : 1')
    assert "ONNX Runtime cannot run it" in refused(model, tmp_path)


def test_a_weight_file_that_is_too_short_is_said(tmp_path):
    model = build("(float[N,40] x) => (float[N,40] y) { [m] y = MatMul(x, w) }", {"w": (40, 40)})
    onnx.save(model, tmp_path / "float.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    whole = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"weights cannot be read: weights\.bin ends before those of w"):
        prepare(refer(tmp_path / "float.onnx"), DEFAULT_LAYER_OPS, Machine(tmp_path / "cache"))


def test_a_constant_listed_as_an_input_is_a_constant(tmp_path):
    body = """(float[N,3,4,4] x) => (float[N,4,4,4] y) {
        [c] a = Conv(x, w)  b = BatchNormalization(a, scale, shift, mean, var)  y = Relu(b)
    }"""
    weights = {"w": (4, 3, 1, 1), "scale": (4,), "shift": (4,), "mean": (4,), "var": np.ones(4, np.float32)}
    for version in (3, 10):
        model = build(body, weights, ir_version=version, initializers_are_inputs=True)
        graph = prepared_graph(prepared(model, tmp_path), tmp_path / "cache")
        assert [node.op_type for node in graph.nodes] == ["Conv", "Relu"]
        assert [value.name for value in graph.model.graph.input] == ["x"]


def test_without_optimization_batch_norms_stay(tmp_path):
    model = build(
        """(float[N,3,4,4] x) => (float[N,4,4,4] y) {
            [c] a = Conv(x, w)  [bn] b = BatchNormalization(a, s, t, m, v)  [r] y = Relu(b)
        }""",
        {"w": (4, 3, 1, 1), "s": (4,), "t": (4,), "m": (4,), "v": np.ones(4, np.float32)},
    )
    kinds = []
    for optimize in (True, False):
        table = prepare(refer(saved(model, tmp_path)), DEFAULT_LAYER_OPS, Machine(tmp_path / "c"), optimize=optimize)
        kinds.append([node.op_type for node in prepared_graph(table, tmp_path / "c").nodes])
    assert kinds == [["Conv", "Relu"], ["Conv", "BatchNormalization", "Relu"]]
