"""Channels become alike in range, and what the model computes stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core import LayerWiseConfig, layer_wise
from quant_core.execution.machine import Machine
from quant_core.model.graph import FloatGraph
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.storage.references import refer
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved

_SKEW = np.array([8, 1, 0.25, 0.02], np.float32)


def skewed(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight whose output channels (its first axis) differ much in range."""
    values = np.random.default_rng(len(name) + shape[0]).standard_normal(shape).astype(np.float32)
    return values * _SKEW.reshape(-1, *[1] * (len(shape) - 1))


def depthwise(between: str = "Clip(a, low, high)", opset: int = 17) -> onnx.ModelProto:
    """A pointwise convolution, a depthwise one and a pointwise one, as in MobileNet."""
    return build(
        f"""(float[N,3,6,6] x) => (float[N,2,6,6] y) {{
            [first] a = Conv(x, w1, b1)                             r = {between}
            [depth] d = Conv<group=4, pads=[1,1,1,1]>(r, w2, b2)    s = Relu(d)
            [last] y = Conv(s, w3)
        }}""",
        {
            **{"w1": skewed("w1", (4, 3, 1, 1)), "b1": skewed("b1", (4,)), "w2": skewed("w2", (4, 1, 3, 3))[::-1]},
            **{"b2": (4,), "w3": (2, 4, 1, 1), "low": np.float32(0), "high": np.float32(1.5)},
            **{"slope": np.full((4, 1, 1), 0.25, np.float32), "down": np.full((4, 1, 1), -0.25, np.float32)},
        },
        opset,
    )


def flattened(middle: str = "f = Flatten(g)", axes: tuple[int, ...] = ()) -> onnx.ModelProto:
    """Channels that become several inputs each of a Gemm."""
    return build(
        f"""(float[N,3,4,4] x) => (float[N,2] y) {{
            [first] a = Conv(x, w1, b1)  r = Relu(a)  g = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
            {middle}  [fc] y = Gemm(f, w2)
        }}""",
        {
            **{"w1": skewed("w1", (4, 3, 1, 1)), "b1": (4,), "w2": (4 if axes else 16, 2)},
            **{"low": np.float32(0), "high": np.float32(1), "axes": np.array(axes, np.int64)},
        },
        18,
    )


def transposed() -> onnx.ModelProto:
    return build(
        """(float[N,4,5,5] x) => (float[N,2,5,5] y) {
            [first] a = ConvTranspose<group=2>(x, w1, b1)  r = LeakyRelu(a)  [last] y = ConvTranspose<group=2>(r, w2)
        }""",
        {"w1": skewed("w1", (4, 2, 1, 1)), "b1": (4,), "w2": (4, 1, 1, 1)},
    )


def equalized_graph(model: onnx.ModelProto, folder, equalize: bool = True) -> FloatGraph:
    table = prepare(refer(saved(model, folder)), DEFAULT_LAYER_OPS, Machine(folder / "cache"), equalize)
    return prepared_graph(table, folder / "cache")


def outputs(graph: FloatGraph, feeds) -> list[np.ndarray]:
    file = next(path for path in graph.folder.glob("*.onnx"))
    return ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, feeds)


def weights(graph: FloatGraph) -> dict[str, np.ndarray]:
    return {
        node.name: np.asarray(graph.constant(node.input[1]))
        for node in graph.nodes
        if node.op_type in DEFAULT_LAYER_OPS and node.input[1] in graph.initializers
    }


CHANGED = {
    "clip": depthwise(),
    "relu": depthwise("Relu(a)"),
    "prelu": depthwise("PRelu(a, slope)"),
    "flatten": flattened(),
    "flatten, then clip": flattened("v = Flatten(g)  f = Clip(v, low, high)"),
    "mean over pixels": flattened("f = ReduceMean<keepdims=0>(g, axes)", (2, 3)),
    "transposed in groups": transposed(),
}


@pytest.mark.parametrize("name", CHANGED)
def test_outputs_stay_while_weights_change(tmp_path, name):
    model = CHANGED[name]
    (tmp_path / "plain").mkdir()
    before, after = equalized_graph(model, tmp_path / "plain", False), equalized_graph(model, tmp_path)
    feeds = samples(model, 8)
    for expected, got in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    changed = weights(after)
    assert all(not np.allclose(changed[layer], values, rtol=0.01) for layer, values in weights(before).items())


@pytest.mark.parametrize("name", MODELS)
def test_outputs_stay_on_every_shape_of_graph(tmp_path, name):
    model = MODELS[name]()
    (tmp_path / "plain").mkdir()
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    feeds = samples(model, fixed or 3)
    expected = outputs(equalized_graph(model, tmp_path / "plain", False), feeds)
    for first, second in zip(expected, outputs(equalized_graph(model, tmp_path), feeds), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [depthwise("PRelu(a, down)"), depthwise("Sigmoid(a)")],
    ids=["a slope below 0", "sigmoid"],
)
def test_what_a_factor_does_not_pass_is_left_alone(tmp_path, model):
    (tmp_path / "plain").mkdir()
    before = weights(equalized_graph(model, tmp_path / "plain", False))
    np.testing.assert_array_equal(weights(equalized_graph(model, tmp_path))["first"], before["first"])


def test_names_that_an_equalized_clip_would_take_may_be_taken(tmp_path):
    model = build(
        """(float[N,3,6,6] x) => (float[N,2,6,6] y, float[N,4,6,6] z) {
            [first] a = Conv(x, w1, b1)  [c] r = Clip(a, low, high)  [last] y = Conv(r, w3)
            [other] t = Conv(x, w4)      [d] s = Sigmoid(t)          [e] z = Mul(s, bound)
        }""",
        {
            **{"w1": skewed("w1", (4, 3, 1, 1)), "b1": (4,), "w3": (2, 4, 1, 1), "w4": (4, 3, 1, 1)},
            **{"low": np.float32(0), "high": np.float32(1.5), "bound": np.float32(3)},
        },
    )
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [{"t": "r/relu", "bound": "r/bound"}.get(name, name) for name in names]
        node.name = {"other": "c/relu"}.get(node.name, node.name)
    model.graph.initializer[-1].name = "r/bound"
    (tmp_path / "plain").mkdir()
    before, after = equalized_graph(model, tmp_path / "plain", False), equalized_graph(model, tmp_path)
    assert [node.op_type for node in after.nodes].count("Min") == 1
    assert len({node.name for node in after.nodes}) == len(after.nodes)
    feeds = samples(model, 3)
    for expected, got in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_channels_are_alike_on_both_sides(tmp_path):
    found = weights(equalized_graph(depthwise(), tmp_path))
    ranges = [np.abs(found["first"]).max(axis=(1, 2, 3)), np.abs(found["depth"]).max(axis=(1, 2, 3))]
    np.testing.assert_allclose(ranges[0], ranges[1], rtol=0.01)
    np.testing.assert_allclose(ranges[1], np.abs(found["last"]).max(axis=(0, 2, 3)), rtol=0.01)


def test_an_equalized_clip_costs_no_pair(tmp_path):
    model = depthwise()
    made = [
        layer_wise(
            saved(model, tmp_path),
            tensors={"a8w8": ["*"]},
            calibration=samples(model, 16),
            config=LayerWiseConfig(equalize=equalize),
            output=tmp_path / str(equalize),
        )
        for equalize in (False, True)
    ]
    kinds = [[node.op_type for node in onnx.load(outcome.model).graph.node] for outcome in made]
    assert kinds[0].count("QuantizeLinear") == kinds[1].count("QuantizeLinear")
    assert (kinds[1].count("Min"), kinds[1].count("Clip")) == (1, 0)
    plain, equal = (outcome.manifest.scores.mixed["l2"] for outcome in made)
    assert equal < plain / 2
